"""What a run does with the parts beside the core: workflows, hand-off, batches, limits, schedules."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headrace import RESULT, Batch, Context, Headrace, chain, group
from headrace.duties import DUTIES
from headrace.errors import InvalidSetting, StoreError
from headrace.keys import SCHEDULE_DUE, SCHEDULE_STATE, SCHEDULES, keys_of
from headrace.schedules import changes, define
from headrace.schedules.requests import read_state
from headrace.schedules.timing import Every
from headrace.store import AsyncStore
from headrace.workflows.keys import unfinished_of
from tests.simulation.checker import MAX_ATTEMPTS, Checker, Job, Run
from tests.simulation.faults import WEAK
from tests.simulation.network import Network
from tests.simulation.queue import Queue
from tests.simulation.real import Backend, RealQueue, RealServer
from tests.simulation.run import Parts
from tests.simulation.scenario import URL, K, Scenario, Untold
from tests.support.servers import private_server
from tests.support.ticks import Ledger

KINDS = ("chain", "chain", "chord", "chord", "hand-off", "hand-off", "batch", "capped", "keyed", "rated")
CAP, RATE, BURST = 2, 4, 2
LIMITED = {"capped": CAP, "keyed": 1}  # how many run at once: of the task, of each tenant
TICK = 0  # the key of all jobs of the schedule
SCHEDULE, EVERY_MS = "often", 3_000
OVERLAP_S = 0.001


@dataclass
class Flow:
    """Jobs that are there together, or not at all.

    Attributes:
        keys: of these jobs.
        there: it was accepted; None if nobody knows.
    """

    keys: list[int] = field(default_factory=list)
    there: bool | None = False


class FlowChecker(Checker):
    """Knows, beside what ``Checker`` knows, what follows what, and what may run beside what."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.flows: list[Flow] = []
        self.follows: dict[int, list[int]] = {}  # key -> those that have to have ended
        self.under: dict[int, str] = {}  # key -> the limit that it is under
        self.ticks: dict[str, int] = {}  # id of a job -> its tick
        self.rated: list[float] = []  # when such jobs began
        self.first_ms = 0
        self.ledger: Ledger | None = None
        self.counted: tuple[bytes | None, int] | None = None  # the schedule's state and next tick, at its end

    def begin(self, key: int) -> Run | None:
        """Note that a run began, and whether it might."""
        run = super().begin(key)
        if run is None:
            return None
        for other in self.follows.get(key, ()):
            if not self.jobs[other].done():
                self.wrong(f"flow: job {key} began, and job {other}, which it follows, has not ended")
        if limit := self.under.get(key):
            self._check_limit(limit)
        return run

    def _check_limit(self, limit: str) -> None:
        now = self.world.now
        if limit == "rated":
            self.rated.append(now)
            most = BURST + 1 + RATE * (now - self.rated[0])
            if len(self.rated) > most:
                self.wrong(f"limits: {len(self.rated)} jobs began, and {most:.1f} might have")
            return
        of = [key for key, name in self.under.items() if name == limit]
        runs = [run for key in of for run in self.jobs[key].runs if run.ended is None]
        nodes = [run.node for run in runs if not run.node.dead]
        most = LIMITED[limit.partition("/")[0]]
        if len(nodes) > most and not any(self.faults.excuses(node, now) for node in nodes):
            self.wrong(f"limits: {len(nodes)} of {limit} run at once, and {most} may")

    def after(self, script: str, queue: Queue, before: Any, args: Sequence[Any], *rest: Any) -> None:
        """Look at what a script has done."""
        super().after(script, queue, before, args, *rest)
        if script == "schedules/put" and rest[0] == b"ok":
            self.first_ms = int(args[3])

    def look(self, queue: Queue) -> None:
        """Check what holds at any instant."""
        super().look(queue)
        assert isinstance(queue, RealQueue)
        for name, most in LIMITED.items():
            lanes = [member.partition(b" ")[0].decode() for member in queue.slots]
            lanes = [lane if name == "keyed" else name for lane in lanes if lane.startswith(f"{name}/")]
            for lane in {*lanes}:
                if lanes.count(lane) > most:
                    self.wrong(f"limits: {lanes.count(lane)} have a slot of {lane}, and there are {most}")

    def verdict(self, queue: Queue) -> None:
        """Decide, when everything has been still for a while."""
        accepted = len(self.ticks)
        for flow in self.flows:
            runs = [key for key in flow.keys if self.jobs[key].runs]
            if flow.there or (flow.there is None and runs):
                accepted += len(flow.keys)
                for key in flow.keys:
                    self.jobs[key].copies = 1
        super().verdict(queue)
        if queue.stats["enqueued"] != accepted:
            self.wrong(f"flow: {queue.stats['enqueued']} jobs were enqueued, and {accepted} should be")
        self._check_ticks()

    def _check_ticks(self) -> None:
        if self.ledger is not None and self.counted is not None:
            state, next_ms = self.counted
            fired = sorted(self.ticks.values())
            for fault in self.ledger.faults(fired, read_state(state or b""), next_ms):
                self.wrong(f"ticks: {fault}")


class FlowScenario(Scenario):
    """Who is there, and what there is to do."""

    duties = DUTIES
    checker: FlowChecker

    # — tasks —

    def application(self) -> Headrace:
        """Make the application."""
        app, checker, run = super().application(), self.checker, self.run
        given = self.given = getattr(self, "given", {})

        def is_given(key: int, value: Any) -> None:
            if value != given.get(key):
                checker.wrong(f"flow: job {key} was given {value}, and not {given.get(key)}")

        @app.task(name="link")
        async def link(key: int, ms: int, value: Any = None) -> int:
            is_given(key, value)
            await run(key, ms)
            return key

        @app.task(name="flawed")
        async def flawed(key: int, ms: int, value: Any = None) -> int:
            is_given(key, value)
            failed = sum(one.how == "failed" for one in checker.jobs[key].runs)
            await run(key, ms, "failed" if failed < MAX_ATTEMPTS else "ok")
            return key

        @app.task(name="hand_on")
        async def hand_on(key: int, ms: int, others: list[list[int]], ctx: Context) -> None:
            for other, delay_ms in others:
                ctx.enqueue(app.tasks["link"].options(delay=delay_ms / 1000).call(other, ms))
            await run(key, ms)

        @app.task(name="capped", concurrency_limit=CAP)
        async def capped(key: int, ms: int) -> None:
            await run(key, ms)

        @app.task(name="keyed", concurrency_limit=1, limit_by=lambda key, ms, tenant: tenant)
        async def keyed(key: int, ms: int, tenant: str) -> None:
            await run(key, ms)

        @app.task(name="rated", rate_limit=f"{RATE}/s", burst=BURST)
        async def rated(key: int, ms: int) -> None:
            await run(key, ms)

        @app.batch_task(name="together", size=4, within=0.3)
        async def together(batch: Batch[int]) -> None:
            runs = [(item, checker.begin(item.value)) for item in batch]
            try:
                await asyncio.sleep(0.2)
            except asyncio.CancelledError:
                for _, one in runs:
                    checker.end(one, "stopped")
                raise
            for item, one in runs:
                fails = item.value % 5 == 0 and item.ctx.attempt == 1
                checker.end(one, "failed" if fails else "ok")
                if fails:
                    item.fail(Untold(f"job {item.value}"))

        @app.task(name="tick")
        async def tick(key: int, ctx: Context) -> None:
            at = ctx.scheduled_at
            assert at is not None
            checker.ticks[ctx.job_id] = round(at.timestamp() * 1000)
            await run(key, 10)

        return app

    # — who is there —

    def start(self) -> None:
        """Start everybody."""
        rng = self.rng
        self.checker.jobs[TICK] = Job(TICK, most=1_000_000)
        for _ in range(rng.choice((2, 2, 3))):
            self.start_consumer()
        kinds = [rng.choice(KINDS) for _ in range(rng.randint(3, 12))]
        producers = rng.choice((1, 2))
        for i in range(producers):
            self._spawn(f"producer{i}", self._start_flows(kinds[i::producers]))
            self.producing += 1
        self._spawn("operator", self._redrive_all())
        if rng.random() < 0.5:
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

    async def _start_flows(self, kinds: Sequence[str]) -> None:
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
            others = [[self._job(flow, after=[key]), rng.choice((0, 700))] for _ in range(rng.randint(1, 3))]
            return lambda: app.aenqueue("hand_on", key, ms, others)
        if kind == "batch":
            calls = [tasks["together"].call(self._job(flow)) for _ in range(rng.randint(1, 6))]
            return lambda: app.aenqueue_many(calls)
        calls = []
        for _ in range(rng.randint(2, 6)):
            key, tenant = self._job(flow), rng.choice("ab")
            self.checker.under[key] = f"keyed/{tenant}" if kind == "keyed" else kind
            calls.append(tasks[kind].call(key, ms, *([tenant] if kind == "keyed" else [])))
        return lambda: app.aenqueue_many(calls)

    def _steps(
        self, app: Headrace, flow: Flow, sizes: Sequence[int], ms: int
    ) -> Callable[[], Awaitable[Any]]:
        """Make a chain of groups of these sizes."""
        before: list[int] = []
        steps: list[Any] = []
        for size in sizes:
            step, keys = [], []
            for _ in range(size):
                flawed = self.rng.random() < 0.15
                keys.append(key := self._job(flow, "max_attempts" if flawed else "ok", before))
                if before:
                    self.given[key] = before if steps[-1][1] else before[0]
                value = [RESULT] if before else []
                step.append(app.tasks["flawed" if flawed else "link"].call(key, ms, *value))
            many = size > 1
            steps.append((group(step) if many else step[0], many))
            before = keys
        return lambda: chain(*(step for step, _ in steps)).aenqueue(window=self.rng.choice((2, 1_000)))

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
        app, store = self.application(), AsyncStore(URL, name="scheduler")
        definition = define(app.tasks["tick"].call(TICK), Every(EVERY_MS), missed=self.rng.choice(("all", "latest", "skip")))
        there = False
        while not there:
            try:
                await store.follow(changes.add(SCHEDULE, definition, replace=False))
                there = True
            except InvalidSetting:  # the answer to the first time was lost
                there = True
            except StoreError:
                await asyncio.sleep(0.5)
        self.world.later(self.rng.uniform(5.0, 4 * self.policy.lease_s), self._unschedule, definition.missed == "all")
        await store.close()

    def _unschedule(self, loses_none: bool) -> None:
        """Take the schedule away, and note in the same instant how far it was."""
        server = self._server()
        if server.is_away or server.is_loading or server.is_replica:
            self.world.later(1.0, self._unschedule, loses_none)
            return
        due = server.ask(("ZSCORE", SCHEDULE_DUE, SCHEDULE))
        self.checker.counted = (server.ask(("HGET", SCHEDULE_STATE, SCHEDULE)), int(float(due)))
        first_ms = self.checker.first_ms
        self.checker.ledger = Ledger(SCHEDULE, Every(EVERY_MS), first_ms, loses_none)
        server.ask(("ZREM", SCHEDULE_DUE, SCHEDULE))
        server.ask(("HDEL", SCHEDULES, SCHEDULE))
        self.producing -= 1


@contextmanager
def real_flows() -> Iterator[Parts]:
    """Give the parts of such runs, with a server for their scripts."""
    with (
        tempfile.TemporaryDirectory(prefix="headrace-simulation-") as folder,
        private_server(Path(folder), appendfsync="no") as server,
    ):
        RealServer.backend = Backend(server.port)
        yield Parts(RealServer, FlowChecker, FlowScenario, impossible=WEAK)
