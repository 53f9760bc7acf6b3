"""The dispatcher: takes a claimed job through this process, from its arrival to its outcome.

All of it on the event loop, except what the lease keeper's thread calls too, and says so. Nothing here
talks to Redis: what it has to be told is noted in the claims, and the batcher sends it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from headrace.clock import monotonic
from headrace.consumer import outcomes, record, report, timeliness
from headrace.consumer.claimed import ClaimedJob, read
from headrace.consumer.claims import Claims
from headrace.consumer.executor import Executor
from headrace.consumer.run import End, Failure, failure
from headrace.consumer.slots import Slots
from headrace.context import StopReason, is_final
from headrace.hooks import ConsumerHooks
from headrace.keys import Keys
from headrace.operations import AdoptAnswer, Outcome
from headrace.run_limits import NO_LIMITS
from headrace.task import Task
from headrace.timings import Recorder


class Dispatcher:
    """Takes the claimed jobs of one consumer from slot to outcome.

    Args:
        tasks: the tasks that are known here.
        claims: its claims.
        slots: its slots.
        policy: what outcomes go by.
        isolation: runs suspects.
        wake: set when there is something for the batcher to do.

    Attributes:
        claims, slots, policy: the same.
        hooks: what hooks need of it.
        closing: nothing starts any more.
        timings: counts them when they have ended.
    """

    def __init__(
        self,
        tasks: Mapping[str, Task[Any, Any]],
        claims: Claims,
        slots: Slots,
        *,
        policy: outcomes.OutcomePolicy,
        isolation: outcomes.Isolation,
        wake: asyncio.Event,
    ) -> None:
        self._tasks = tasks
        self.claims = claims
        self.slots = slots
        self.policy = policy
        self._wake = wake
        self._loop = asyncio.get_running_loop()
        self.hooks: ConsumerHooks = ConsumerHooks(
            self._lend, tasks
        )  # before the executor copies this context
        self._executor = Executor(self._finished, self._take_back, slots.concurrency, isolation)
        self._starting = self._filling = self.closing = False
        self.timings: Recorder = Recorder(policy.now_ms)

    @property
    def lost_threads(self) -> int:
        """How many threads were given up with their jobs, and have not ended since."""
        return self._executor.lost_threads

    # — they come —

    def arrive(self, raw: bytes, k: Keys, number: int, leased_until: float, *, moved: bool) -> None:
        """Take a claimed job.

        Args:
            raw: its bytes in processing.
            k: its queue's keys.
            number: its claim number.
            leased_until: until when nobody else gets it (monotonic); 0 when that is not known.
            moved: it came by a blocking move, and Redis does not know whose it is.
        """
        claimed = read(raw, k, number, tasks=self._tasks, leased_until=leased_until, moved=moved)
        if moved and claimed.unrunnable is None and (self.closing or self.slots.free <= 0):
            claimed.unrunnable = "no_slot"
        lost = self.claims.register(claimed)
        if lost is not None:
            self.lose(lost)
        if claimed.owned:
            self._admit(claimed)
        elif claimed.suspect:
            self._welcome(claimed)
        # Else it does not start yet: a task that keeps the loop to itself would keep the adoption
        # from being sent.

    def take_moved(self, k: Keys, raw: bytes, leased_until: float) -> None:
        """Take a job that came by a blocking move."""
        self.arrive(raw, k, self.claims.numbers(1), leased_until, moved=True)

    def may_begin(self, claimed: ClaimedJob) -> bool:
        """Whether a job may start as soon as its adoption is sent, without waiting for the answer."""
        return not (
            claimed.phase != "arrived"
            or claimed.unrunnable is not None
            or claimed.suspect
            or self.closing
            or monotonic() >= claimed.leased_until
            or claimed.freed_key  # first it has to be free
        )

    def begin(self, adoptions: Sequence[ClaimedJob]) -> None:
        """Start jobs whose adoptions are on their way; what becomes of them is told after the answer."""
        for claimed in filter(self.may_begin, adoptions):
            self._admit(claimed)
        if adoptions and self._starting:
            self._start()

    def adopted(self, claimed: ClaimedJob, answer: AdoptAnswer, leased_until: float) -> None:
        """Take Redis' answer to an adoption."""
        whose = self.claims.adopted(claimed, answer, leased_until)
        if whose == "ours" and claimed.phase == "arrived":
            self._admit(claimed)
        elif whose == "lost":
            report.not_ours(claimed, answer)
            self.lose(claimed)

    def _admit(self, claimed: ClaimedJob) -> None:
        """Let a job run that is ours; tell Redis why, if it cannot."""
        # The answer may have come so late that it is another's by now.
        too_late = monotonic() >= claimed.leased_until
        if claimed.unrunnable is None and (too_late or self.closing or not self._welcome(claimed)):
            claimed.unrunnable = "no_slot"
        if claimed.unrunnable is None:
            self.slots.enqueue(claimed)
            if not self._starting:
                # Not before all of one claim are here: there may be a suspect among them.
                self._starting = True
                self._loop.call_soon(self._start)
        else:
            self._refuse(claimed)

    def _refuse(self, claimed: ClaimedJob) -> None:
        outcome = outcomes.of_unrunnable(claimed, self.policy)
        report.unrunnable(claimed, outcome)
        self._settle(claimed, outcome)

    def _welcome(self, claimed: ClaimedJob) -> bool:
        """Make room for a suspect; False if there is one, and this job has to go back."""
        before = self.slots.suspect
        welcome = self.slots.take(claimed)
        if before is None and claimed.suspect:
            report.suspected(claimed, welcome=welcome)
            self.give_back_ready()
        return welcome

    # — they run —

    def _start(self) -> None:
        self._starting = False
        self._fill(in_turn=self._executor.quick)

    def _lend(self, slots: int) -> None:
        """Let so many more jobs run than there are slots: so many wait for others, to run in one call."""
        self.slots.lent += slots
        self._wake.set()
        self._fill()

    def _take_back(self, jobs: list[ClaimedJob]) -> None:
        """Keep jobs until there is a slot: no thread had time. One may be free again by now."""
        self.slots.returned(jobs)
        self._fill()

    def _fill(self, *, in_turn: bool = False) -> None:
        if self._filling:
            return  # a job has ended while it was started: whoever did so goes on
        self._filling = True
        try:
            while (claimed := self.slots.next(in_turn=in_turn)) is not None:
                self._launch(claimed)
        finally:
            self._filling = False

    def _launch(self, claimed: ClaimedJob) -> None:
        assert claimed.task is not None
        assert claimed.decoded is not None
        expires = claimed.decoded.expires_at is not None
        if expires and timeliness.has_expired(claimed, self.policy):
            self.slots.unused(claimed)
            self._refuse(claimed)
            return
        config = claimed.task.config
        timeout_s = claimed.decoded.timeout or config.timeout_s
        if claimed.decoded.soft_timeout or config.limits is not NO_LIMITS:
            timeout_s = timeliness.first_s(claimed)
        if timeout_s and timeout_s > 0:
            claimed.deadline = monotonic() + timeout_s
        claimed.alone = config.limits.isolated or claimed.suspect
        self._executor.start(claimed)

    def _finished(self, claimed: ClaimedJob, value: Any, error: BaseException | None) -> None:
        if claimed not in self.slots.running:
            return  # given back while it ran
        self.slots.ended(claimed)
        if claimed.phase == "lost":
            claimed.phase = "gone"
            self._wake.set()
        else:
            self._judge(claimed, value, error)
        if self.slots.ready:
            self._start()

    def _judge(self, claimed: ClaimedJob, value: Any, error: BaseException | None) -> None:
        try:
            if isinstance(value, outcomes.IsolatedOutcome):  # it was judged where it ran
                outcome, error = value.outcome, value.error
            elif isinstance(error, outcomes.ProcessDied):
                outcome = outcomes.of_death(claimed, error, self.policy)
            else:
                end: End = failure(claimed, error) if error is not None else value
                outcome = outcomes.of_run(claimed, end, self.policy)
                error = end.error if isinstance(end, Failure) else None
            if outcome.result or outcome.verb == "retry":
                outcome = record.with_run(claimed, outcome, error, self.policy)
        except Exception as problem:  # whatever it is, it keeps no job here for ever
            outcome, error = outcomes.unjudged(claimed, problem, self.policy), problem
        self._settle(claimed, outcome)
        report.ended(claimed, outcome, error, self.hooks)

    def _settle(self, claimed: ClaimedJob, outcome: Outcome) -> None:
        self.claims.settle(claimed, outcome)
        self._left(claimed)
        self.timings.note(claimed, outcome.verb)

    # — they are told to end —

    def stop(self, claimed: ClaimedJob, reason: StopReason) -> None:
        """Tell a job that it should end. Safe from any thread."""
        context = claimed.context
        if context is None or is_final(context.stop_reason):
            return
        context.stop_reason = reason
        self._call(self._stopped, claimed, reason)

    def lose(self, claimed: ClaimedJob) -> None:
        """Give up a job that another consumer has, or may have, by now. Safe from any thread."""
        self.stop(claimed, "lost")
        self._call(self._forget, claimed)

    def release(self, claimed: ClaimedJob, job_id: str) -> None:
        """Give back a lease that came after its job had ended or was given up. Safe from any thread."""
        self._call(self.claims.release, claimed, job_id)
        self._call(self._wake.set)

    def _call(self, function: Callable[..., None], *args: Any) -> None:
        # When the loop is closed, the process ends.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *args)

    def _stopped(self, claimed: ClaimedJob, reason: StopReason) -> None:
        if claimed.phase == "running":
            report.stopped(claimed, reason)
            self._executor.cancel(claimed)
        elif claimed.phase == "ready":
            self.slots.ready.remove(claimed)
            self._judge(claimed, None, asyncio.CancelledError())

    def _forget(self, claimed: ClaimedJob) -> None:
        """Forget a claim that is not ours any more; what still runs of it changes nothing."""
        if claimed.phase == "ready":
            self.slots.ready.remove(claimed)
        runs = claimed.phase in ("running", "lost")
        claimed.phase = "lost" if runs else "gone"
        self.claims.lose(claimed)
        self._left(claimed)

    def _left(self, claimed: ClaimedJob) -> None:
        if self.slots.suspect is claimed:
            self.slots.suspect = None
        self._wake.set()

    def look_at_the_clock(self, *, again: bool) -> None:
        """Find jobs that ran out of time or are held up; ``again``: cancel once more who did not end."""
        now = monotonic()
        for claimed in list(self.slots.running):
            if claimed.deadline is not None and now > claimed.deadline:
                self.stop(claimed, timeliness.passed(claimed))
            stopping = claimed.context is not None and is_final(claimed.context.stop_reason)
            if again and stopping:
                self._executor.cancel(claimed)
            if stopping and (error := self._executor.insist(claimed, now)) is not None:
                self._finished(claimed, None, error)
        if not self._starting:  # else what has just come has had no chance to start
            self._give_back(self.slots.held_up())
        if self.slots.wary:  # its time may have come
            self._start()
            self._wake.set()

    # — the consumer ends —

    def give_back_ready(self) -> None:
        """Release the jobs that have not started."""
        self._give_back(self.slots.empty())

    def end_grace(self, *, at_once: bool) -> None:
        """End the grace period: async tasks are cancelled, threads are left behind and released.

        Args:
            at_once: leave behind, too, what did not end when it was cancelled, and processes.
        """
        for claimed in sorted(self.slots.running, key=lambda claimed: -claimed.number):
            self.stop(claimed, "shutdown")
            if (claimed.async_run is None and not claimed.alone) or at_once:
                self._executor.cancel(claimed)
                self.slots.running.discard(claimed)
                if claimed.phase == "running":
                    report.stopped(claimed, "shutdown")
                    self._give_back([claimed])

    def close(self) -> None:
        """Let the threads end, and what runs on the loop although nobody waits for it any more."""
        for claimed in self.slots.running:
            self._executor.cancel(claimed)
        self._executor.close()

    def _give_back(self, jobs: Sequence[ClaimedJob]) -> None:
        for claimed in jobs:
            self._settle(claimed, Outcome(claimed.head.id, claimed.number, "release"))
