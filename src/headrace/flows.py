"""Requests in a row, each depending on the answers before it.

A flow is a generator that yields an operation, or a list of them for one round trip, and is sent
what comes back; a store's ``follow`` drives it, blocking or awaited. What changes state is in each
case one script; a flow only decides which.
"""

from __future__ import annotations

from collections.abc import Container, Generator, Iterable, Sequence
from typing import Any, Final, Literal, TypeAlias, TypeVar

from headrace import operations as op
from headrace.keys import Keys
from headrace.lanes import operations as lanes
from headrace.operations import Found, Operation
from headrace.scripts import MAX_BYTES, MAX_ITEMS

R = TypeVar("R")
Flow: TypeAlias = Generator[Operation[Any] | list[Operation[Any]], Any, R]
State = Literal["pending", "processing", "delayed", "dead", "done", "cancelled", "unknown"]
Place = Literal["pending", "processing", "delayed", "dead"]

PAGE: Final = 100
"""Jobs read or ended in one step: at most 100 MiB of them, and usually 20 kB."""


def chunks(jobs: Sequence[bytes], max_bytes: int = MAX_BYTES) -> Iterable[Sequence[bytes]]:
    """Cut jobs into runs of at most 1,000 and so many bytes: what one call may carry."""
    start = size = 0
    for index, job in enumerate(jobs):
        if index > start and (index - start >= MAX_ITEMS or size + len(job) > max_bytes):
            yield jobs[start:index]
            start, size = index, 0
        size += len(job)
    if start < len(jobs):
        yield jobs[start:]


def claims_of(k: Keys, consumer: str) -> Flow[list[tuple[str, int]]]:
    """Find all claims of a consumer, as id and claim number: after a lost answer, or its death."""
    found: list[tuple[str, int]] = []
    cursor = "0"
    start = f"{consumer}:".encode()
    while True:
        page = op.command("HSCAN", k.claims, cursor, "COUNT", 100, parse=lambda raw: raw)
        cursor_raw, pairs = yield page
        for job_id, value in zip(pairs[::2], pairs[1::2], strict=True):
            if value.startswith(start):
                number = value[len(start) : value.index(b" ")]
                found.append((job_id.decode(), int(number)))
        cursor = cursor_raw.decode()
        if cursor == "0":
            return found


def search(k: Keys, job_id: str) -> Flow[Found | None]:
    """Look for a job by its id wherever jobs are; give where, and its bytes.

    Redis reads the queue through, in steps: for jobs that were retried since their handle was made.
    A job that moves while it is searched can be missed.
    """
    wait: lanes.Wait | None = yield lanes.why(k, job_id)
    if wait is not None:
        return Found("pending", wait.job)
    places: tuple[tuple[Place, str], ...] = (
        ("pending", k.pending),
        ("dead", k.dead),
        ("delayed", k.delayed),
        ("pending", k.priority),
        ("processing", k.processing),
    )
    for place, key in places:
        offset = 0
        while True:
            job, offset = yield op.seek(key, job_id, offset)
            if job:
                return Found(place, job)
            if not offset:
                break
    return None


def locate(k: Keys, job_id: str, job: bytes) -> Flow[Found]:
    """Return where a job is, or how it ended; ``job``: its bytes if known, which saves a search."""
    found: Found = yield op.find(k, job_id, job)
    if found.word != "unknown":
        return found
    elsewhere: Found | None = yield from search(k, job_id)
    # It may have been on its way meanwhile.
    return elsewhere or (yield op.find(k, job_id, job))


def cancel(k: Keys, job_id: str, job: bytes, *, result_ttl_ms: int, result: bytes) -> Flow[bool]:
    """Cancel a job wherever it is; False when it is over already, or dead.

    A waiting job is taken out. A running one is asked to stop, which its consumer learns when it
    next extends the lease.
    """
    # A job that moves between the search and the script is looked for again.
    for _ in range(3):
        word: str = yield op.cancel(k, job_id, job, result_ttl_ms=result_ttl_ms, result=result)
        if word == "absent":
            word = yield lanes.cancel(k, job_id, job, result_ttl_ms=result_ttl_ms, result=result)
        if word != "absent":
            return True
        elsewhere: Found | None = yield from search(k, job_id)
        if elsewhere is None or elsewhere.word == "dead":
            return False
        job = elsewhere.raw
    return False


def release_unknown(k: Keys, consumer: str, known: Container[tuple[str, int]]) -> Flow[int]:
    """Release, uncharged, what a consumer holds and does not know of; return how much.

    ``known``: id and claim number of what it does know of.

    After a claim whose answer was lost: nothing of it has begun.
    """
    claims: list[tuple[str, int]] = yield from claims_of(k, consumer)
    # Newest first: each goes to the front of the queue, so the oldest is the first to go again.
    strays = sorted((pair for pair in claims if pair not in known), key=lambda pair: -pair[1])
    for start in range(0, len(strays), PAGE):
        releases = [op.Outcome(i, n, "release") for i, n in strays[start : start + PAGE]]
        yield op.settle(k, consumer, releases)
    return len(strays)


def expire_leases(k: Keys, consumer: str) -> Flow[int]:
    """End the leases of a consumer that is gone, so that they are reclaimed now; return how many.

    Each is charged as a crash, as any lease that runs out: perhaps it was the job that killed it.
    """
    claims: list[tuple[str, int]] = yield from claims_of(k, consumer)
    for start in range(0, len(claims), PAGE):
        yield op.extend(k, consumer, claims[start : start + PAGE], lease_ms=0)
    return len(claims)


def disconnect(label: str) -> Flow[None]:
    """Close all connections of this name: of a process that is dead, whose host does not know yet."""
    clients: list[dict[str, str]] = yield op.clients()
    for client in clients:
        if client.get("name") == label:
            yield op.command("CLIENT", "KILL", "ID", client["id"], parse=bool)
