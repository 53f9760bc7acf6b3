"""Who is there and what there is to do, drawn from the seed: consumers, producers, plain clients, an operator."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Sequence
from contextvars import ContextVar
from random import Random
from typing import Any

from headrace import Headrace, wire
from headrace import operations as op
from headrace.consumer import Consumer, ConsumerOptions, QueueWeight
from headrace.consumer.outcomes import ProcessDied
from headrace.context import Context
from headrace.errors import StoreError
from headrace.ids import new_id
from headrace.isolation.runner import IsolatedRunner
from headrace.keys import keys_of
from headrace.maintenance import DutyMaker
from headrace.policy import LeasePolicy
from headrace.retry import Backoff
from headrace.store import AsyncStore, Channel
from tests.simulation.checker import MAX_ATTEMPTS, Checker, Job
from tests.simulation.faults import Faults
from tests.simulation.network import Network
from tests.simulation.queue import Queue
from tests.simulation.world import Node, World

URL = "redis://127.0.0.1:1/0"  # nobody connects
K = keys_of("queue")
PARKED_S = 3.0  # how long a job waits for a consumer that knows its task

ALONE = ContextVar("alone", default=False)  # a suspect runs in a process of its own

QUICK = "quick"
AT_A_BLOCKS_END = -1.0
PAUSES_S = (0.0, 0.0, 0.0, 0.4, 2.0, AT_A_BLOCKS_END)
KINDS = (
    *(QUICK,) * 6, "slow", "slow", "long", "long", "fails", "flaky", "late", "poison", "delayed", "delayed", "priority",
    "priority", "equal", "bare", "misplaced", "malformed", "unknown", "twin",
)  # fmt: skip
FATES = {
    "fails": "max_attempts",
    "late": "timeout",
    "poison": "crashed",
    "malformed": "malformed",
    "unknown": "unknown_task",
}


class Untold(Exception):
    """As some clients of HTTP APIs have it: an attribute is looked up in an answer that lacks it."""

    def __getattr__(self, name: str) -> Any:
        raise KeyError(name)


class Scenario:
    """Everything of one run that is not the store.

    Attributes:
        duties: what consumers do beside the queues' upkeep, while they lead.
        kinds: of what there is to do; from so many to so many of it.
    """

    duties: Sequence[DutyMaker] = ()
    kinds: Sequence[str] = KINDS
    amount = (5, 30)

    def __init__(self, world: World, checker: Checker, faults: Faults, policy: LeasePolicy) -> None:
        self.world = world
        self.checker = checker
        self.faults = faults
        self.policy = policy
        self.rng = Random(world.rng.random())
        self.app = self.application()
        self.producing = 0  # producers and operators at work
        self.consumers: list[Node] = []
        self.plain: Node | None = None
        self.quiet = False  # nobody is started again
        rng = self.rng
        self._grace_s = rng.choice((0.5, 2.5 * policy.lease_s))
        self._concurrency = rng.choice((1, 2, 3, 10))
        self._keys = iter(range(1, 1_000))

    # — tasks —

    async def run(self, key: int, ms: int, how: str = "ok") -> None:
        """Be a run of a job."""
        one = self.checker.begin(key)
        try:
            await asyncio.sleep(ms / 1000)
        except asyncio.CancelledError:
            self.checker.end(one, "stopped")
            raise
        self.checker.end(one, how)
        if how == "failed":
            raise Untold(f"job {key}")

    def application(self) -> Headrace:
        """Make the application, as each program has it that knows the tasks."""
        app = Headrace(URL, max_attempts=MAX_ATTEMPTS, backoff=Backoff(base_s=0.5))
        begin, end, world, run = self.checker.begin, self.checker.end, self.world, self.run

        @app.task(name="work")
        async def work(key: int, ms: int) -> None:
            await run(key, ms)

        @app.task(name="fail")
        async def fail(key: int, ms: int) -> None:
            await run(key, ms, "failed")

        @app.task(name="flaky")
        async def flaky(key: int, ms: int, ctx: Context) -> None:
            await run(key, ms, "failed" if ctx.attempt == 1 else "ok")

        @app.task(name="late", timeout=0.3)
        async def late(key: int, ms: int) -> None:
            await run(key, ms)

        @app.task(name="poison")
        async def poison(key: int, ms: int) -> None:
            one = begin(key)
            try:
                await asyncio.sleep(ms / 1000)
            except asyncio.CancelledError:
                end(one, "stopped")
                raise
            if ALONE.get():
                end(one, "killed its process")
                raise ProcessDied("SIGKILL", None, 0, "")
            assert world.current is not None
            world.current.kill()
            await asyncio.sleep(1e6)

        return app

    # — who is there —

    def start(self) -> None:
        """Start everybody."""
        rng = self.rng
        for _ in range(rng.choice((2, 2, 3))):
            self.start_consumer()
        kinds = [rng.choice(self.kinds) for _ in range(rng.randint(*self.amount))]
        producers = rng.choice((1, 2))
        for i in range(producers):
            self._spawn(f"producer{i}", self._produce(kinds[i::producers]))
            self.producing += 1
        self._start_others()

    def _start_others(self) -> None:
        if self.rng.random() < 0.3:
            self.plain = self._spawn("plain", self._consume_plainly())
        if self.rng.random() < 0.3:
            self._spawn("operator", self._operate())
            self.producing += 1

    def _spawn(self, name: str, main: Any) -> Node:
        node = Node(self.world, name, skew_ms=self.rng.choice((0, 0, 400, -3_600_000, 3_600_000)))
        node.start(main)
        return node

    def start_consumer(self) -> None:
        if self.quiet:
            return
        name = f"c{len(self.consumers) + 1}"
        options = ConsumerOptions(
            (QueueWeight("queue"),),
            concurrency=self._concurrency,
            lease=self.policy,
            grace_s=self._grace_s,
            name=name,
            unknown_task_ttl_s=PARKED_S,
        )
        node = Node(self.world, name, skew_ms=self.rng.choice((0, 0, 400, -3_600_000, 3_600_000)))
        self.consumers.append(node)
        self.checker.consumers[name] = node
        self.checker.rests(node)
        self.faults.prepare(node)
        consumer = Consumer(self.app, options, IsolatedRunner, self.duties)

        def terminate() -> None:
            node.leaving = True
            self.checker.idle.pop(name, None)
            consumer.stop()

        node.terminate = terminate
        node.start(consumer.run())
        self.world.later(0.5, self._watch, node)

    def _watch(self, node: Node) -> None:
        """Be the supervisor: start another in place of one that has ended."""
        if not node.over:
            self.world.later(0.5, self._watch, node)
            return
        self.world.later(self.rng.uniform(0.1, 2.0), self.start_consumer)

    def left(self, queue: Queue) -> bool:
        """Tell whether there is anything left to do."""
        here = queue.pending or queue.processing or queue.delayed or queue.priority
        return bool(here or self.producing)

    def victims(self) -> list[Node]:
        return [node for node in self.consumers if not node.over and not node.leaving]

    # — producers —

    async def _produce(self, kinds: Sequence[str]) -> None:
        store = AsyncStore(URL, name="headrace:producer")
        for kind in kinds:
            await asyncio.sleep(self._pause_s())
            for job, operation in self._jobs(kind):
                await self._send(store, job, operation)
        self.producing -= 1
        await store.close()

    def _pause_s(self) -> float:
        """Choose when the next job comes; often when a blocking request ends: there the races are."""
        pause_s = self.rng.choice(PAUSES_S)
        if pause_s != AT_A_BLOCKS_END:
            return pause_s + self.rng.uniform(0.0, 0.1)
        near_s = self.rng.uniform(0.0, 4 * self.faults.latency_s())  # from here to there, and back
        return Network.here.server.next_end() - self.world.now - near_s

    async def _send(self, store: AsyncStore, job: Job, operation: op.Operation[Any]) -> None:
        while True:
            try:
                await store.run(operation)
            except StoreError as error:
                if error.may_have_happened:
                    job.unsure += 1
                    return
                await asyncio.sleep(self.rng.uniform(0.1, 1.0))
            else:
                job.copies += 1
                return

    def _jobs(self, kind: str) -> list[tuple[Job, op.Operation[Any]]]:
        """Make the jobs of one kind, each with the request that brings it."""
        rng, lease_ms = self.rng, round(self.policy.lease_s * 1000)
        key = next(self._keys)
        job = self.checker.jobs[key] = Job(key, FATES.get(kind, "ok"))
        ms = {"slow": lease_ms // 2, "long": 2 * lease_ms, "late": 60_000}.get(
            kind, rng.choice((0, 1, 20, 300))
        )
        name = {
            "fails": "fail",
            "flaky": "flaky",
            "late": "late",
            "poison": "poison",
            "unknown": "nobody",
        }
        call = {"task": name.get(kind, "work"), "args": [key, ms]}
        if kind in ("equal", "bare", "misplaced", "malformed"):
            if kind == "misplaced":
                call["id"] = new_id()
            job.raw = json.dumps(call).encode()[: -1 if kind == "malformed" else None]
            push = op.command("LPUSH", K.pending, job.raw, parse=bool)
            job.most = rng.choice((2, 3)) if kind == "equal" else 1
            return [(job, push)] * job.most
        job_id, due = new_id(), ""
        body = b"," + json.dumps(call).encode()[1:]
        if kind == "delayed":
            delay_ms = rng.randint(1, 2 * lease_ms)
            job.due_ms, due = self.checker.clock_ms + delay_ms, f"+{delay_ms}"
        priority = rng.choice((-3, 5)) if kind == "priority" else 0
        made = [(job, op.enqueue(K, [wire.assemble(job_id, body, priority)], due=due))]
        if kind == "twin":  # another job under the same id
            self.checker.twins.add(job_id)
            (other, _), *_ = self._jobs(QUICK)
            body = b"," + json.dumps({"task": "work", "args": [other.key, ms]}).encode()[1:]
            made.append((other, op.enqueue(K, [wire.assemble(job_id, body)])))
        return made

    # — plain consumers —

    async def _consume_plainly(self) -> None:
        """BRPOPLPUSH, work, LREM."""
        store = AsyncStore(URL, name="plain")
        channel = Channel(store, "plain")
        while not self.quiet:
            try:
                raw = await channel.run(op.blocking_move(K, 1.0))
            except StoreError:
                raw = None
            if raw is not None:
                await self._work_plainly(raw, store)
            await asyncio.sleep(self.rng.uniform(0.1, 3.0))
        await channel.close()
        await store.close()

    async def _work_plainly(self, raw: bytes, store: AsyncStore) -> None:
        try:
            key = json.loads(raw)["args"][0]
        except ValueError:
            key = next(job.key for job in self.checker.jobs.values() if job.raw == raw)
        run = self.checker.begin(key)
        assert run is not None
        await asyncio.sleep(self.rng.uniform(0.0, 0.5) * self.policy.bare_lease_s)
        self.checker.end(run, "ok")
        remove = op.command("LREM", K.processing, 1, raw, parse=bool)
        for _ in range(3):
            try:
                await store.run(remove)
            except StoreError as error:
                run.node.disturbed_at = self.world.now  # it extends nothing, and Redis was away
                if error.may_have_happened:  # a second one could take an equal item
                    return
                await asyncio.sleep(0.3)
            else:
                return

    # — an operator —

    async def _operate(self) -> None:
        store, rng = AsyncStore(URL, name="operator"), self.rng
        await asyncio.sleep(rng.uniform(0.5, 5.0))
        with contextlib.suppress(StoreError):
            await store.run(op.pause(K, paused=True))
        await asyncio.sleep(rng.uniform(0.1, 4.0))
        while True:
            try:
                await store.run(op.pause(K, paused=False))
                break
            except StoreError:
                await asyncio.sleep(0.3)
        for _ in range(rng.randint(0, 3)):
            await asyncio.sleep(rng.uniform(0.1, 3.0))
            with contextlib.suppress(StoreError):
                await self._redrive(store)
        self.producing -= 1
        # A pause that was given up may arrive all the same, whenever it likes.
        while not self.quiet:
            await asyncio.sleep(5.0)
            with contextlib.suppress(StoreError):
                await store.run(op.pause(K, paused=False))
        await store.close()

    async def _redrive(self, store: AsyncStore) -> None:
        letters = await store.run(op.peek(K.dead, 0, 0))
        pairs = [(letter, wire.redriven(letter)) for letter in letters]
        await store.run(op.redrive(K, pairs))
