"""What the HTTP API takes and answers, as types: the OpenAPI document and the type checker read them."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeAlias, TypedDict

import msgspec
from msgspec import Meta

from headrace.doctor.places import Place
from headrace.flows import State
from headrace.key_options import IfExists, KeyUntil
from headrace.wire import MAX_PRIORITY, MAX_TASK_NAME, MIN_PRIORITY

MAX_JOBS: Final = 10_000  # in one request: a tenth of a second of the server's time
MAX_LISTED: Final = 100
MAX_QUEUES_LISTED: Final = 1_000


def _shown(description: str, **schema: Any) -> Meta:
    """Describe a value in the document alone: what checks it has a clearer message."""
    return Meta(description=description, extra_json_schema=schema)


# Seconds that ``headrace.options`` takes.
_SPAN: Final = {"exclusiveMinimum": 0, "exclusiveMaximum": 1e11}

QUEUE_NAME: Final = r"^[^\s:{}\x00-\x1f\x85]{1,100}$"  # as keys.is_name has it
QueueName: TypeAlias = Annotated[
    str,
    Meta(min_length=1),  # "" would be taken for the default queue
    _shown(
        "A queue's name: 1 to 100 characters, no white space, and none of `: { }`.",
        pattern=QUEUE_NAME,
    ),
]


JOB_ID: Final = r"^[!-~]{1,128}$"
JobId: TypeAlias = Annotated[
    str, Meta(pattern=JOB_ID, description="The id that the job was accepted under.")
]


def in_one_line(*names: str) -> None:
    """Refuse what ends with a newline: to Python alone, ``$`` of a pattern is also before that.

    Raises:
        ValueError: one does.
    """
    for name in names:
        if name.endswith("\n"):
            raise ValueError(f"{name!r} ends with a newline")


def whole(description: str, low: int, high: int | None = None, *, checked: bool = False) -> Meta:
    """Describe a whole number. JSON may write 5 as 5.0, so its type is float: see `as_whole`."""
    if checked:
        return Meta(description=description, multiple_of=1, ge=low, le=high)
    return _shown(description, multipleOf=1, minimum=low, maximum=high)


def as_whole(number: float) -> float:
    """Return 5 for 5.0, and any other number as it is: what checks it has a clear message."""
    return int(number) if number.is_integer() else number


Priority: TypeAlias = Annotated[float, whole("Higher first.", MIN_PRIORITY, MAX_PRIORITY)]
_Attempts: TypeAlias = Annotated[float, whole("Failed runs until it is dead.", 1, 1 << 31)]


_Array: TypeAlias = Annotated[
    msgspec.Raw, Meta(extra_json_schema={"type": "array", "items": {}, "default": []})
]
_Object: TypeAlias = Annotated[
    msgspec.Raw,
    Meta(extra_json_schema={"type": "object", "additionalProperties": {}, "default": {}}),
]
NO_ARGS: Final = msgspec.Raw(b"[]")
NO_KWARGS: Final = msgspec.Raw(b"{}")


class NewJob(msgspec.Struct, forbid_unknown_fields=True):
    """A job as it is asked for; null is as good as absent. Give `delay` or `at`, not both."""

    task: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=MAX_TASK_NAME,
            description="The task's name; need not be known here.",
        ),
    ]
    # Read one job at a time: as Python objects, arguments take twenty times their bytes.
    args: _Array = msgspec.field(default_factory=lambda: NO_ARGS)
    kwargs: _Object = msgspec.field(default_factory=lambda: NO_KWARGS)
    queue: QueueName | None = None
    delay: (
        Annotated[float, _shown("Seconds from now.", minimum=0, exclusiveMaximum=1e11)] | None
    ) = None
    at: (
        Annotated[
            float, _shown("Seconds since 1970.", minimum=0, exclusiveMaximum=(1 << 52) / 1000)
        ]
        | None
    ) = None
    priority: Priority | None = None
    key: (
        Annotated[
            str,
            _shown("While it lives, no second job has it: the first one's id is answered.",
                   minLength=1, maxLength=512),
        ]
        | None
    ) = None  # fmt: skip
    key_ttl: (
        Annotated[float, _shown("Seconds that the key is held; else until the job ends.", **_SPAN)]
        | None
    ) = None
    key_until: Annotated[KeyUntil, Meta(description="When the key is free again.")] | None = None
    if_exists: (
        Annotated[IfExists, Meta(description="What becomes of a second job with the key.")] | None
    ) = None
    timeout: Annotated[float, _shown("Seconds that it may run.", **_SPAN)] | None = None
    soft_timeout: (
        Annotated[float, _shown("Seconds after which it is told to end.", **_SPAN)] | None
    ) = None
    expires: (
        Annotated[float, _shown("Seconds from now; it is not started later.", **_SPAN)] | None
    ) = None
    max_attempts: _Attempts | None = None
    result_ttl: Annotated[float, _shown("Seconds its result is kept.", **_SPAN)] | None = None
    headers: (
        Annotated[
            dict[str, str],
            Meta(description="Text that travels beside the arguments: a trace's id."),
        ]
        | None
    ) = None
    lane: (
        Annotated[str, _shown("Its key in limits and turns, where there are some.", maxLength=512)]
        | None
    ) = None


NewJobs: TypeAlias = (
    NewJob | Annotated[list[NewJob], Meta(extra_json_schema={"maxItems": MAX_JOBS})]
)


def has(name: str, *values: str) -> dict[str, Any]:
    """Return the schema of an object that has this, one of these or whatever, but not null."""
    return {
        "properties": {name: {"enum": [*values]} if values else {"not": {"type": "null"}}},
        "required": [name],
    }


def _lacks(*names: str) -> dict[str, Any]:
    return {"not": {"anyOf": [has(name) for name in names]}}


# What ``key_options`` refuses, and both a delay and an instant.
_SENSELESS: Final[list[dict[str, Any]]] = [
    {"allOf": [has("delay"), has("at")]},
    {"allOf": [{"anyOf": [has("if_exists"), has("key_until")]}, _lacks("key")]},
    {"allOf": [has("if_exists", "throttle"), _lacks("key_ttl")]},
    {"allOf": [has("if_exists", "debounce"), _lacks("delay", "at")]},
    {
        "allOf": [
            has("key_ttl"),
            {"anyOf": [has("if_exists", "replace", "debounce"), has("key_until")]},
        ]
    },
]
MORE: Final[dict[str, dict[str, Any]]] = {NewJob.__name__: {"not": {"anyOf": _SENSELESS}}}
"""What the document says of these types beyond what a type can say."""


class Accepted(TypedDict):
    """A job that was accepted; with a key it may be an earlier one."""

    id: str
    queue: str


class AcceptedMany(TypedDict):
    """The accepted jobs, in the order in which they were sent."""

    jobs: list[Accepted]


class ProgressView(TypedDict):
    """How far a running job is, as it tells itself, at most once a second."""

    done: float
    total: float | None
    note: str
    at_ms: Annotated[int, Meta(description="When it told so.")]
    says: Annotated[str, Meta(description="All this in words.")]


class JobState(TypedDict):
    """Where a job is; `done` also when nothing is known of it."""

    id: str
    queue: str
    state: State
    progress: Annotated[ProgressView | None, Meta(description="Null: it has told nothing.")]


class ExplanationView(TypedDict):
    """Where a job is, in words."""

    queue: str
    id: str
    state: str
    task: Annotated[str, Meta(description='"": unknown.')]
    headline: Annotated[str, Meta(description="Where it is.")]
    reasons: Annotated[list[str], Meta(description="Why, and what comes next.")]
    todo: Annotated[str, Meta(description='What to do; "": nothing.')]
    facts: Annotated[dict[str, Any], Meta(description="Numbers: position, due_at_ms, delivery, …")]


Became: TypeAlias = Literal["cancelled", "requested"]


class Cancelled(TypedDict):
    """What became of a job that was to be cancelled."""

    id: str
    queue: str
    became: Annotated[Became, Meta(description="Requested: it runs, and is asked to stop.")]


class QueueView(TypedDict):
    """A queue: how many jobs are in each place; nothing in it changes while the queue does not."""

    queue: str
    paused: bool
    pending: int
    priority: int
    delayed: int
    limited: int
    processing: int
    dead: int
    foreign: Annotated[int, Meta(description="What plain clients brought, less what they took.")]
    oldest_at_ms: Annotated[int | None, Meta(description="Null: none waits, or unknown.")]
    next_due_at_ms: int | None
    counters: dict[str, int]


class AgedQueueView(QueueView):
    """A queue, and how long ago its oldest waiting job was enqueued, by Redis' clock."""

    oldest_age_s: float | None


class QueueList(TypedDict):
    """Queues at one instant, ms since 1970 by Redis' clock; and after which name the next page begins."""

    now_ms: int
    queues: list[AgedQueueView]
    next: str | None


class Scale(TypedDict):
    """How much there is to do in a queue."""

    queue: str
    jobs: Annotated[int, Meta(description="Those that wait now, and those that run.")]
    waiting: Annotated[int, Meta(description="Those that wait: not for an instant.")]
    oldest_age_s: Annotated[float, Meta(description="How long one has waited; 0: none does.")]


class Paused(TypedDict):
    """Whether a queue is paused, and whether it was not so before."""

    queue: str
    paused: bool
    changed: bool


class ErrorView(TypedDict):
    """Why a dead job is dead."""

    reason: str
    type: str
    message: str
    failed_at_ms: int | None


class JobView(TypedDict):
    """A job, or whatever else lies in a queue, its arguments cut to some 200 bytes."""

    id: str | None
    task: Annotated[str | None, Meta(description="Null: it is no job, and is shown as it is.")]
    arguments: str
    bytes: int
    made_at_ms: int | None
    due_at_ms: Annotated[int | None, Meta(description="When a delayed job is due.")]
    consumer: Annotated[str | None, Meta(description="Whose a claimed job is.")]
    progress: Annotated[ProgressView | None, Meta(description="How far a claimed job is.")]
    seen_at_ms: Annotated[
        int | None, Meta(description="When this server first saw the claim: it is no younger.")
    ]
    priority: int
    attempt: int
    delivery: int
    crashes: int
    error: ErrorView | None


class JobList(TypedDict):
    """The first jobs of a place: who is next, was claimed first, is due first, died last.

    Where jobs are large they are fewer than were asked for.
    """

    queue: str
    place: Place
    key: Annotated[str, Meta(description="The Redis key that holds the place.")]
    jobs: list[JobView]
