"""What a run does with the parts beside the core: workflows, hand-off, batches, limits, schedules."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from headrace import RESULT, Headrace, chain, group
from headrace.duties import DUTIES
from headrace.errors import InvalidSetting, StoreError
from headrace.keys import SCHEDULE_DUE, SCHEDULE_STATE, SCHEDULES
from headrace.schedules import Missed, changes, define
from headrace.schedules.requests import read_state
from headrace.schedules.timing import Every
from headrace.store import AsyncStore
from headrace.workflows import Workflow
from headrace.workflows.keys import unfinished_of
from headrace.workflows.member import job_id_of
from headrace.workflows.workflow import cancelled, status_of
from tests.simulation.checker import Job
from tests.simulation.flow_checker import EVERY_MS, FlowChecker
from tests.simulation.flow_tasks import following, limited, ticking, together
from tests.simulation.network import Network
from tests.simulation.queue import Queue
from tests.simulation.real import IN_ORDER, Backend, RealQueue, RealServer
from tests.simulation.run import Parts
from tests.simulation.scenario import URL, K, Scenario
from tests.simulation.workflow_checker import TICK, Flow
from tests.support.servers import private_server

T = TypeVar("T")
Canceller = Callable[[Headrace, Flow], Awaitable[None]]

LIMITED = ("capped", "keyed", "rated")
KINDS = ("chain", "chain", "chord", "chord", "hand-off", "hand-off", "batch", *LIMITED)
MEMBERS = (  # their tasks, and how they end
    *(("link", "ok"),) * 5, ("narrow", "ok"), ("flawed", "max_attempts")
)  # fmt: skip
RARE = (  # what the parts beside the core rest on, and a run asks a few times
    *(
        "schedules/tick",
        "workflows/commit",
        "workflows/note",
        "workflows/stop",
        "cancel",
        "redrive",
    ),
    *("lanes/hold", "lanes/admit", "lanes/check", "reclaim"),
)
OPTIONS: Sequence[dict[str, Any]] = ({}, {}, {}, {}, {"delay": 1.5}, {"priority": 5})
SCHEDULE = "often"
MISSED: tuple[Missed, ...] = ("all", "latest", "skip")


class FlowScenario(Scenario):
    """Who is there, and what there is to do."""

    duties = DUTIES
    kinds = KINDS
    amount = (3, 12)
    checker: FlowChecker

    def __init__(self, *args: Any) -> None:
        self._slow: set[int] = set()  # keys of those that take longer when they run again
        super().__init__(*args)

    async def run(self, key: int, ms: int, how: str = "ok") -> None:
        """Be a run of a job: often beside whoever had it before, and comes back."""
        again = key in self._slow and self.checker.jobs[key].runs
        await super().run(key, self._long_ms() if again else ms, how)

    def _long_ms(self) -> int:
        return round(2_500 * self.policy.lease_s)

    def application(self) -> Headrace:
        """Make the application, as each program has it."""
        app = super().application()
        following(app, self.checker, self.run)
        limited(app, self.run)
        together(app, self.checker)
        ticking(app, self.checker, self.run)
        return app

    # — who is there —

    def _start_others(self) -> None:
        self.checker.jobs[TICK] = Job(TICK, most=1_000_000)
        self._spawn("operator", self._redrive_all())
        if self.rng.random() < 0.5:
            self._spawn("scheduler", self._schedule())
            self.producing += 1

    def left(self, queue: Queue) -> bool:
        """Tell whether there is anything left to do."""
        assert isinstance(queue, RealQueue)
        if self.faults.counts["rollback"] and not self.producing:
            if self._server().ask(("HEXISTS", SCHEDULES, SCHEDULE)):  # it is there again
                self._take_away()
        here = queue.dead or queue.limited or queue.slots or queue.admitted
        return bool(super().left(queue) or here) or bool(self._unfinished())

    def _unfinished(self) -> int:
        return int(self._server().ask(("ZCARD", unfinished_of(K))))

    def _server(self) -> RealServer:
        server = Network.here.server
        assert isinstance(server, RealServer)
        return server

    async def _produce(self, kinds: Sequence[str]) -> None:
        app = self.application()
        for kind in kinds:
            await asyncio.sleep(self._pause_s())
            flow = Flow()
            self.checker.flows.append(flow)
            make = self._make(kind, app, flow)
            while not flow.there:
                try:
                    made = await make()
                    flow.there = True
                    if isinstance(made, Workflow):
                        flow.id = made.id
                        self._perhaps_cancel(flow)
                except StoreError as error:
                    if error.may_have_happened:
                        flow.there = None
                        break
                    await asyncio.sleep(self.rng.uniform(0.1, 1.0))
        self.producing -= 1
        await app.aclose()

    # — flows —

    def _job(self, flow: Flow, fate: str = "ok", after: Sequence[int] = ()) -> int:
        key = next(self._keys)
        self.checker.jobs[key] = Job(key, fate)
        self.checker.follows[key] = [*after]
        self.checker.belongs(key, flow)
        if self.rng.random() < 0.5:
            self._slow.add(key)
        return key

    def _make(self, kind: str, app: Headrace, flow: Flow) -> Callable[[], Awaitable[Any]]:
        rng, tasks = self.rng, app.tasks
        ms = rng.choice((0, 10, 300, 300, 2_000))
        if kind == "chain":
            return self._steps(app, flow, [1] * rng.randint(2, 4), ms)
        if kind == "chord":
            sizes = rng.choice(((3, 1), (5, 1), (2, 3, 1), (1, 4, 1, 1), (4,)))
            return self._steps(app, flow, sizes, ms)
        if kind == "hand-off":
            key = self._job(flow)
            keys = [self._job(flow, after=[key]) for _ in range(rng.randint(1, 3))]
            return partial(
                app.aenqueue, "hand_on", key, ms, [(k, rng.choice((0, 700))) for k in keys]
            )
        calls = []
        for _ in range(rng.randint(2, 6)):
            key, tenant = self._job(flow), rng.choice("ab")
            if kind in LIMITED:
                self.checker.under[key] = f"{kind}/{tenant}" if kind == "keyed" else kind
            args = {"batch": [], "keyed": [ms, tenant]}.get(kind, [ms])
            calls.append(tasks["together" if kind == "batch" else kind].call(key, *args))
        return partial(app.aenqueue_many, calls)

    def _steps(
        self, app: Headrace, flow: Flow, sizes: Sequence[int], ms: int
    ) -> Callable[[], Awaitable[Any]]:
        """Make a chain of groups of these sizes, some of whose members die and have to be redriven."""
        rng, checker = self.rng, self.checker
        steps: list[Any] = []
        before: list[int] = []
        if rng.random() < 0.3:  # so long that whoever runs it hears meanwhile that it is to stop
            ms = self._long_ms()
        for size in sizes:
            keys, calls = [], []
            for _ in range(size):
                name, fate = rng.choice(MEMBERS)
                keys.append(key := self._job(flow, fate, before))
                if name == "narrow":
                    checker.under[key] = name
                if before:
                    checker.gets.add(key)
                task = app.tasks[name].options(**rng.choice(OPTIONS))
                calls.append(task.call(key, ms, *([RESULT] if before else [])))
            steps.append(group(calls) if size > 1 else calls[0])
            before = keys
        flow.last, flow.on_failure = before, rng.choice(("stop", "continue"))
        window = rng.choice((2, 1_000))
        return partial(chain(*steps).aenqueue, window=window, on_failure=flow.on_failure)

    # — who cancels —

    def _perhaps_cancel(self, flow: Flow) -> None:
        how = self.rng.choice((None, None, self._cancel_whole, self._cancel_member))
        if how is not None:
            self.producing += 1
            self.world.later(0.0, self._start_canceller, flow, how)

    def _start_canceller(self, flow: Flow, how: Canceller) -> None:
        self._spawn("canceller", self._cancel(flow, how))

    async def _cancel(self, flow: Flow, how: Canceller) -> None:
        app = self.application()
        await asyncio.sleep(self.rng.choice((0.0, 0.5, 2.0)) + self._pause_s())
        await how(app, flow)
        self.producing -= 1
        await app.aclose()

    async def _cancel_whole(self, app: Headrace, flow: Flow) -> None:
        flow.cancelling_at = self.world.now
        if await _until_answered(app.workflow(flow.id).acancel):
            self.checker.cancelled(flow, self._server().queue(K.pending))
        else:
            self.checker.refuses(flow)

    async def _cancel_member(self, app: Headrace, flow: Flow) -> None:
        """Cancel some members; the workflow as well where it cannot go on without them."""
        numbers = self.rng.sample(range(len(flow.keys)), k=self.rng.choice((1, 1, 2)))
        for n in numbers:
            self.checker.cancels(flow.keys[n])
            await _until_answered(app.job(job_id_of(flow.id, n)).acancel)
        while True:
            status = await _until_answered(app.workflow(flow.id).astatus)
            if status.state not in ("running", "failed"):
                return
            if flow.on_failure == "stop" and any(
                one.reason == "cancelled" for one in status.failed
            ):
                await self._cancel_whole(app, flow)
                return
            await asyncio.sleep(1.0)

    # — an operator —

    async def _redrive_all(self) -> None:
        store = AsyncStore(URL, name="operator")
        while not self.quiet:
            await asyncio.sleep(self.rng.uniform(1.0, 3.0))
            with contextlib.suppress(StoreError):
                await self._redrive(store)
                if self.faults.counts["rollback"]:
                    await self._cancel_the_stuck(store)
        await store.close()

    async def _cancel_the_stuck(self, store: AsyncStore) -> None:
        """Cancel again what Redis has forgotten to be cancelled, and what can't go on without it."""
        for flow in self.checker.flows:
            if flow.id and flow.on_failure == "stop":
                status = await store.follow(status_of(K, flow.id))
                if any(one.reason == "cancelled" for one in status.failed):
                    await store.follow(cancelled(K, flow.id))

    # — a schedule —

    async def _schedule(self) -> None:
        """Let a schedule tick for a while."""
        app, store, missed = (
            self.application(),
            AsyncStore(URL, name="scheduler"),
            self.rng.choice(MISSED),
        )
        definition = define(app.tasks["tick"].call(TICK), Every(EVERY_MS), missed=missed)
        while True:
            try:
                await store.follow(changes.add(SCHEDULE, definition, replace=False))
                break
            except InvalidSetting:  # it is there: the answer was lost
                break
            except StoreError:
                await asyncio.sleep(0.5)
        await store.close()
        self.world.later(self.rng.uniform(5.0, 4 * self.policy.lease_s), self._unschedule)

    def _unschedule(self) -> None:
        self._take_away()
        self.producing -= 1

    def _take_away(self) -> None:
        """Take the schedule away, and note in the same instant how far it was."""
        server = self._server()
        state, at = (
            server.ask(("HGET", SCHEDULE_STATE, SCHEDULE)),
            server.ask(("ZSCORE", SCHEDULE_DUE, SCHEDULE)),
        )
        # Without it Redis went back, to when it was not there.
        self.checker.counted = None if at is None else (read_state(state or b""), int(float(at)))
        server.ask(("ZREM", SCHEDULE_DUE, SCHEDULE))
        server.ask(("HDEL", SCHEDULES, SCHEDULE))


async def _until_answered(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask until there is an answer."""
    while True:
        try:
            return await ask()
        except StoreError:
            await asyncio.sleep(0.5)


@contextmanager
def real_flows() -> Iterator[Parts]:
    """Give the parts of such runs, with a server for their scripts."""
    with (
        tempfile.TemporaryDirectory(prefix="headrace-simulation-") as folder,
        private_server(Path(folder), appendfsync="no", extra_args=IN_ORDER) as server,
    ):
        RealServer.backend = Backend(server.port)
        yield Parts(RealServer, FlowChecker, FlowScenario, rare=RARE)
