"""What is asked of Redis about lanes. Each transition is a script that stands beside this module."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

import msgspec

from headrace import wire
from headrace.keys import QUEUES, Keys
from headrace.lanes.keys import LIMITED_QUEUES, lane_keys
from headrace.lanes.limit import Limit, parse
from headrace.operations import (
    CANCEL_REQUEST_TTL_MS,
    Enqueued,
    Operation,
    Outcome,
    command,
    run,
    text,
    texts,
)
from headrace.scripts import MAX_ITEMS

_PERMIT: Final = re.compile(rb',"admitted":"(\d+) (\d+) ([!#-\[\]-~]+)"\}\s*\Z')  # as in lanes.lua


_LONGEST: Final = 2_200  # bytes of a permit


class Permit(NamedTuple):
    """What a job was let out of its lane with. It holds for one delivery.

    Attributes:
        delivery: how often the job had been back by then.
        member: lane, number and id, as they are counted.
    """

    delivery: int
    member: str


def permit_of(job: bytes, job_id: str) -> Permit | None:
    """Read a job's permit; None if it has none."""
    match = _PERMIT.search(job, max(0, len(job) - _LONGEST))
    if match is None:
        return None
    return Permit(int(match[1]), f"{match[3].decode()} {int(match[2])} {job_id}")


class _Keyed(msgspec.Struct, frozen=True):
    lane: str | None = None


_read_key = msgspec.json.Decoder(_Keyed).decode


def key_of(job: bytes) -> str | None:
    """Read the key that a job says itself; None if it says none."""
    try:
        return _read_key(job).lane if b'"lane"' in job else None
    except msgspec.DecodeError:  # somebody else's word
        return None


class Alarm(NamedTuple):
    """When a caller has to ask again, for it keeps the time.

    Attributes:
        at: the instant, us since 1970 by Redis' clock; "" if somebody else keeps the time, or nobody need.
        left_s: how long that is.
        out: how many jobs were let out.
    """

    at: str
    left_s: float
    out: int = 0


def _alarm(raw: Any) -> Alarm:
    return Alarm(text(raw[0]), raw[1] / 1e6, *raw[2:])


def keys_used(k: Keys, *more: str) -> list[str]:
    """Return the keys that a script of lanes takes first, and more."""
    own = lane_keys(k)
    return [
        k.limited, own.lanes, own.slots, own.admitted, own.limits, own.buckets,
        k.pending, k.priority, k.nudge, k.stats, *more,
    ]  # fmt: skip


def enqueue(
    k: Keys, jobs: Sequence[tuple[str, bytes]], *, max_pending: int = 0
) -> Operation[Enqueued]:
    """Accept jobs for now, given with their lanes, all or none."""

    def parse_answer(raw: Any) -> Enqueued:
        word = text(raw[0])
        return Enqueued(word, waiting=raw[1]) if word == "full" else Enqueued(word, new=raw[1] == 1)

    parts = [part for pair in jobs for part in pair]
    return run("lanes/enqueue", keys_used(k, k.delayed), (max_pending, *parts), parse_answer)


@dataclass(frozen=True, slots=True)
class Hold:
    """What becomes of a claimed job that may not run yet: it goes into its lane (a ``Commit``).

    Attributes:
        lane: the lane.
        since_ms: since when it waits, ms since 1970; 0: since now.
        size: its bytes, about, beside the job's.
        before: nothing.
    """

    lane: str
    since_ms: int = 0
    size: int = 0
    before: tuple[Operation[Any], ...] = ()

    def operation(self, k: Keys, consumer: str, outcome: Outcome) -> Operation[list[str]]:
        """End the claim with it; return its id if it was lost. Sent again, it changes nothing."""
        used = keys_used(k, k.processing, k.leases, k.claims, k.cancelled)
        if outcome.key:
            used.append(k.unique(outcome.key))
        args = (consumer, outcome.job_id, outcome.claim, self.lane, self.since_ms)
        return run("lanes/hold", used, args, texts)


def admit(
    k: Keys, *, alarm: str = "", come: Sequence[str] = (), ended: Sequence[str] = ()
) -> Operation[Alarm]:
    """Count out what has come to a consumer and what has ended, and let out what may run now.

    Args:
        k: the queue's keys.
        alarm: the alarm that the caller keeps; "0" none; "" it cannot keep the time.
        come: members that have come to a consumer.
        ended: members whose runs have ended.
    """
    return run("lanes/admit", keys_used(k), (alarm, len(come), *come, *ended), _alarm)


class Checked(NamedTuple):
    """What a look at the counts has shown.

    Attributes:
        alarm: as ``admit`` answers it.
        offset: where to go on in the slots; 0 they are through.
        cursor: where to go on in the buckets; "0" they are through.
        freed: how many slots were freed.
        busy: whether anything waits or has a slot.
    """

    alarm: Alarm
    offset: int
    cursor: str
    freed: int
    busy: bool


def check(
    k: Keys, *, alarm: str = "", offset: int = 0, cursor: str = "0", most: int = MAX_ITEMS
) -> Operation[Checked]:
    """Free the slots of jobs that are nowhere, and let out what may run now."""

    def parse_answer(raw: Any) -> Checked:
        return Checked(_alarm(raw[0]), raw[1], text(raw[2]), raw[3], raw[4] == 1)

    return run("lanes/check", keys_used(k, k.claims), (alarm, offset, cursor, most), parse_answer)


def declare(k: Keys, limits: Mapping[str, str]) -> Operation[int]:
    """Declare limits, or set ("!" before the name) or take back ("") such; return how many changed."""
    return run("lanes/limit", keys_used(k), [part for pair in limits.items() for part in pair], int)


def declaration(k: Keys, limits: Mapping[str, str]) -> list[Operation[Any]]:
    """Declare a queue's limits, and that it has some."""
    return [register(k.queue), declare(k, limits)]


def cancel(
    k: Keys, job_id: str, job: bytes, *, result_ttl_ms: int = 0, result: bytes = b""
) -> Operation[Literal["cancelled", "absent"]]:
    """Take out a job that waits in a lane."""
    own = lane_keys(k)
    used = [k.limited, own.lanes, k.stats, k.cancelled, k.result(job_id)]
    parts = wire.split(job)
    if parts is not None and parts[0].key:
        used.append(k.unique(parts[0].key))
    args = (job_id, CANCEL_REQUEST_TTL_MS, result_ttl_ms, result)
    return run("lanes/cancel", used, args, text)  # type: ignore[arg-type]


def page(k: Keys, offset: int, most: int) -> Operation[list[bytes]]:
    """Read jobs that wait in lanes, lane by lane."""
    own = lane_keys(k)
    return run("lanes/page", (k.limited, own.lanes), (offset, most), list)


@dataclass(frozen=True, slots=True)
class Bound:
    """A limit as it stands for one job.

    Attributes:
        name: its name, as lanes have it.
        limit: the limit.
        used: how many jobs have a slot of it.
        wait_s: how long until it has a token; 0 if it has one, or no rate.
    """

    name: str
    limit: Limit
    used: int
    wait_s: float

    @property
    def holds_back(self) -> bool:
        """Whether it leaves no room."""
        return bool(self.wait_s) or 0 < self.limit.concurrency <= self.used


@dataclass(frozen=True, slots=True)
class Wait:
    """Why a job waits in a lane.

    Attributes:
        lane: the lane.
        before: how many jobs are before it in its lane.
        lanes: how many lanes hold anything; 1,000 or more are not counted.
        job: its bytes.
        out: how many jobs have been let out, and are not at a consumer yet.
        bounds: the limits that hold for it.
    """

    lane: str
    before: int
    lanes: int
    job: bytes
    out: int
    bounds: tuple[Bound, ...]


def why(k: Keys, job_id: str) -> Operation[Wait | None]:
    """Ask why a job waits in its lane; None if it does not."""

    def parse_answer(raw: Any) -> Wait | None:
        if not raw:
            return None
        lane, before, count, job, out, *rest = raw
        bounds = [
            Bound(
                text(name), parse(f"{text(rate)} {text(burst)} {text(most)}"), used, wait_us / 1e6
            )
            for name, rate, burst, most, used, wait_us in zip(*[iter(rest)] * 6, strict=True)
        ]
        return Wait(text(lane), before, count, job, out, tuple(bounds))

    return run("lanes/why", keys_used(k), (job_id,), parse_answer)


def limits(k: Keys) -> Operation[dict[str, str]]:
    """Read a queue's limits as they stand: what is set has "!" before its name."""

    def parse_answer(raw: Any) -> dict[str, str]:
        flat = texts(raw)
        return dict(zip(flat[::2], flat[1::2], strict=True))

    return command("HGETALL", lane_keys(k).limits, parse=parse_answer)


def is_registered(k: Keys) -> Operation[bool]:
    """Whether a queue is known, and not forgotten."""
    return command("SISMEMBER", QUEUES, k.queue, parse=bool)


def forget(k: Keys) -> list[Operation[int]]:
    """Forget the limits of a queue that is forgotten. They are declared again when it is used."""
    own = lane_keys(k)
    return [
        command("SREM", LIMITED_QUEUES, k.queue, parse=int),
        command("DEL", own.limits, own.buckets, own.slots, own.admitted, parse=int),
    ]


def register(queue: str) -> Operation[int]:
    """Note that a queue has limits; return 1 when that was not known."""
    return run("register", (LIMITED_QUEUES,), (queue,), int)


def queues() -> Operation[list[str]]:
    """Name the queues that have limits."""
    return command("SMEMBERS", LIMITED_QUEUES, parse=lambda raw: sorted(texts(raw)))
