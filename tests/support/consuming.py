"""Real consumers on the test's own event loop, and a plain client beside them."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import headrace
from headrace import Headrace, Job, ReplyLost, StoreUnavailable, wire
from headrace import operations as op
from headrace.cli.queues import parse_queues
from headrace.consumer import Consumer, ConsumerOptions, slots
from headrace.isolation.runner import IsolatedRunner
from headrace.keys import LEADER, keys_of
from headrace.maintenance import DutyMaker
from headrace.policy import LeasePolicy
from headrace.store import AsyncStore
from headrace.supervisor.sharing import Sharing
from tests.support import invariants
from tests.support.plain import PlainRedis
from tests.support.wait import POLL_S, WAIT_S, await_until

LONG_S = 600.0  # a lease that no test outlives


@dataclass(frozen=True)
class Quick(LeasePolicy):
    """Leases that never run out by themselves, although all is looked after as if they soon did.

    So how fast a test runs decides nothing. For what happens when a lease is past there is
    ``Site.leases_run_out``.
    """

    lease_s: float = LONG_S
    bare_lease_s: float = LONG_S
    extend_every_s: float = 0.3
    sweep_every_s: float = 0.05
    gone_after_s: float = LONG_S


QUICK = Quick()


async def heard(job: Job[Any]) -> Any:
    """Wait for a job's result, as one of many who do, and ask again where Redis took too long to answer.

    On a machine that is far too busy, a connection may take longer than the 5 s of every request.
    """
    while True:
        try:
            return await job.aresult(WAIT_S)
        except (StoreUnavailable, ReplyLost):
            await asyncio.sleep(POLL_S)


class Running:
    """A consumer that runs in a task of the test's loop."""

    def __init__(self, consumer: Consumer) -> None:
        self.consumer = consumer
        self.name = consumer.name
        self.task = asyncio.create_task(consumer.run())

    def stop(self) -> None:
        self.consumer.stop()

    async def ended(self) -> None:
        """Wait until it has ended by itself, and raise what it raised."""
        done, _ = await asyncio.wait([self.task], timeout=WAIT_S)
        if not done:
            self.task.cancel()
            await asyncio.wait([self.task], timeout=WAIT_S)
            raise AssertionError(f"{self.name} did not end within {WAIT_S:.0f} s")
        self.task.result()


def claim_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let consumers claim ahead, and keep what they claimed, however slow the machine makes jobs."""
    monkeypatch.setattr(slots, "PREFETCH_S", LONG_S)
    monkeypatch.setattr(slots, "HELD_UP_S", LONG_S)


@asynccontextmanager
async def consuming(
    app: Headrace, queues: str = "queue", *, duties: Sequence[DutyMaker] = (), **options: Any
) -> AsyncIterator[Running]:
    """Run a consumer while the block runs; stop it then, and raise what it raised."""
    running = Running(
        Consumer(app, ConsumerOptions(parse_queues(queues), **options), IsolatedRunner, duties)
    )
    try:
        yield running
    finally:
        if not running.task.done():
            running.stop()
        await running.ended()


@asynccontextmanager
async def sharing(
    app: Headrace, queues: str = "queue", *, duties: Sequence[DutyMaker] = (), **options: Any
) -> AsyncIterator[Running]:
    """Run a consumer as ``consuming`` does, which shares partitioned queues with others."""
    shares = Sharing(app)
    wanted = await shares.options(ConsumerOptions(parse_queues(queues), **options))
    running = Running(Consumer(app, wanted, IsolatedRunner, duties))
    share = asyncio.create_task(shares.run(running.consumer))
    try:
        await await_until(lambda: running.consumer.ready or running.task.done())
        yield running
    finally:
        if not running.task.done():
            running.stop()
        await running.ended()
        share.cancel()
        await asyncio.wait({share})


class Site:
    """One queue with its application, its consumers, and a plain client that is counted.

    When the last consumer of a test has ended, the invariants are checked, and that no task and no
    thread of Headrace is left.

    Attributes:
        app: the application; tests add their tasks to it.
        redis: the plain client.
        foreign: how many jobs plain clients brought, less those that they took.
        twins: ids that were brought more than once.
    """

    def __init__(
        self, url: str, redis: PlainRedis, *, queue: str = "queue", **options: Any
    ) -> None:
        self.url = url
        self.redis = redis
        self.k = keys_of(queue)
        self.app = Headrace(url, queue=queue, **options)
        self.foreign = 0
        self.twins: set[str] = set()
        self._active = 0
        self._apps = [self.app]

    def another_app(self, **options: Any) -> Headrace:
        """Give an application without tasks on the same Redis, as of another program."""
        app = Headrace(self.url, queue=self.k.queue, **options)
        self._apps.append(app)
        return app

    @asynccontextmanager
    async def consumer(
        self, app: Headrace | None = None, *, check: bool = True, **options: Any
    ) -> AsyncIterator[Running]:
        """Run a consumer as ``consuming`` does; when it is the last one, check what it leaves."""
        self._active += 1
        options.setdefault("queues", self.k.queue)
        try:
            async with consuming(app or self.app, **options) as running:
                yield running
        finally:
            self._active -= 1
        if check and not self._active:
            await self.check_nothing_is_left()
            self.check()

    # What plain clients do.

    def let_nobody_sweep(self) -> None:
        """Let no sweep give a lease to what is moved and not yet adopted."""
        self.redis.set(LEADER, "nobody", ex=600)

    def push(self, *jobs: bytes | dict[str, Any]) -> None:
        """LPUSH bytes, or objects as JSON."""
        encoded = [job if isinstance(job, bytes) else json.dumps(job).encode() for job in jobs]
        self.redis.lpush(self.k.pending, *encoded)
        self.foreign += len(encoded)

    def leases_run_out(self, token: str = "") -> None:
        """Let leases be past, as time does, without waiting for it: all, or those of one token."""
        claims = self.state().claims.items()
        names = [name for name, (whose, _) in claims if token in ("", whose)]
        if names:
            self.redis.zadd(self.k.leases, dict.fromkeys(names, 1), xx=True)

    # What it looks like.

    def letters(self) -> list[dict[str, Any]]:
        """Read the dead letters, oldest first."""
        return [json.loads(letter) for letter in self.raw_letters()]

    def raw_letters(self) -> list[bytes]:
        letters: list[Any] = self.redis.lrange(self.k.dead, 0, -1)
        return letters[::-1]

    async def died(self, count: int = 1) -> list[dict[str, Any]]:
        """Wait for so many dead letters."""
        await await_until(
            lambda: self.redis.llen(self.k.dead) >= count, what=f"{count} dead letters"
        )
        return self.letters()

    async def drained(self, *, without_strays: Sequence[Running] = ()) -> invariants.State:
        """Wait until nothing waits and nothing is in processing.

        Args:
            without_strays: consumers whose connections fail: ``strays_run_out`` meanwhile.
        """
        keys = self.k.pending, self.k.processing, self.k.priority, self.k.delayed

        def drained() -> bool:
            if without_strays:
                self.strays_run_out(*without_strays)
            return not self.redis.exists(*keys)

        await await_until(drained, what="the queue is drained")
        return self.state()

    def state(self) -> invariants.State:
        return invariants.read(self.redis, self.k.queue)

    def counters(self) -> dict[str, int]:
        # Not of state(): a full Redis 7.0 lets nothing into a MULTI.
        stats: dict[Any, Any] = self.redis.hgetall(self.k.stats)
        return {name.decode(): int(n) for name, n in stats.items()}

    def ends(self) -> dict[str, int]:
        return invariants.ends(self.counters())

    def now_ms(self) -> int:
        """Tell the time by Redis' clock."""
        seconds, micros = self.redis.time()
        return int(seconds) * 1000 + int(micros) // 1000

    def clients(self) -> list[str]:
        """Name the connections to Redis."""
        return [client["name"] for client in self.redis.client_list()]

    async def idle(self, *consumers: Running, queues: int = 1) -> None:
        """Wait until consumers do nothing but block for work."""
        await await_until(
            lambda: self.are_idle(*consumers, queues=queues), what="the consumers wait for work"
        )

    def are_idle(self, *consumers: Running, queues: int = 1) -> bool:
        """Whether consumers do nothing but block for work."""
        listing = self.redis.client_list()
        for running in consumers:
            mine = [
                client["cmd"]
                for client in listing
                if client["name"] == f"headrace:{running.name}" and "b" in client["flags"]
            ]
            if mine.count("blmove") < queues or mine.count("blpop") < 1:
                return False
        return True

    def strays_run_out(self, *consumers: Running) -> None:
        """Let the leases be past of what was moved for nobody: its reply was lost.

        Only while the consumers have nothing in hand: what they have just been given may have such
        a lease as well, until they adopt it.
        """
        in_hand = any(running.consumer._slots.in_hand for running in consumers)
        if not in_hand and self.are_idle(*consumers):
            self.leases_run_out("-")

    def check(self, **expected: Any) -> invariants.State:
        known: dict[str, Any] = {"foreign": self.foreign, "twins": self.twins}
        return invariants.check(self.redis, self.k.queue, **(known | expected))

    async def check_nothing_is_left(self) -> None:
        await await_until(lambda: not _own_tasks(), what=f"tasks end: {_own_tasks()}")
        await await_until(lambda: not _own_threads(), what=f"threads end: {_own_threads()}")

    async def close(self) -> None:
        for app in self._apps:
            await app.aclose()


# Not any folder of that name: the checkout has it, too.
PACKAGE = f"{Path(headrace.__file__).parent}{os.sep}"


def _own_tasks() -> list[str]:
    names = []
    for task in asyncio.all_tasks():
        code = getattr(task.get_coro(), "cr_code", None)
        if code is not None and code.co_filename.startswith(PACKAGE):
            names.append(repr(task))
    return names


def _own_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("headrace-")]


def ids_of(jobs: Iterable[bytes]) -> list[str]:
    """Read the ids of canonical jobs."""
    return [parts[0].id for job in jobs if (parts := wire.split(job)) is not None]


@asynccontextmanager
async def a_store(url: str) -> AsyncIterator[AsyncStore]:
    """Give a store for operations that a test runs itself."""
    store = AsyncStore(url, name="test")
    try:
        yield store
    finally:
        await store.close()


async def hold_as(site: Site, consumer: str, count: int, *, lease_ms: int) -> list[bytes]:
    """Claim jobs for a consumer that nobody has ever heard of, and that will not be heard of again."""
    async with a_store(site.url) as store:
        claim = op.claim(site.k, count, lease_ms=lease_ms, consumer=consumer, first=1)
        return (await store.run(claim)).jobs


@asynccontextmanager
async def lent(site: Site, app: Headrace) -> AsyncIterator[Site]:
    """Lend a site an application that new processes find by its module, and forget it afterwards."""
    before, site.app = site.app, app
    app.use(site.url)
    yield site
    await app.aclose()
    site.app = before
