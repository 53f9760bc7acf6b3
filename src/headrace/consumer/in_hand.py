"""The jobs in hand: what happens to a claimed job inside this process, from its arrival to its outcome.

All of it on the event loop, except ``stop``, which the lease keeper's thread calls too. Nothing here
talks to Redis: outcomes go to the outbox, adoptions to the list of adoptions, and the feed sends them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from headrace.clock import monotonic
from headrace.consumer import report, verdict
from headrace.consumer.cell import Cell
from headrace.consumer.claimed import Claimed, read
from headrace.consumer.ending import End, Failure, failure
from headrace.consumer.holdings import Holdings
from headrace.consumer.outbox import Outbox
from headrace.consumer.runner import Runner
from headrace.consumer.slots import Slots
from headrace.consumer.verdict import Bench
from headrace.context import StopReason
from headrace.keys import Keys
from headrace.operations import AdoptAnswer, Outcome, Verb
from headrace.task import Task


class JobsInHand:
    """The claimed jobs of one consumer.

    Args:
        tasks: the tasks that are known here.
        holdings: its claims.
        slots: its slots.
        bench: what verdicts need.
        changed: told when there is something for the feed to do.
    """

    def __init__(
        self,
        tasks: Mapping[str, Task[Any, Any]],
        holdings: Holdings,
        slots: Slots,
        bench: Bench,
        changed: Callable[[], None],
    ) -> None:
        self._tasks = tasks
        self._holdings = holdings
        self._slots = slots
        self._bench = bench
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._cell = Cell(bench)
        self._runner = Runner(self._finished, self._take_back, slots.concurrency, self._cell.run)
        self._starting = self._filling = self.closing = False
        self.outbox = Outbox()
        self.adoptions: dict[Claimed, None] = {}  # in order: the feed has to send them
        self._untold: dict[Claimed, Outcome] = {}  # they ended before Redis said that they are ours
        self.ends: Counter[Verb] = Counter()  # how often what became of a job

    @property
    def anything_to_send(self) -> bool:
        """Whether the feed has something to tell Redis."""
        return bool(self.adoptions or self.outbox)

    @property
    def empty(self) -> bool:
        """Whether nothing is in hand and nothing is left to tell."""
        return not (self._slots.in_hand or self.anything_to_send)

    @property
    def lost_threads(self) -> int:
        """How many threads were given up with their jobs, and have not ended since."""
        return self._runner.lost_threads

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
        if moved and claimed.flaw is None and (self.closing or self._slots.free <= 0):
            claimed.flaw = "surplus"
        other = self._holdings.get(k.queue, claimed.head.id)
        if other is not None and not claimed.owned:
            claimed.renamed()  # somebody enqueued two jobs with one id
        elif other is not None and other.owned:
            self.lose(other)  # Redis gave the id away again, to this one
        elif other is not None:
            self._rename(other)
        self._holdings.add(claimed)
        if claimed.owned:
            self._admit(claimed)
        else:
            if claimed.suspect:
                self._welcome(claimed)
            # It does not start yet: a task that keeps the loop to itself would keep the adoption
            # from being sent.
            self.adoptions[claimed] = None
            self._slots.waiting.add(claimed)

    def may_begin(self, claimed: Claimed) -> bool:
        """Whether a job may start as soon as its adoption is sent, without waiting for the answer."""
        return not (
            claimed.begun
            or claimed.flaw is not None
            or claimed.suspect
            or self.closing
            or monotonic() >= claimed.leased_until
        )

    def begin(self, adoptions: Sequence[Claimed]) -> None:
        """Start jobs whose adoptions are on their way; what becomes of them is told after the answer."""
        for claimed in filter(self.may_begin, adoptions):
            claimed.begun = True
            self._slots.waiting.discard(claimed)
            self._admit(claimed)
        if adoptions and self._starting:
            self._start()

    def adopted(self, claimed: Claimed, answer: AdoptAnswer, leased_until: float) -> None:
        """Take Redis' answer to an adoption."""
        if answer != "ok" and claimed.kept:
            # It may be older than the lease keeper's: that lease would be left to nobody.
            claimed.kept = False
            self.adoptions[claimed] = None
            return
        if answer == "duplicate":
            self._rename(claimed)
            self.adoptions[claimed] = None
            return
        self._slots.waiting.discard(claimed)
        if answer == "ok":
            claimed.owned, claimed.leased_until = True, leased_until
            if claimed in self._untold:  # it may have got another id since it ended
                outcome = self._untold.pop(claimed)._replace(job_id=claimed.head.id)
                self.outbox.add(claimed, outcome)
            elif not claimed.begun:
                self._admit(claimed)
        else:
            report.not_ours(claimed, answer)
            self.lose(claimed)

    def _rename(self, claimed: Claimed) -> None:
        """Give a job that Redis does not know as ours yet another id."""
        self._holdings.remove(claimed)
        claimed.renamed()
        self._holdings.add(claimed)

    def _admit(self, claimed: Claimed) -> None:
        """Let a job run that is ours; tell Redis why, if it cannot."""
        # The answer may have come so late that it is another's by now.
        too_late = monotonic() >= claimed.leased_until
        if claimed.flaw is None and (too_late or self.closing or not self._welcome(claimed)):
            claimed.flaw = "surplus"
        if claimed.flaw is None:
            self._slots.ready.append(claimed)
            if not self._starting:
                # Not before all of one claim are here: there may be a suspect among them.
                self._starting = True
                self._loop.call_soon(self._start)
        else:
            outcome = verdict.of_flaw(claimed, self._bench)
            report.flawed(claimed, outcome)
            self._settle(claimed, outcome)

    def _welcome(self, claimed: Claimed) -> bool:
        """Make room for a suspect; answers False when there is one, and this job has to go back."""
        before = self._slots.suspect
        welcome = self._slots.take(claimed)
        if before is None and claimed.suspect:
            report.suspected(claimed, welcome=welcome)
            self.give_back_ready()
        return welcome

    # — they run —

    def _start(self) -> None:
        self._starting = False
        self._fill(self._runner.ahead)

    def _take_back(self, jobs: list[Claimed]) -> None:
        """Keep jobs until there is a slot: no thread had time. One may be free again by now."""
        self._slots.returned(jobs)
        self._fill()

    def _fill(self, ahead: int = 0) -> None:
        if self._filling:
            return  # a job has ended while it was started: whoever did so goes on
        self._filling = True
        try:
            while (claimed := self._slots.next(ahead)) is not None:
                self._launch(claimed)
        finally:
            self._filling = False

    def _launch(self, claimed: Claimed) -> None:
        assert claimed.task is not None
        assert claimed.call is not None
        timeout_s = claimed.call.timeout or claimed.task.config.timeout_s
        if timeout_s and timeout_s > 0:
            claimed.deadline = monotonic() + timeout_s
        claimed.alone = claimed.suspect
        self._runner.start(claimed)

    def _finished(self, claimed: Claimed, value: Any, error: BaseException | None) -> None:
        if claimed not in self._slots.running:
            return  # given back while it ran
        self._slots.ended(claimed)
        if claimed.abandoned:
            self._changed()
        else:
            self._judge(claimed, value, error)
        if self._slots.ready:
            self._start()

    def _judge(self, claimed: Claimed, value: Any, error: BaseException | None) -> None:
        try:
            if isinstance(value, verdict.Answer):  # it was judged where it ran
                outcome, error = value.outcome, value.error
            elif isinstance(error, verdict.ProcessDied):
                outcome = verdict.of_death(claimed, error, self._bench)
            else:
                end: End = failure(claimed, error) if error is not None else value
                outcome = verdict.of_run(claimed, end, self._bench)
                error = end.error if isinstance(end, Failure) else None
        except Exception as problem:  # whatever it is, it keeps no job here for ever
            outcome, error = verdict.unjudged(claimed, problem, self._bench), problem
        self._settle(claimed, outcome)
        report.ended(claimed, outcome, error)

    def _settle(self, claimed: Claimed, outcome: Outcome) -> None:
        self.ends[outcome.verb] += 1
        if claimed.owned:
            self.outbox.add(claimed, outcome)
        else:
            self._untold[claimed] = outcome
            self._slots.waiting.add(claimed)
        self._left(claimed)

    # — they are told to end —

    def stop(self, claimed: Claimed, reason: StopReason) -> None:
        """Tell a job that it should end. Safe from any thread."""
        context = claimed.context
        if context is None or context.stop_reason is not None:
            return
        context.stop_reason = reason
        self._call(self._stopped, claimed, reason)

    def lose(self, claimed: Claimed) -> None:
        """Give up a job that another consumer has, or may have, by now. Safe from any thread."""
        self.stop(claimed, "lost")
        self._call(self._disown, claimed)

    def release(self, claimed: Claimed, job_id: str) -> None:
        """Give back a lease that came after its job had ended or was given up. Safe from any thread."""
        # It comes after the job's own outcome, and changes nothing if that was in time.
        self._call(self.outbox.add, claimed, Outcome(job_id, claimed.number, "release"))
        self._call(self._changed)

    def _call(self, function: Callable[..., None], *args: Any) -> None:
        # When the loop is closed, the process ends.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *args)

    def _stopped(self, claimed: Claimed, reason: StopReason) -> None:
        if claimed.abandoned:
            return
        if claimed in self._slots.running:
            report.stopped(claimed, reason)
            self._runner.cancel(claimed)
        elif claimed in self._slots.ready:
            self._slots.ready.remove(claimed)
            self._judge(claimed, None, asyncio.CancelledError())

    def _disown(self, claimed: Claimed) -> None:
        """Forget a claim that is not ours any more; what still runs of it changes nothing."""
        claimed.abandoned = True
        self._holdings.remove(claimed)
        self._slots.waiting.discard(claimed)
        self._untold.pop(claimed, None)
        if claimed.kept:  # since the loop was told that it is not ours: see the lease keeper
            self.release(claimed, claimed.head.id)
        self._left(claimed)

    def _left(self, claimed: Claimed) -> None:
        if self._slots.suspect is claimed:
            self._slots.suspect = None
        self._changed()

    def look_at_the_clock(self, *, again: bool) -> None:
        """Find jobs that ran out of time or are held up; ``again``: cancel once more who did not end."""
        now = monotonic()
        for claimed in list(self._slots.running):
            if claimed.deadline is not None and now > claimed.deadline:
                self.stop(claimed, "timeout")
            stopping = claimed.context is not None and claimed.context.stop_reason is not None
            if again and stopping:
                self._runner.cancel(claimed)
            if stopping and (error := self._runner.insist(claimed, now)) is not None:
                self._finished(claimed, None, error)
        if not self._starting:  # else what has just come has had no chance to start
            self._give_back(self._slots.held_up())
        if self._slots.wary:  # its time may have come
            self._start()
            self._changed()

    # — the consumer ends —

    def give_back_ready(self) -> None:
        """Release the jobs that have not started."""
        self._give_back(self._slots.empty())

    def end_grace(self, *, at_once: bool) -> None:
        """End the grace period: async tasks are cancelled, threads are left behind and released.

        Args:
            at_once: leave async tasks behind too, that did not end when they were cancelled.
        """
        for claimed in sorted(self._slots.running, key=lambda claimed: -claimed.number):
            self.stop(claimed, "shutdown")
            if claimed.runner is None or at_once:
                self._runner.cancel(claimed)
                self._slots.running.discard(claimed)
                if not claimed.abandoned:
                    claimed.abandoned = True
                    report.stopped(claimed, "shutdown")
                    self._give_back([claimed])

    def close(self) -> None:
        """Let the threads end, and what runs on the loop although nobody waits for it any more."""
        for claimed in self._slots.running:
            self._runner.cancel(claimed)
        self._runner.close()
        self._cell.close()

    def _give_back(self, jobs: Sequence[Claimed]) -> None:
        for claimed in jobs:
            self._settle(claimed, Outcome(claimed.head.id, claimed.number, "release"))
