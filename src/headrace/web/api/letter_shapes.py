"""What the API takes and answers about dead letters, as types."""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeAlias, TypedDict

import msgspec
from msgspec import Meta

from headrace.web.shapes import ErrorView, JobId, JobView, QueueName, has, in_one_line, whole

MOST_MOVED: Final = 1_000  # letters that one request puts back or deletes: ask again for more

Text: TypeAlias = Annotated[str, Meta(max_length=200)]


class Selected(msgspec.Struct, forbid_unknown_fields=True):
    """Which letters are meant: by their ids, or by what they have in common; all of it has to fit."""

    queue: QueueName
    ids: Annotated[list[JobId], Meta(max_length=MOST_MOVED)] | None = None
    reason: Text | None = None
    task: Text | None = None
    kind: Annotated[Text, Meta(description="As `kind` of a letter, or of a group.")] | None = None
    text: Annotated[Text | None, Meta(description="It stands in the letter.")] = None
    died_until_ms: (
        Annotated[
            float,
            whole("Those that died later stay, whatever else fits.", 0, checked=True),
        ]
        | None
    ) = None
    all: Annotated[bool, Meta(description="All of the queue, which has to be said.")] = False

    def __post_init__(self) -> None:
        in_one_line(*self.ids or ())

    @property
    def says_something(self) -> bool:
        """Whether it says which are meant."""
        return self.all or any(
            one is not None for one in (self.ids, self.reason, self.task, self.kind, self.text)
        )


SAYS_SOMETHING: Final = Meta(
    extra_json_schema={
        "anyOf": [
            *(has(name) for name in ("ids", "reason", "task", "kind")),
            {"properties": {"all": {"const": True}}, "required": ["all"]},
        ]
    }
)
"""What the document says beyond the type: at least one of them is there."""


class Edited(msgspec.Struct, forbid_unknown_fields=True):
    """What is to be different when a letter goes back."""

    args: list[Any] | None = None
    kwargs: dict[str, Any] | None = None


class LetterView(JobView):
    """A dead letter, its arguments cut to some 200 bytes."""

    queue: str
    kind: Annotated[str, Meta(description="Letters that died of the same have the same.")]


class LetterList(TypedDict):
    """Letters that fit, newest first."""

    letters: list[LetterView]
    searched: Annotated[int, Meta(description="How many letters were read for it.")]
    next: Annotated[
        str | None,
        Meta(
            description="The `after` of the next page, which may have more also when this is empty."
        ),
    ]


class WholeLetter(LetterView):
    """A letter whole."""

    traceback: str
    job: Annotated[dict[str, Any] | None, Meta(description="As it stands in Redis; null: no JSON.")]
    payload_base64: Annotated[str | None, Meta(description="What is no JSON.")]


class GroupView(TypedDict):
    """Letters that died of the same."""

    kind: str
    count: int
    reason: str
    task: str
    error: ErrorView
    first_failed_at_ms: int | None
    last_failed_at_ms: int | None
    newest: Annotated[str, Meta(description="The id of the newest.")]


class Groups(TypedDict):
    """All kinds of a queue's letters, the largest first."""

    queue: str
    groups: list[GroupView]
    searched: int
    complete: Annotated[bool, Meta(description="False: there are older ones, which were not read.")]


class Moved(TypedDict):
    """How many letters went."""

    queue: str
    count: int
    more: Annotated[bool, Meta(description="There may be more that fit: ask again.")]
