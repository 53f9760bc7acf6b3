"""What jobs have yielded, as it stands in Redis at the end: each item once, in order, of one run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from redis import Redis

from headrace.keys import keys_of
from headrace.reports.keys import stream_of

ITEMS = 12
TTL_S = 3_600.0

Entry = tuple[str, str, str]
"""Its id, its field and its value."""


def items(number: int) -> list[str]:
    """Give what a job of this number yields, as JSON."""
    return [str(100 * number + at) for at in range(ITEMS)]


def read(redis: Redis, queue: str) -> dict[str, list[Entry]]:
    """Read all streams of a queue, by the ids of their jobs."""
    start = stream_of(keys_of(queue), "")
    found: dict[str, list[Entry]] = {}
    for key in redis.scan_iter(f"{start}*"):
        entries: Any = redis.xrange(key)
        found[key.decode().removeprefix(start)] = [
            (entry_id.decode(), field.decode(), value.decode())
            for entry_id, fields in entries
            for field, value in fields.items()
        ]
    return found


def faults(number: int, entries: list[Entry], ended: set[int]) -> Iterator[str]:
    """Say what is wrong with the stream of a job that is done; ``ended``: its runs that returned."""
    told = [(field, value) for _, field, value in entries]
    if told != [*(("i", item) for item in items(number)), ("e", "")]:
        yield f"the stream of job {number} holds {told}"
    runs = {int(entry_id.partition("-")[0]) for entry_id, _, _ in entries}
    if len(runs) != 1 or not runs <= ended:
        yield f"the stream of job {number} is of the runs {sorted(runs)}, and {sorted(ended)} returned"
    numbers = [int(entry_id.partition("-")[2]) for entry_id, _, _ in entries]
    if numbers != [*range(1, len(entries) + 1)]:
        yield f"the items of job {number} have the numbers {numbers}"
