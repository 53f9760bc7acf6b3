"""The consumer: puts its parts together, and decides when to claim, when to wait and when to end.

    listener ─▶ dispatcher ─▶ executor    one event loop; tasks on it or in threads
                  ▲  │
      batcher ────┘  ▼
         ▲─────── claims ◀── lease keeper  a thread, for leases must not wait for the loop
                             maintenance   another one: nor must the jobs of those who are lost

While a round trip of the batcher is under way, outcomes collect; the next one carries them all and
claims for the free slots (group commit). With nothing to claim, the listener waits.

How it ends: it claims nothing more (``stop``); what has not begun goes back; what runs has its grace;
the blocking requests end, and what they brought goes back; Redis hears what it does not know; only
then the leases are left alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from headrace import forgetting
from headrace import operations as op
from headrace.app import Headrace
from headrace.clock import monotonic
from headrace.consumer import report
from headrace.consumer.admission import Admission
from headrace.consumer.batcher import Batcher
from headrace.consumer.cancellation import Cancellation
from headrace.consumer.dispatcher import Dispatcher
from headrace.consumer.leases import LeaseKeeper
from headrace.consumer.listener import Listener
from headrace.consumer.options import ConsumerOptions, QueueWeight, default_concurrency, new_name
from headrace.consumer.outcomes import Isolation, OutcomePolicy
from headrace.consumer.slots import Slots
from headrace.consumer.statistics import Statistics
from headrace.errors import StoreError
from headrace.keys import CONNECTION_PREFIX, keys_of
from headrace.maintenance import DutyMaker, MaintenanceThread
from headrace.partitions.names import split
from headrace.policy import ReconnectBackoff
from headrace.reports import Reporter
from headrace.store import AsyncStore, Store

log: logging.Logger = logging.getLogger("headrace.consumer")

# How late a timeout may be noticed; one scan for all jobs costs less than a timer for each.
_TICK_S: Final = 0.05
_CANCEL_AGAIN_S: Final = 1.0  # an async task may swallow its first cancellation
_REGISTER_EVERY_S: Final = 30.0
_FLUSH_S: Final = 5.0  # how long a consumer that ends tries to tell Redis what has ended


class Consumer:
    """Consumes queues until it is stopped.

    Args:
        app: the application whose tasks it runs.
        options: how it works.
        isolation: makes what runs its suspects.
        duties: make what it does beside the queues' upkeep, while it leads.
    """

    def __init__(
        self,
        app: Headrace,
        options: ConsumerOptions,
        isolation: Callable[[OutcomePolicy], Isolation],
        duties: Sequence[DutyMaker] = (),
    ) -> None:
        self._app = app
        self._options = options
        self._isolation = isolation
        self._duties = duties
        self.name: str = options.name or new_name()
        self._admission = Admission(app, [keys_of(queue.name) for queue in options.queues])
        self._claims = self._admission.claims
        self._queues = self._claims.queues
        self._slots = Slots(
            options.concurrency or default_concurrency(app),
            options.max_jobs,
            self._claims.unowned,
            options.lease.lease_s,
        )
        self._reconnect = ReconnectBackoff("the consumer", fetches=True)
        self._dry_at: int | None = None  # the hints before the last claim, if it came back short
        self._drained = False  # it did so while nothing was in hand that could have added work
        self._grace_until: float | None = None  # set when it is stopped
        self.stops: int = 0
        self._ends: Counter[op.Verb] = Counter()  # what had become of jobs when it was stopped
        self._grace_told = False  # that it is over
        self._failure: BaseException | None = None
        self._begun = False
        self.ready: bool = False  # it claims jobs
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Consume until ``stop`` is called, the burst is over, or ``max_jobs`` have run.

        Raises:
            Exception: a part of the consumer failed, which is a bug: better to end than to sleep
                beside work.
        """
        self._open()
        self._keeper.start()
        beside = self._maintenance.run(), self._cancellation.run(), self._admission.run()
        parts = (*beside, self._statistics.run(), self._tick(), self._stay_registered())
        background = [asyncio.create_task(part) for part in parts]
        for task in (*background, *self._listener.tasks, self._keeper.ended):
            task.add_done_callback(self._part_ended)
        try:
            try:
                await self._register()
                self.ready = True
                await self._consume()
            finally:
                await self._listener.close()
            await self._flush()
        finally:
            self._keeper.close()
            self._reporter.close()
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            self._jobs.close()
            await self._store.close()
            await self._jobs.hooks.close()
        ends = self._jobs.timings.ends
        report.over(ends, ends - self._ends)
        if self._failure is not None:
            raise self._failure

    @property
    def stopping(self) -> bool:
        """Whether it was told to end."""
        return self._grace_until is not None

    @property
    def fetching(self) -> bool:
        """Whether it asks for work: a slot is free, and it was not told to end."""
        return self._grace_until is None and self._slots.free > 0

    @property
    def finished(self) -> int:
        """How many jobs have come to an end of any kind; not those that were given back."""
        ends = self._jobs.timings.ends if self._begun else Counter()
        return ends.total() - ends["release"]

    @property
    def worn(self) -> str:
        """Why its process should be replaced, or "".

        As many threads were given up as it has slots: it holds twice the threads that it may have.
        """
        lost = self.lost_threads
        return f"{lost} threads do not end" if lost >= self._slots.concurrency else ""

    @property
    def lost_threads(self) -> int:
        """How many threads were given up, because their jobs did not end, and still run."""
        return self._jobs.lost_threads if self._begun else 0

    def stop(self) -> None:
        """Claim nothing more and end within the grace period; a second call ends at once."""
        self.stops += 1
        if self._grace_until is not None:
            self._grace_until = min(self._grace_until, monotonic())
        else:
            self._grace_until = monotonic() + self._options.grace_s
            report.stopping(len(self._slots.running), self._options.grace_s)
            if self._begun:
                self._ends = self._jobs.timings.ends
                self._jobs.closing = True
                self._jobs.give_back_ready()
                self._listener.end()
        self._wake.set()

    def consume(self, queues: Sequence[QueueWeight]) -> None:
        """Consume these queues from now on, in order or by weight: all that it had, and perhaps more."""
        new = self._claims.add([keys_of(queue.name) for queue in queues])
        self._batcher.consume(queues)
        for task in self._listener.add(new):
            task.add_done_callback(self._part_ended)
        self._listener.hint()

    def _open(self) -> None:
        options, lease = self._options, self._options.lease
        url, label = self._app.redis_url.url, f"{CONNECTION_PREFIX}{self.name}"
        self._store = AsyncStore(url, name=label)
        unknown_task_ttl_ms = round(options.unknown_task_ttl_s * 1000)
        policy = OutcomePolicy(self.name, unknown_task_ttl_ms, lease.max_crashes)
        self._jobs = Dispatcher(
            self._app.tasks,
            self._claims,
            self._slots,
            policy=policy,
            isolation=self._isolation(policy),
            wake=self._wake,
        )
        self._batcher = Batcher(self._store, options.queues, lease, self._jobs)
        self._listener = Listener(self._store, label, lease, self._jobs.take_moved, self._wake)
        self._listener.add(self._queues)
        self._admission.open(self._store, self._listener.hint, always=options.burst)
        # When an answer does not come, there is time for another try before the lease runs out.
        own = Store(url, name=label, timeout_s=min(5.0, 0.75 * lease.extend_every_s))
        self._keeper = LeaseKeeper(own, self.name, lease, self._jobs)
        soon = asyncio.get_running_loop().call_soon_threadsafe
        self._reporter = Reporter(url, label, self.name, self._claims.get, soon)
        self._maintenance = MaintenanceThread(url, label, self.name, lease, self._duties)
        self._cancellation = Cancellation(self._store, self.name, self._jobs)
        self._statistics = Statistics(self._store, self.name, self._jobs)
        self._begun = True

    async def _register(self) -> None:
        """Make the queues known, which is also the first sign of Redis."""
        while self._grace_until is None:
            try:
                await self._admission.declare()
                new = await self._store.run_all([op.register(k.queue) for k in self._queues])
            except StoreError as error:
                await self._reconnect.wait(error)
                continue
            self._reconnect.over()
            served = {task.config.queue for task in self._app.tasks.values()}
            for k, added in zip(self._queues, new, strict=True):
                if added == 1 and split(k.queue)[0] not in served:
                    report.new_queue(k)
            names = ", ".join(k.queue for k in self._queues)
            log.info("%s consumes %s; %d slots", self.name, names, self._slots.concurrency)
            return

    async def _stay_registered(self) -> None:
        """Make the queues known again and again: Redis may have been full, loading, or emptied."""
        while True:
            await asyncio.sleep(_REGISTER_EVERY_S)
            with contextlib.suppress(StoreError):  # the other parts tell of it
                known = [op.register(k.queue) for k in self._queues]
                await self._store.run_all([*known, *(forgetting.use(k) for k in self._queues)])

    def _part_ended(self, task: asyncio.Future[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """End at once: without one of its parts, nobody keeps the time or the leases."""
        if self._failure is None:
            self._failure = error
            if self._grace_until is None:
                self.stop()
            self.stop()
            self._jobs.end_grace(at_once=True)

    async def _consume(self) -> None:
        while not self._is_over():
            wanted = 0 if self._grace_until is not None else max(0, self._slots.wanted)
            alone = not self._slots.in_hand
            if not wanted or (alone and self._options.burst):
                self._dry_at = None  # when a slot is free again, there may be jobs
            hints = self._listener.hints
            # The last claim came back short, and nothing has hinted since.
            dry = self._dry_at == hints
            if not self._claims.untold and (dry or not wanted):
                if self._slots.coming:
                    self._batcher.unpack()
                else:
                    await self._wait()
                continue
            self._listener.shut()
            try:
                short = await self._trip(0 if dry else wanted)
                self._dry_at = hints if wanted and short else None
                self._drained = alone and self._dry_at == self._listener.hints
            except StoreError as error:
                self._dry_at = None
                await self._reconnect.wait(error)

    async def _trip(self, wanted: int) -> bool:
        """Make a round trip, and pass on what the queues said; whether all came short."""
        trip = await self._batcher.trip(wanted)
        for k, claim in trip.claims:
            self._listener.pause(k.queue, paused=claim.paused)
        if trip.errors:
            self._reconnect.note(trip.errors[0])
        else:
            self._reconnect.over()
        return trip.short

    async def _wait(self) -> None:
        """Wait for something to do: an outcome, a job, a nudge, the end."""
        if self.fetching:
            self._listener.open()
        else:
            self._listener.end()
        await self._wake.wait()
        self._wake.clear()

    @property
    def _is_empty(self) -> bool:
        """Whether nothing is in hand and nothing is left to tell."""
        return not (self._slots.in_hand or self._claims.untold)

    def _is_over(self) -> bool:
        if self._grace_until is not None:
            return self._is_empty or monotonic() > self._grace_until + _FLUSH_S
        drained = self._options.burst and self._drained and not self._admission.telling
        if self._is_empty and (self._slots.left == 0 or drained):
            if drained and self._listener.moving:
                self._listener.end()  # it may bring a job, which is to be run
                return False
            self.stop()
            return True
        return False

    async def _tick(self) -> None:
        cancelled_at = monotonic()
        while True:
            await asyncio.sleep(_TICK_S)
            now = monotonic()
            again = now - cancelled_at >= _CANCEL_AGAIN_S
            if again:
                cancelled_at = now
            self._jobs.look_at_the_clock(again=again)
            if self._grace_until is not None:
                if now > self._grace_until:
                    if self._slots.running and not self._grace_told:
                        self._grace_told = True
                        report.grace_over(len(self._slots.running), early=self.stops > 1)
                    self._jobs.end_grace(at_once=now > self._grace_until + _CANCEL_AGAIN_S)
                self._wake.set()

    async def _flush(self) -> None:
        """Tell Redis what it does not know yet, also of what the blocking requests brought."""
        self._batcher.unpack()
        deadline = min(self._grace_until or monotonic(), monotonic()) + _FLUSH_S
        while self._claims.untold or self._batcher.in_doubt:
            try:
                await self._batcher.trip(0)
            except StoreError as error:
                if monotonic() > deadline:
                    log.error("what ended last is not told: its leases run out (%s)", error)
                    return
                await self._reconnect.wait(error)
