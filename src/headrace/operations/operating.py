"""What operators ask of Redis: how many jobs are where, and what shall become of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from headrace import keys, wire
from headrace.errors import StoreError
from headrace.ids import time_ms_of
from headrace.keys import Keys
from headrace.operations.request import Operation, command, is_one, run, text, unfailed

_A_SCRIPT: Final = 200  # queues: 3 ms of Redis' time
_FAR_MS: Final = 1 << 53  # a plain client's score may be infinite


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A queue at one instant.

    Attributes:
        queue: its name.
        now_ms: the instant, by Redis' clock.
        pending: jobs that wait their turn in the list.
        priority: jobs that wait their turn by priority.
        delayed: jobs that wait for an instant.
        processing: jobs that are claimed.
        dead: dead letters.
        leases: claimed jobs with a lease.
        claims: claimed jobs with an owner, or leased by the sweep.
        paused: nothing is claimed.
        oldest: the first bytes of the pending job that has waited longest; b"" if there is none.
        first_priority: the first bytes of the next prioritised job; b"" if there is none.
        due_at_ms: when the next delayed job is due; None when there is none.
        counters: what happened to jobs so far, by name.
        limited: jobs that wait in lanes, for a limit or for their turn.
    """

    queue: str
    now_ms: int
    pending: int
    priority: int
    delayed: int
    processing: int
    dead: int
    leases: int
    claims: int
    paused: bool
    oldest: bytes
    first_priority: bytes
    due_at_ms: int | None
    counters: dict[str, int]
    limited: int = 0

    @property
    def waiting(self) -> int:
        """Jobs that could be claimed now."""
        return self.pending + self.priority

    @property
    def size(self) -> int:
        """How many jobs the queue holds, all places together."""
        return self.waiting + self.processing + self.delayed + self.dead + self.limited

    @property
    def foreign(self) -> int:
        """How many jobs plain clients brought (or, negative, took): the rest of the sum I3."""
        count = self.counters.get
        ended = sum(count(name, 0) for name in ("done", "cancel", "drop", "purged", "moved"))
        return self.size + ended - count("enqueued", 0)

    @property
    def oldest_at_ms(self) -> int | None:
        """When the job that waits longest was enqueued, by its producer's clock.

        None when none waits, or when the id of one that may be it does not say.
        """
        heads = [wire.split(start) for start in (self.oldest, self.first_priority) if start]
        instants = [time_ms_of(parts[0].id) if parts else None for parts in heads]
        known = [instant for instant in instants if instant is not None]
        return min(known) if known and len(known) == len(instants) else None

    @property
    def oldest_s(self) -> float | None:
        """How long that is ago by Redis' clock; a producer's clock may be ahead of it."""
        at_ms = self.oldest_at_ms
        return None if at_ms is None else max(0, self.now_ms - at_ms) / 1000


def _snapshot(k: Keys, raw: Any) -> Snapshot:
    now, pending, priority, delayed, processing, dead, leases, claims, paused = raw[:9]
    pairs = raw[12]
    return Snapshot(
        queue=k.queue,
        now_ms=now,
        pending=pending,
        priority=priority,
        delayed=delayed,
        processing=processing,
        dead=dead,
        leases=leases,
        claims=claims,
        paused=paused == 1,
        oldest=raw[9],
        first_priority=raw[10],
        due_at_ms=int(max(0, min(float(raw[11]), _FAR_MS))) if raw[11] != b"" else None,
        counters={
            text(name): int(value)
            for name, value in zip(pairs[::2], pairs[1::2], strict=True)
            if name.isascii() and value.isdigit()  # others are not ours
        },
        limited=raw[13],
    )


def snapshots(queues: Sequence[Keys]) -> list[Operation[list[Snapshot]]]:
    """Count every place of queues, however many: each at one instant, a few hundred in a script."""
    return [_counting(queues[i : i + _A_SCRIPT]) for i in range(0, len(queues), _A_SCRIPT)]


def snapshots_of(answers: Iterable[list[Snapshot] | StoreError]) -> list[Snapshot]:
    """Return what ``snapshots`` was answered, queue by queue.

    Raises:
        StoreError: one of the answers is an error.
    """
    return [one for some in unfailed(answers) for one in some]


def _counting(queues: Sequence[Keys]) -> Operation[list[Snapshot]]:
    used = [
        key
        for k in queues
        for key in (
            k.pending, k.processing, k.priority, k.delayed, k.dead, k.leases, k.claims, k.stats, k.meta,
            k.limited,
        )
    ]  # fmt: skip
    return run("snapshot", used, (), lambda raw: list(map(_snapshot, queues, raw)))


def snapshot(k: Keys) -> Operation[Snapshot]:
    """Count every place of a queue at one instant."""
    one: Operation[Any] = _counting([k])
    return one._replace(parse=lambda raw: _snapshot(k, raw[0]))


def pause(k: Keys, *, paused: bool) -> Operation[bool]:
    """Pause or resume a queue; return whether that changed anything."""
    return run("pause", (k.meta, k.nudge), (int(paused),), is_one)


def peek(key: str, start: int, stop: int) -> Operation[list[bytes]]:
    """Read a stretch of a list."""
    return command("LRANGE", key, start, stop, parse=lambda raw: raw)


def peek_sorted(key: str, start: int, stop: int) -> Operation[list[bytes]]:
    """Read a stretch of a zset, lowest score first."""
    return command("ZRANGE", key, start, stop, parse=lambda raw: raw)


def redrive(k: Keys, pairs: Sequence[tuple[bytes, bytes]]) -> Operation[int]:
    """Put dead letters back, given with the job that each becomes; return how many."""
    used = [k.pending, k.priority, k.dead, k.nudge, k.stats]
    for letter, _ in pairs:
        parts = wire.split(letter)
        used.append(k.result(parts[0].id if parts is not None else ""))
    return run("redrive", used, [part for pair in pairs for part in pair], int)


def purge(k: Keys, letters: Sequence[bytes]) -> Operation[int]:
    """Delete dead letters for good; return how many were there."""
    return run("purge", (k.dead, k.stats), letters, int)


def registered() -> Operation[list[str]]:
    """List what stands in the registry of queues, whether it can be a queue's name or not."""

    def parse(raw: Any) -> list[str]:
        return sorted(name.decode(errors="backslashreplace") for name in raw)

    return command("SMEMBERS", keys.QUEUES, parse=parse)


def forgotten() -> Operation[dict[str, int]]:
    """Return what the queues that are forgotten had counted, by counter."""

    def parse(raw: Any) -> dict[str, int]:
        pairs = zip(raw[::2], raw[1::2], strict=True)
        return {text(name): int(count) for name, count in pairs if count.isdigit()}

    return command("HGETALL", keys.FORGOTTEN, parse=parse)
