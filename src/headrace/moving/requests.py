"""What moving a queue asks of both servers: each transition is a script of this part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from headrace import lanes, wire
from headrace.keys import Keys
from headrace.operations import Operation, command, is_one, run, text
from headrace.scripts import MAX_ITEMS

_REMEMBERED_MS: Final = 7 * 86_400_000
"""For how long a server knows which batches have arrived: who moves may be gone for a week-end."""

_KEPT_MS: Final = 7 * 86_400_000  # a key without an end, as enqueue.lua has it

Arrival: TypeAlias = Literal["arrived", "before", "here"]


class Batch(NamedTuple):
    """Jobs that are on their way.

    Attributes:
        name: what it is called.
        entries: a place, a detail and the bytes of each job, as the scripts have them.
    """

    name: str
    entries: Sequence[bytes]

    @property
    def jobs(self) -> list[bytes]:
        """The bytes of its jobs."""
        return [entry.split(b" ", 2)[2] for entry in self.entries]


class Held(NamedTuple):
    """A key that a job of the batch has.

    Attributes:
        key: the key, as ``keys.unique`` has it.
        job_id: the id of the job.
        value: what stands there.
        ttl_ms: for how long.
    """

    key: str
    job_id: str
    value: bytes
    ttl_ms: int


def moving_of(k: Keys) -> str:
    """Where the jobs are that are on their way to another server."""
    return f"{k.queue}:moving"


def _used(k: Keys, *more: str) -> list[str]:
    return lanes.operations.keys_used(k, k.delayed, k.dead, moving_of(k), *more)


def take(k: Keys, name: str, most: int = MAX_ITEMS) -> Operation[Batch | None]:
    """Take jobs that wait, and dead letters; ``name``: what the batch is called, if it is a new one.

    None when there are none. Sent again, it gives the same batch, until that has left.
    """

    def parse(raw: Any) -> Batch | None:
        return Batch(text(raw[0]), raw[1:]) if raw else None

    return run("moving/take", _used(k), (name, most), parse)


def keys_in(batch: Batch) -> list[tuple[str, str]]:
    """Return the keys that jobs of a batch would have, each with the job's id."""
    heads = [parts[0] for parts in map(wire.split, batch.jobs) if parts is not None]
    return [(head.key, head.id) for head in heads if head.key]


def look(k: Keys, key: str) -> list[Operation[Any]]:
    """Ask for what stands under a key, and for how long, ms: to be put together by ``held``."""
    return [command(name, k.unique(key), parse=lambda raw: raw) for name in ("GET", "PTTL")]


def held(key: str, job_id: str, value: bytes | None, ttl_ms: int) -> Held | None:
    """Put together what a look at a key has shown; None if another job has it, or none."""
    if value is None or value.partition(b" ")[0] != job_id.encode():
        return None
    return Held(key, job_id, value, ttl_ms if ttl_ms > 0 else _KEPT_MS)


def arrive(k: Keys, batch: Batch, has: Sequence[Held], *, back: bool = False) -> Operation[Arrival]:
    """Accept a batch from another server; ``back``: put it back where it was taken."""
    used = _used(k, f"{k.queue}:arrived:{batch.name}", *(k.unique(one.key) for one in has))
    owners = [part for one in has for part in (one.value, one.ttl_ms)]
    args = (batch.name, int(back), _REMEMBERED_MS, *owners, *batch.entries)
    return run("moving/arrive", used, args, text)  # type: ignore[arg-type]


def leave(k: Keys, batch: Batch, had: Sequence[Held]) -> Operation[bool]:
    """Forget a batch that has arrived elsewhere, and free the keys that its jobs had."""
    used = (moving_of(k), *(k.unique(one.key) for one in had))
    return run("moving/leave", used, (batch.name, *(one.job_id for one in had)), is_one)


def on_its_way(k: Keys) -> Operation[int]:
    """Count what is on its way to another server."""
    return command("LLEN", moving_of(k), parse=lambda n: max(0, n - 1))
