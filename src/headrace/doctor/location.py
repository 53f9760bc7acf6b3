"""Looks for one job wherever it can be, and at what decides when it runs. Nothing is changed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import msgspec

from headrace import operations as op
from headrace import results, wire
from headrace.doctor import connections, places
from headrace.doctor.connections import Connections
from headrace.doctor.places import PLACES, Place, Read, holder_of, instant_of
from headrace.errors import StoreError
from headrace.flows import Flow
from headrace.keys import CONSUMERS, Keys, keys_of
from headrace.lanes import operations as lanes
from headrace.lanes.operations import Wait
from headrace.moving import moving_of
from headrace.operations import Operation, Snapshot
from headrace.reports import Progress, progress
from headrace.workflows.keys import workflow_keys
from headrace.workflows.member import of_job_id
from headrace.workflows.workflow import WorkflowStatus, status_of

State: TypeAlias = Literal[
    "pending",
    "priority",
    "limited",
    "delayed",
    "processing",
    "dead",
    "ended",
    "cancelled",
    "unknown",
    "waiting",
    "moving",
]
_read_id = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim on a job.

    Attributes:
        consumer: whose it is; "" if nobody's: the sweep gave the lease.
        lease_ends_ms: when its lease ends; None if it has none.
        present: whether the claimed bytes are in processing.
        seen: whether the leader has seen its consumer connected, and so would notice that it is gone.
    """

    consumer: str
    lease_ends_ms: int | None
    present: bool
    seen: bool


@dataclass(frozen=True, slots=True)
class Location:
    """Where a job is, and what stands around it.

    Attributes:
        job_id: the job's id.
        state: where it is; ``ended``: its end is kept; ``waiting``: for others of its workflow;
            ``moving``: to another server.
        snapshot: its queue.
        leader: who sweeps and promotes; "" if nobody.
        connections: who is connected.
        job: its bytes; b"" where none are known.
        position: its place among the jobs that wait, from 1; None if it is not one of them.
        looked_at: how many jobs were read to find it, or not to.
        complete: False when more jobs are there than may be read.
        due_at_ms: when a delayed one is due.
        claim: the claim on it; None if there is none.
        stop: whether somebody asked it to stop.
        end: how it ended, encoded; b"" if it is not kept.
        end_ttl_s: for how long that is kept; None for ever.
        workflow: how far its workflow is; None if it is no member, or its home is elsewhere.
        waits_for: for how many other members it waits.
        progress: how far a claimed one is, as it tells itself; None if it does not.
        wait: why it waits in a lane; None if it does not.
    """

    job_id: str
    state: State
    snapshot: Snapshot
    leader: str
    connections: Connections
    job: bytes = b""
    position: int | None = None
    looked_at: int = 0
    complete: bool = True
    due_at_ms: int | None = None
    claim: Claim | None = None
    stop: bool = False
    end: bytes = b""
    end_ttl_s: float | None = None
    workflow: WorkflowStatus | None = None
    waits_for: int = 0
    progress: Progress | None = None
    wait: Wait | None = None

    @property
    def head(self) -> wire.Head:
        """The first fields of its bytes; those of a job without an id where they are not in front."""
        return (wire.split(self.job) or (wire.Head(""), b""))[0]

    @property
    def body(self) -> wire.Body | None:
        """What follows; None where a consumer could not read it."""
        try:
            return wire.read_body(self.job)
        except Exception:  # whatever decoding raises
            return None

    def left_s(self, at_ms: int) -> float:
        """Return how long it is until an instant by Redis' clock, seconds; below 0 if it is over."""
        return (at_ms - self.snapshot.now_ms) / 1000


def locate(queue: str, job_id: str, *, most: int) -> Flow[Location]:
    """Look for a job in a queue, reading up to so many jobs of each place.

    Raises:
        StoreError: the queue cannot be read.
    """
    k = keys_of(queue)
    stopping = op.command("ZSCORE", k.cancelled, job_id, parse=_is_there)
    snapshot, stop = op.unfailed((yield [op.snapshot(k), stopping]))
    leader, connected = yield from connections.look()
    start = Location(job_id, "unknown", snapshot, leader, connected, stop=stop)
    found: Location = yield from _once(k, start, most)
    if found.state == "unknown":  # a job that moves between two reads is missed once
        found = yield from _once(k, start, most)
    return (yield from _in_its_workflow(k, found))


def _in_its_workflow(k: Keys, found: Location) -> Flow[Location]:
    """Look at the workflow of a member, if it is at home here."""
    of = of_job_id(found.job_id)
    status = (yield from status_of(k, of[0])) if of else None
    if of is None or status is None or status.state == "unknown":
        return found
    hash_, ended = workflow_keys(k, of[0])[:2]
    need, over = yield [
        op.command("HGET", hash_, f"need:{of[1]}", parse=lambda raw: int(raw or 0)),
        op.command("GETBIT", ended, of[1], parse=bool),
    ]
    state = found.state
    if state == "unknown" and not over and status.state in ("running", "failed"):
        state = "waiting"
    return replace(found, state=state, workflow=status, waits_for=need)


def _once(k: Keys, start: Location, most: int) -> Flow[Location]:
    claimed: Location | None = yield from _claimed(k, start)
    if claimed is not None:
        return claimed
    wait: Wait | None = yield lanes.why(k, start.job_id)
    if wait is not None:
        return replace(start, state="limited", job=wait.job, wait=wait)
    key = k.result(start.job_id)
    end, ttl_ms = op.unfailed(
        (yield [_plain("LINDEX", key, 0), op.command("PTTL", key, parse=int)])
    )
    if end is not None:
        start = replace(start, end=end, end_ttl_s=None if ttl_ms < 0 else ttl_ms / 1000)
        if results.state_of(end) != "dead":
            return replace(start, state="ended")
    # Also one that is dead by its end: its letter says more, and it may have been put back.
    found: Location = yield from _search(k, start, most)
    if found.state != "unknown":
        return found
    if found.end:
        return replace(found, state="ended")
    return replace(found, state="cancelled") if found.stop else found


def _claimed(k: Keys, start: Location) -> Flow[Location | None]:
    value, ends = yield [
        _plain("HGET", k.claims, start.job_id),
        op.command("ZSCORE", k.leases, start.job_id, parse=lambda raw: raw and instant_of(raw)),
    ]
    if not isinstance(value, bytes):
        return None
    job, consumer = value.partition(b" ")[2], holder_of(value)
    present, seen, told = yield [
        op.command("LPOS", k.processing, job, parse=_is_there),
        op.command("HEXISTS", CONSUMERS, consumer, parse=bool),
        progress.read(k, [start.job_id]),
    ]
    claim = Claim(consumer, ends, present is True, seen is True)
    found = None if isinstance(told, StoreError) else told[0]
    return replace(start, state="processing", job=job, claim=claim, progress=found)


def _search(k: Keys, start: Location, most: int) -> Flow[Location]:
    """Read every place until the job is found."""
    looked_at, complete = 0, True
    for place in PLACES:
        read: Read = yield from places.read(k, place, most, lambda job: _is(job, start.job_id))
        looked_at, complete = looked_at + read.jobs, complete and read.complete
        if read.found is not None:
            job, due_ms = read.found
            position = yield from _position(k, place, read.jobs, start.snapshot.pending)
            return replace(
                start, state=place, job=job, due_at_ms=due_ms, position=position,
                looked_at=looked_at, complete=complete,
            )  # fmt: skip
    moving = yield op.peek(moving_of(k), 1, -1)  # its first element is the batch's name
    for entry in moving:
        job = entry.split(b" ", 2)[-1]
        if _is(job, start.job_id):
            return replace(start, state="moving", job=job, looked_at=looked_at)
    return replace(start, looked_at=looked_at, complete=complete)


def _position(k: Keys, place: Place, number: int, pending: int) -> Flow[int | None]:
    """Return which of all jobs that wait the first, second, … of a place is."""
    if place not in ("pending", "priority"):
        return None
    before: int = yield op.command("ZCOUNT", k.priority, "-inf", "(0", parse=int)
    if place == "pending":
        return before + number
    return number if number <= before else number + pending  # below 0 they go after the list


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


def _plain(*words: str | int) -> Operation[Any]:
    return op.command(*words, parse=lambda raw: raw)


def _is_there(raw: Any) -> bool:
    return raw is not None
