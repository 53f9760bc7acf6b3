"""What a run does with the parts beside the core: workflows, hand-off, batches, limits, schedules."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from headrace import RESULT, Headrace, chain, group
from headrace.duties import DUTIES
from headrace.errors import InvalidSetting, StoreError
from headrace.keys import SCHEDULE_DUE, SCHEDULE_STATE, SCHEDULES
from headrace.schedules import Missed, changes, define
from headrace.schedules.requests import read_state
from headrace.schedules.timing import Every
from headrace.store import AsyncStore
from headrace.workflows.keys import unfinished_of
from tests.simulation.checker import Job
from tests.simulation.faults import WEAK
from tests.simulation.flow_checker import EVERY_MS, Flow, FlowChecker
from tests.simulation.flow_tasks import following, limited, ticking, together
from tests.simulation.network import Network
from tests.simulation.queue import Queue
from tests.simulation.real import IN_ORDER, Backend, RealQueue, RealServer
from tests.simulation.run import Parts
from tests.simulation.scenario import URL, K, Scenario
from tests.support.servers import private_server

LIMITED = ("capped", "keyed", "rated")
KINDS = ("chain", "chain", "chord", "chord", "hand-off", "hand-off", "batch", *LIMITED)
TICK = 0  # the key of all jobs of the schedule
SCHEDULE = "often"
MISSED: tuple[Missed, ...] = ("all", "latest", "skip")


class FlowScenario(Scenario):
    """Who is there, and what there is to do."""

    duties = DUTIES
    kinds = KINDS
    amount = (3, 12)
    checker: FlowChecker

    def __init__(self, *args: Any) -> None:
        self.given: dict[int, Any] = {}  # key -> what the job is to get of those that it follows
        super().__init__(*args)

    def application(self) -> Headrace:
        """Make the application, as each program has it."""
        app = super().application()
        following(app, self.checker, self.run, self.given)
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
                    await make()
                    flow.there = True
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
        flow.keys.append(key)
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
        steps: list[Any] = []
        before: list[int] = []
        for size in sizes:
            keys, calls = [], []
            for _ in range(size):
                name, fate = self.rng.choice((("link", "ok"),) * 6 + (("flawed", "max_attempts"),))
                keys.append(key := self._job(flow, fate, before))
                if before:
                    self.given[key] = before if len(before) > 1 else before[0]
                calls.append(app.tasks[name].call(key, ms, *([RESULT] if before else [])))
            steps.append(group(calls) if size > 1 else calls[0])
            before = keys
        return partial(chain(*steps).aenqueue, window=self.rng.choice((2, 1_000)))

    # — an operator —

    async def _redrive_all(self) -> None:
        store = AsyncStore(URL, name="operator")
        while not self.quiet:
            await asyncio.sleep(self.rng.uniform(1.0, 3.0))
            with contextlib.suppress(StoreError):
                await self._redrive(store)
        await store.close()

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
        """Take the schedule away, and note in the same instant how far it was."""
        server = self._server()
        state = server.ask(("HGET", SCHEDULE_STATE, SCHEDULE))
        next_ms = int(float(server.ask(("ZSCORE", SCHEDULE_DUE, SCHEDULE))))
        self.checker.counted = read_state(state or b""), next_ms
        server.ask(("ZREM", SCHEDULE_DUE, SCHEDULE))
        server.ask(("HDEL", SCHEDULES, SCHEDULE))
        self.producing -= 1


@contextmanager
def real_flows() -> Iterator[Parts]:
    """Give the parts of such runs, with a server for their scripts."""
    with (
        tempfile.TemporaryDirectory(prefix="headrace-simulation-") as folder,
        private_server(Path(folder), appendfsync="no", extra_args=IN_ORDER) as server,
    ):
        RealServer.backend = Backend(server.port)
        yield Parts(RealServer, FlowChecker, FlowScenario, impossible=WEAK)
