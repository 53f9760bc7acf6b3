"""How a job is accepted that replaces, or puts off, the one that has its key.

One script does it all, but for a job that does not wait under the bytes with which it was enqueued,
as one that was tried already: that is searched for, which takes more round trips, and the script is
asked again. It decides anew each time, by what it finds then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from headrace import flows
from headrace.errors import StoreError
from headrace.flows import Flow
from headrace.keys import Keys
from headrace.operations import (
    CANCEL_REQUEST_TTL_MS,
    Enqueued,
    Found,
    Operation,
    enqueued,
    run,
    text,
)

REPLACING: Final = frozenset({"replace", "debounce"})
"""What ``if_exists=`` may say that a plain enqueue cannot do."""


class Newcomer(Protocol):
    """A job that comes in under a key: a ``Call``."""

    @property
    def if_exists(self) -> str:
        """One of ``REPLACING``."""

    @property
    def due(self) -> str:
        """Nothing, "+ms" from now or "@ms" since 1970."""

    @property
    def job_id(self) -> str:
        """Its id."""

    @property
    def job(self) -> bytes:
        """Its bytes."""

    @property
    def key(self) -> str | None:
        """Its key, as ``keys.unique`` has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look(Enqueued):
    """Nothing came of it yet: the job that has the key is to be looked for.

    Attributes:
        k: the queue's keys.
        newcomer: who comes in.
        max_pending: how many may wait.
    """

    k: Keys
    newcomer: Newcomer
    max_pending: int


def replace(
    k: Keys, new: Newcomer, max_pending: int, looked_for: str = "", waits: bytes = b""
) -> Operation[Enqueued]:
    """Accept a job in the place of the one that has its key, or put that one off.

    Args:
        k: the queue's keys.
        new: the job.
        max_pending: how many may wait; 0 any number.
        looked_for: the id of a job that was searched for …
        waits: … and its bytes, if it waits; else it has begun, or is over.
    """
    used = (
        k.pending, k.processing, k.priority, k.delayed, k.nudge, k.stats, k.claims, k.cancelled,
        k.unique(new.key or ""),
    )  # fmt: skip
    args = (
        new.if_exists, max_pending, new.due, new.job_id, new.job, CANCEL_REQUEST_TTL_MS,
        looked_for, waits,
    )  # fmt: skip

    def parse(raw: Any) -> Enqueued:
        if text(raw[0]) == "look":
            return Look("look", text(raw[1]), k=k, newcomer=new, max_pending=max_pending)
        return enqueued(raw)

    return run("unique/replace", used, args, parse)


def looked(answers: list[Any], confirm: Sequence[Operation[Any]]) -> Flow[list[Any]]:
    """Look for the jobs that have to be, and ask again; give all answers as they are then.

    Args:
        answers: those to a round trip of a producer; at their end those to …
        confirm: … what asks whether replicas have it.
    """
    for at, answer in enumerate(answers):
        while isinstance(answer, Look):
            try:
                request = yield from searched(answer)
                answer, *confirmed = yield [request, *confirm]  # noqa: PLW2901
                # Of all before, too: replicas confirm in order.
                answers[len(answers) - len(confirm) :] = confirmed
            except StoreError as error:
                answer = error  # noqa: PLW2901
            answers[at] = answer
    return answers


def searched(look: Look) -> Flow[Operation[Enqueued]]:
    """Look for the job; give what to ask with what was found."""
    found: Found | None = yield from flows.search(look.k, look.existing_id)
    waits = found is not None and found.word in {"pending", "delayed"}
    return replace(
        look.k,
        look.newcomer,
        look.max_pending,
        look.existing_id,
        found.raw if found and waits else b"",
    )
