"""Looks for one job wherever it can be, and at what decides when it runs. Nothing is changed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import msgspec

from headrace import operations as op
from headrace import results, wire
from headrace.doctor import connections
from headrace.doctor.census import FIRST_STEP, next_step, step_of
from headrace.doctor.connections import Connections
from headrace.doctor.places import PLACES, SORTED, Place
from headrace.errors import StoreError
from headrace.flows import Flow
from headrace.keys import CONSUMERS, Keys, keys_of
from headrace.operations import Snapshot

State: TypeAlias = Literal[
    "pending", "priority", "delayed", "processing", "dead", "ended", "cancelled", "unknown"
]
_read_id = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where a job is, and what stands around it.

    Attributes:
        job_id: the job's id.
        state: where it is; ``ended``: its end is kept.
        snapshot: its queue.
        job: its bytes; b"" where none are known.
        index: how many jobs of its place go before it; in priority: by rank.
        looked_at: how many jobs were read to find it, or not to.
        complete: False when more jobs are there than may be read.
        before: of the prioritised jobs, how many go before those of the list.
        due_at_ms: when a delayed one is due.
        token: whose the claim is: ``consumer:number``, ``-`` the sweep's, "" if nobody's.
        lease_ends_ms: when its lease ends; None it has none.
        present: whether the claimed bytes are in processing.
        seen: whether the leader has seen its consumer connected, and so would notice that it is gone.
        stop: whether somebody asked it to stop.
        end: how it ended, encoded; b"" if it is not kept.
        end_ttl_s: for how long that is kept; None for ever.
        leader: who sweeps and promotes; "" if nobody.
        connections: who is connected; None if unknown.
    """

    job_id: str
    state: State
    snapshot: Snapshot
    job: bytes = b""
    index: int = 0
    looked_at: int = 0
    complete: bool = True
    before: int = 0
    due_at_ms: int | None = None
    token: str = ""
    lease_ends_ms: int | None = None
    present: bool = True
    seen: bool = False
    stop: bool = False
    end: bytes = b""
    end_ttl_s: float | None = None
    leader: str = ""
    connections: Connections | None = None


def look(queue: str, job_id: str, *, most: int) -> Flow[Whereabouts]:
    """Look for a job in a queue, reading up to so many jobs of each place.

    Raises:
        StoreError: the queue cannot be read.
    """
    k = keys_of(queue)
    answers: list[Any] = yield [
        op.snapshot(k),
        op.command("ZCOUNT", k.priority, "-inf", "(0", parse=int),
        op.command("ZSCORE", k.cancelled, job_id, parse=lambda raw: raw is not None),
    ]
    snapshot, before, stop = op.unfailed(answers)
    optional: list[Any] = yield [op.leader(), op.clients()]
    leader, clients = (None if isinstance(a, StoreError) else a for a in optional)
    start = Whereabouts(
        job_id,
        "unknown",
        snapshot,
        before=before,
        stop=stop,
        leader=leader or "",
        connections=None if clients is None else connections.read(clients),
    )
    found = start
    for _ in range(2):  # a job that moves between two reads is missed once
        found = yield from _once(k, start, most)
        if found.state != "unknown":
            break
    return found


def _once(k: Keys, start: Whereabouts, most: int) -> Flow[Whereabouts]:
    claimed: Whereabouts | None = yield from _claimed(k, start)
    if claimed is not None:
        return claimed
    end: bytes | None = yield op.command("LINDEX", k.result(start.job_id), 0, parse=lambda raw: raw)
    ended = replace(start, state="ended", end=end or b"")
    if end is not None:
        ttl_ms: int = yield op.command("PTTL", k.result(start.job_id), parse=int)
        ended = replace(ended, end_ttl_s=None if ttl_ms < 0 else ttl_ms / 1000)
        if results.state_of(end) != "dead":
            return ended
    # Also one that is dead by its end: its letter says more, and it may have been put back.
    found: Whereabouts = start
    for place in PLACES:
        found = yield from _seek(k, place, found, most)
        if found.state != "unknown":
            return found
    if end is not None:
        return replace(ended, looked_at=found.looked_at, complete=found.complete)
    return replace(found, state="cancelled") if start.stop else found


def _claimed(k: Keys, start: Whereabouts) -> Flow[Whereabouts | None]:
    value, ends = yield [
        op.command("HGET", k.claims, start.job_id, parse=lambda raw: raw),
        op.command("ZSCORE", k.leases, start.job_id, parse=lambda raw: raw and int(float(raw))),
    ]
    if not isinstance(value, bytes):
        return None
    token, _, job = value.partition(b" ")
    consumer = token.rpartition(b":")[0]
    there, seen = yield [
        op.command("LPOS", k.processing, job, parse=lambda raw: raw is not None),
        op.command("HEXISTS", CONSUMERS, consumer, parse=bool),
    ]
    return replace(
        start,
        state="processing",
        job=job,
        token=token.decode(errors="replace"),
        lease_ends_ms=ends,
        present=there is True,
        seen=seen is True,
    )


def _seek(k: Keys, place: Place, start: Whereabouts, most: int) -> Flow[Whereabouts]:
    """Read a place until the job is found."""
    index, count = 0, FIRST_STEP
    while index < most:
        asked = min(count, most - index)
        page: list[bytes] = yield step_of(k, place, index, asked)
        in_order = page if place in SORTED else page[::-1]
        for at, job in enumerate(in_order, start=index):
            if _is(job, start.job_id):
                found = replace(
                    start, state=place, job=job, index=at, looked_at=start.looked_at + at + 1
                )
                if place == "delayed":
                    score = op.command(
                        "ZSCORE", k.delayed, job, parse=lambda raw: raw and int(float(raw))
                    )
                    return replace(found, due_at_ms=(yield score))
                return found
        index += len(page)
        if len(page) < asked:
            return replace(start, looked_at=start.looked_at + index)
        count = next_step(page, count)
    return replace(start, looked_at=start.looked_at + index, complete=False)


def _is(job: bytes, job_id: str) -> bool:
    """Whether it has that id, in front or, as plain clients may write it, elsewhere."""
    if (parts := wire.split(job)) is not None:
        return parts[0].id == job_id
    if job_id.encode() not in job:
        return False
    try:
        return bool(msgspec.json.decode(_read_id(job)["id"]) == job_id)
    except Exception:  # whatever decoding raises: then it is no job, and has no id
        return False
