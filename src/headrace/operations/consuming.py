"""What consumers ask of Redis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, Protocol

from headrace.keys import Keys
from headrace.operations.request import Argument, Operation, command, run, text, texts
from headrace.scripts import MAX_ITEMS


class ClaimReply(NamedTuple):
    """What a claim gave.

    Attributes:
        paused: the queue is paused.
        now_ms: the instant, by Redis' clock.
        jobs: the jobs' bytes, in the order in which they are to run.
    """

    paused: bool
    now_ms: int
    jobs: list[bytes]


def _claimed(raw: Any) -> ClaimReply:
    return ClaimReply(raw[0] == b"paused", raw[1], raw[2:])


def claim(
    k: Keys, count: int, *, lease_ms: int, consumer: str, first: int
) -> Operation[ClaimReply]:
    """Claim up to ``count`` jobs; the i-th gets the claim number ``first + i``. Never re-sent."""
    used = (k.pending, k.processing, k.priority, k.leases, k.claims, k.nudge, k.stats, k.meta)
    return run("claim", used, (min(count, MAX_ITEMS), lease_ms, consumer, first), _claimed)


KEY_UNTIL_START: Final = b',"key_until":"start"'
"""What the body of a job begins with whose key its adoption frees."""

AdoptAnswer = Literal["ok", "lost", "duplicate", "paused", "cancelled"]


def adopt(
    k: Keys,
    *,
    token: str,
    lease_ms: int,
    moved: bytes,
    job_id: str,
    job: bytes,
    begun: bool,
    key: str = "",
) -> Operation[AdoptAnswer]:
    """Lease an item that stands in processing without one, and give it its canonical bytes.

    ``begun``: its task runs already, so that it is neither ``paused`` nor ``cancelled`` any more.
    ``key``: the one that the job has, if it has one. Where ``job`` has none any more, it is free from now on.
    """
    used = [k.pending, k.processing, k.leases, k.claims, k.stats, k.meta, k.cancelled]
    if key:
        used.append(k.unique(key))
    parse: Callable[[Any], AdoptAnswer] = text  # type: ignore[assignment]
    return run("adopt", used, (token, lease_ms, moved, job_id, job, int(begun)), parse)


Verb = Literal["done", "retry", "park", "release", "dead", "drop", "cancel"]


class Commit(Protocol):
    """What happens in the same step as the end of a claim: see ``workflows``.

    Attributes:
        size: its bytes, about.
        before: what is asked before it; if that fails, nothing is lost.
    """

    @property
    def size(self) -> int: ...  # noqa: D102
    @property
    def before(self) -> Sequence[Operation[Any]]: ...  # noqa: D102

    def operation(self, k: Keys, consumer: str, outcome: Outcome) -> Operation[list[str]]:
        """End the claim, as ``settle`` does for others."""


class Outcome(NamedTuple):
    """How one claim ends.

    Attributes:
        job_id: the job's id.
        claim: the claim number; negative when its item is nearer to the old end of processing.
        verb: what happens to the job.
        delay_ms: for ``retry`` and ``park``: until it is due.
        job: for ``retry`` and ``park`` the job's new bytes, for ``dead`` the letter's.
        result_ttl_ms: how long ``result`` is kept for whoever waits for it; 0 for not at all.
        result: how the job ended, encoded; for ``retry`` this run of it, beside which others stand.
        key: the key that the job has, free again when this ends the job; "" if there is none.
        commit: what else belongs to its end; None for nearly all.
    """

    job_id: str
    claim: int
    verb: Verb
    delay_ms: int = 0
    job: bytes = b""
    result_ttl_ms: int = 0
    result: bytes = b""
    key: str = ""
    commit: Commit | None = None


def at_number(outcome: Outcome, claim: int) -> Outcome:
    """Return the outcome with another sign of its claim number: where its item stands has changed."""
    if outcome.claim == claim:
        return outcome
    return Outcome(outcome.job_id, claim, *outcome[2:])


def settle(k: Keys, consumer: str, outcomes: Sequence[Outcome]) -> Operation[list[str]]:
    """End claims; return the ids that were lost. Sent again, it changes nothing."""
    used = [
        k.pending, k.processing, k.priority, k.delayed, k.dead, k.leases, k.claims, k.nudge, k.stats,
        k.cancelled,
    ]  # fmt: skip
    args: list[Argument] = [consumer]
    keys: list[str] = []
    for o in outcomes:
        args += (o.job_id, o.claim, o.verb, o.delay_ms, o.job, o.result_ttl_ms, o.result)
        if o.result_ttl_ms:
            used.append(k.history(o.job_id) if o.verb == "retry" else k.result(o.job_id))
        if o.key:
            keys.append(k.unique(o.key))
    used += keys
    return run("settle", used, args, texts)


@dataclass(frozen=True, slots=True)
class Extended:
    """Which of the extended claims are lost, and which somebody wants cancelled (ids)."""

    lost: list[str]
    cancelled: list[str]


def extend(
    k: Keys, consumer: str, claims: Sequence[tuple[str, int]], *, lease_ms: int
) -> Operation[Extended]:
    """Move the deadlines of claims, given as id and claim number; 0 ms: end them."""
    args: list[Argument] = [lease_ms, consumer]
    for job_id, number in claims:
        args += (job_id, number)
    return run(
        "extend",
        (k.leases, k.claims, k.cancelled),
        args,
        lambda raw: Extended(texts(raw[0]), texts(raw[1])),
    )


def blocking_move(k: Keys, wait_s: float) -> Operation[bytes | None]:
    """Move the oldest pending job to processing, waiting for one. Never re-sent, never cancelled."""
    args = ("BLMOVE", k.pending, k.processing, "RIGHT", "LEFT", wait_s)
    return command(*args, parse=lambda raw: raw, wait_s=wait_s)


def is_paused(k: Keys) -> Operation[bool]:
    """Whether a queue is paused."""
    return command("HGET", k.meta, "paused", parse=lambda raw: raw is not None)


def are_prioritised(ks: Sequence[Keys]) -> Operation[bool]:
    """Whether a prioritised job waits in any of these queues."""
    return command("EXISTS", *(k.priority for k in ks), parse=bool)


def await_nudge(nudges: Sequence[str], wait_s: float) -> Operation[bool]:
    """Wait for a hint that there may be work; return whether one came."""
    return command("BLPOP", *nudges, wait_s, parse=lambda raw: raw is not None, wait_s=wait_s)
