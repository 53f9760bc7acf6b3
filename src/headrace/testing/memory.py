"""The queues of a test, in memory: where each job is, under a clock that only the test moves.

What a job becomes is decided by the product (``consumer.outcomes``); here it is only put there. Of the
protocol there is what one consumer without faults can see of it. ``tests/integration/testing`` holds the
answers against those of a real server.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from heapq import heappop, heappush
from typing import Any, Final

from headrace import results, wire
from headrace.clock import now_ms
from headrace.errors import QueueFull
from headrace.handoff import FollowUp
from headrace.keys import keys_of
from headrace.operations import Outcome
from headrace.operations.tracking import CANCEL_REQUEST_TTL_MS
from headrace.policy import LeasePolicy
from headrace.producer import Call
from headrace.task import Task
from headrace.testing.flows import MemoryFlows
from headrace.testing.recorded import Recorded, Stage, recorded
from headrace.unique import REPLACING
from headrace.workflows.commit import Commit
from headrace.workflows.handing import START, begun

_WAITS: Final = frozenset({"retry", "park", "release"})
_ENDS: Final[Mapping[str, Stage]] = {
    "done": "done",
    "dead": "dead",
    "drop": "dropped",
    "cancel": "cancelled",
}


class Memory:
    """All jobs of a test.

    Attributes:
        jobs: in the order in which they were accepted.
        now_ms: the instant, ms since 1970: that of the start, and what the test has added.
        max_pending: refuse jobs for a queue in which so many wait; 0 for never.
        flows: the workflows.
    """

    def __init__(self, tasks: Mapping[str, Task[Any, Any]], max_pending: int = 0) -> None:
        self.lock: AbstractContextManager[Any] = threading.RLock()
        self.jobs: list[Recorded] = []
        self.max_pending = max_pending
        self._tasks = tasks
        self.now_ms: int = now_ms()
        self._began_ms = self.now_ms
        self._keys: dict[tuple[str, str], tuple[Recorded, int]] = {}  # until when, ms; 0: its end
        # What waits, by what goes first. Each has its turn beside it: when the job has another one by
        # now, the entry is of before.
        self._ready: list[tuple[tuple[int, int, int | str], int, Recorded]] = []
        self._late: list[tuple[int, int, Recorded]] = []
        self._turn = 0
        self.flows = MemoryFlows(
            self._accept, lambda: self.now_ms, self._waiting, self._cancel_members
        )

    @property
    def ahead_ms(self) -> int:
        """How far the clock of the test is ahead of this machine's."""
        return self.now_ms - now_ms()

    # — producers —

    def accept(self, calls: Sequence[Call[Any]]) -> list[str]:
        """Accept jobs; give the id of each, which with a key may be an earlier job's.

        Raises:
            QueueFull: too many wait in a queue; nothing was accepted.
        """
        with self.lock:
            self._check_room(calls)
            return [self._accept(one) for one in calls]

    def find(self, job_id: str) -> Recorded | None:
        """Return the job of this id; the newest, if there are several."""
        with self.lock:
            return next((one for one in reversed(self.jobs) if one.id == job_id), None)

    def remembers(self, job: Recorded) -> bool:
        """Whether it is still known where a job is: not that it was cancelled, for long."""
        if job.state == "cancelled":
            return self.now_ms - job.cancelled_at_ms < CANCEL_REQUEST_TTL_MS
        return job.state not in ("done", "dropped")

    def cancel(self, job: Recorded, result_ttl_ms: int = 0) -> bool:
        """Cancel a job that waits, ask a running one to stop; False when it is over."""
        with self.lock:
            if job.over:
                return False
            job.cancelled_at_ms = self.now_ms
            if job.state == "processing":
                if job.stop is not None:
                    job.stop("cancelled")
                return True
            self._finish(job, "cancelled")
            self._tell(job, results.CANCELLED, result_ttl_ms)
            self.flows.lost(job.job, "cancelled", "it was cancelled")
            return True

    def clear(self) -> None:
        """Forget all jobs."""
        self.jobs.clear()
        self._ready.clear()
        self._late.clear()
        self._keys.clear()
        self.flows.clear()

    def _cancel_members(self, workflow_id: str) -> None:
        for job in [one for one in self.jobs if one.id.startswith(f"{workflow_id}-")]:
            self.cancel(job)

    def _waiting(self, queue: str) -> int:
        return sum(job.queue == queue and job.state in ("pending", "delayed") for job in self.jobs)

    def _check_room(self, calls: Sequence[Call[Any]]) -> None:
        for queue in {one.queue for one in calls} if self.max_pending else ():
            waiting = self._waiting(queue)
            if waiting + sum(one.queue == queue for one in calls) > self.max_pending:
                raise QueueFull(f"queue {queue!r} has {waiting} jobs waiting, which is its bound")

    def _accept(self, sent: Call[Any]) -> str:
        unique, k = (sent.queue, sent.key or ""), keys_of(sent.queue)
        if sent.key is not None:
            existing = self._existing(unique, sent.if_exists, sent.due)
            if existing is not None:
                return existing.id
        job = recorded(sent, k, self._tasks, wire.read_body(sent.job))
        if sent.key is not None:
            self._keys[unique] = job, self.now_ms + sent.key_ttl_ms if sent.key_ttl_ms else 0
        self.jobs.append(job)
        self._put(job, self._delay_ms(sent.due))
        return job.id

    def _existing(self, unique: tuple[str, str], mode: str, due: str) -> Recorded | None:
        """Return the job that keeps another one with its key out; one that is to make room does."""
        holder, until_ms = self._keys.get(unique, (None, 0))
        if holder is None or (until_ms and self.now_ms >= until_ms):
            return None
        if mode in REPLACING and holder.state not in ("pending", "delayed"):
            return None  # it runs; or it is over, and its key is held for a time
        if mode == "replace":
            self.cancel(holder)
            return None
        if mode == "debounce" and holder.state == "delayed":
            self._put(holder, max(1, self._delay_ms(due)))
        return holder

    def _delay_ms(self, due: str) -> int:
        if due.startswith("@"):
            # The test's clock stands still, and that by which the instant was made does not.
            delay_ms = int(due[1:]) - now_ms() - (self.now_ms - self._began_ms)
            return delay_ms if delay_ms > 1 else 0  # it was rounded up: what is due now, is
        return int(due[1:]) if due else 0

    # — the consumer —

    def take(self, until_ms: int) -> Recorded | None:
        """Claim the job that is to run next, or None: nothing is due. Time may pass until then."""
        with self.lock:
            while not self._ready and self._next_due_ms(until_ms + 1) <= until_ms:
                self.now_ms = self._late[0][0]
                self._promote()
            while self._ready:
                _, turn, job = heappop(self._ready)
                if job.state == "pending" and job.turn == turn:  # else it was cancelled
                    job.state = "processing"
                    return job
            return None

    def advance(self, ms: int) -> None:
        """Let time pass."""
        with self.lock:
            self.now_ms += ms
            self._promote()

    def adopted(self, job: Recorded, rewritten: bytes) -> None:
        """Note what its consumer has made of a job's bytes; a key that is no more in them is free."""
        with self.lock:
            had, job.job = job.head.key, rewritten
            if had and not job.head.key:
                self._free_key(job)

    def settle(self, job: Recorded, outcome: Outcome) -> None:
        """Put a job where its outcome says."""
        with self.lock:
            if job.cancelled_at_ms and outcome.verb in _WAITS:
                outcome = outcome._replace(verb="cancel")
            if outcome.verb == "release":
                job.job = _returned(job.job, crashes=0)
            elif outcome.job:
                job.job = outcome.job
            if outcome.verb in _WAITS:
                self._put(job, outcome.delay_ms)
            else:
                self._finish(job, _ENDS[outcome.verb])
            if isinstance(outcome.commit, Commit):
                self._commit(outcome.commit)
            elif outcome.verb in ("dead", "drop", "cancel"):
                error = wire.read_error(job.job) or wire.Error("cancelled")
                self.flows.lost(job.job, error.reason, error.message, job.queue)
            self._tell(job, outcome.result, outcome.result_ttl_ms)

    def _commit(self, commit: Commit) -> None:
        self._hand_on(commit.jobs)
        if commit.member is not None:
            self.flows.ended(commit.member, commit.value, commit.why)

    def _hand_on(self, jobs: Sequence[FollowUp]) -> None:
        for one in jobs:
            body = wire.read_body(one.job)
            if body.task == START:  # which a consumer would run at once
                self.flows.begin(begun(body.args[3]))
                continue
            head, _ = wire.split(one.job) or (wire.Head(""), b"")
            about = (one.due, head.priority, one.key or None, one.key_ttl_ms)
            self._accept(Call(one.queue, one.job_id, one.job, *about))

    def crash(self, job: Recorded) -> None:
        """Let the consumer of a job be lost: it waits again, charged, or has crashed too often."""
        with self.lock:
            job.job = _returned(job.job, crashes=1)
            if job.cancelled_at_ms:
                self._finish(job, "cancelled")
                self.flows.lost(job.job, "cancelled", "it was cancelled")
            elif job.crashes >= LeasePolicy().max_crashes:
                job.job = _letter(job, self.now_ms)
                self._finish(job, "dead")
                self.flows.lost(job.job, "crashed", "its consumers were lost", job.queue)
            else:
                self._put(job, 0)

    def _next_due_ms(self, otherwise: int) -> int:
        while self._late and self._late[0][2].turn != self._late[0][1]:
            heappop(self._late)
        return self._late[0][0] if self._late else otherwise

    def _promote(self) -> None:
        while self._next_due_ms(self.now_ms + 1) <= self.now_ms:
            self._put(heappop(self._late)[2], 0)

    def _put(self, job: Recorded, delay_ms: int) -> None:
        self._turn += 1
        job.turn = self._turn
        if delay_ms > 0:
            job.state, job.due_at_ms = "delayed", self.now_ms + delay_ms
            heappush(self._late, (job.due_at_ms, job.turn, job))
        else:
            job.state, job.due_at_ms = "pending", 0
            heappush(self._ready, (in_turn(job), job.turn, job))

    def _finish(self, job: Recorded, state: Stage) -> None:
        job.state, job.due_at_ms, job.turn = state, 0, 0
        self._free_key(job)

    def _free_key(self, job: Recorded) -> None:
        unique = job.queue, job.key or ""
        holder, until_ms = self._keys.get(unique, (None, 0))
        if holder is job and not until_ms:
            del self._keys[unique]

    def _tell(self, job: Recorded, end: bytes, ttl_ms: int) -> None:
        if ttl_ms:
            job.end, job.end_until_ms = end, self.now_ms + ttl_ms


def in_turn(job: Recorded) -> tuple[int, int, int | str]:
    """Return what a claim goes by: positive priorities, then turns, then negative priorities."""
    if not job.priority:
        return 0, 0, job.turn
    return -1 if job.priority > 0 else 1, -job.priority, job.id


def _returned(job: bytes, *, crashes: int) -> bytes:
    parts = wire.split(job)
    assert parts is not None
    head, body = parts
    return wire.join(
        head._replace(delivery=head.delivery + 1, crashes=head.crashes + crashes), body
    )


def _letter(job: Recorded, failed_at: int) -> bytes:
    parts = wire.split(job.job)
    assert parts is not None
    message = f"its consumer was lost {job.crashes} times while it ran"
    error = wire.Error("crashed", message=message, failed_at=failed_at, consumer="testing")
    return wire.letter(parts[0], parts[1], error)
