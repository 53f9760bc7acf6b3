"""Overload: a bounded queue refuses, a full Redis refuses, and consumers drain both to empty."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from headrace import Backoff, Headrace, JobFailed, QueueFull, StoreFull
from headrace import operations as op
from headrace.cli.queues import parse_queues
from headrace.consumer import Consumer, ConsumerOptions
from headrace.isolation.runner import IsolatedRunner
from headrace.web import create_app
from tests.support.consuming import QUICK, Site, a_store, ids_of
from tests.support.processes import clean_environment, processes
from tests.support.wait import WAIT_S, await_until

BLOB = "x" * 20_000


def fill(site: Site) -> None:
    """Let Redis be full: it holds more than it may, and evicts nothing."""
    site.redis.config_set("maxmemory-policy", "noeviction")
    site.redis.config_set("maxmemory", "1mb")


def unfill(site: Site) -> None:
    site.redis.config_set("maxmemory", "0")


def refuses_writes(site: Site) -> bool:
    """Whether Redis refuses plain writes, as it does when it is full."""
    try:
        site.redis.set("probe", "x")
    except Exception as error:
        return "maxmemory" in str(error)
    site.redis.delete("probe")
    return False


def refused(site: Site, command: str) -> int:
    """Count how often Redis has refused a command."""
    stats = site.redis.info("commandstats").get(f"cmdstat_{command.lower()}", {})
    return int(stats.get("rejected_calls", 0))


class TestBoundedQueue:
    async def test_a_full_queue_refuses_with_a_typed_error_until_it_is_drained(
        self, site: Site
    ) -> None:
        app = site.another_app(max_pending=3)
        ran: list[int] = []

        @site.app.task
        async def note(n: int) -> None:
            ran.append(n)

        app.enqueue("note", 0)
        await app.aenqueue_many([app.call_with("note", (n,), {}, {"priority": n}) for n in (1, 2)])
        with pytest.raises(QueueFull, match="3 jobs"):
            app.enqueue("note", 3)
        with pytest.raises(QueueFull, match="3 jobs"):
            await app.aenqueue("note", 3)
        with pytest.raises(QueueFull):
            await app.aenqueue_many([app.call_with("note", (3,), {}, {"delay": 60})])
        assert site.counters()["enqueued"] == 3
        async with site.consumer():
            await site.drained()
            await app.aenqueue("note", 4)
            await site.drained()
        assert sorted(ran) == [0, 1, 2, 4]

    async def test_a_large_call_says_what_was_accepted_before_the_queue_was_full(
        self, site: Site
    ) -> None:
        app = site.another_app(max_pending=1_500)
        calls = [app.call("note", n) for n in range(2_500)]
        with pytest.raises(QueueFull) as raised:
            await app.aenqueue_many(calls)
        accepted = raised.value.accepted
        assert sorted(accepted) == sorted(ids_of(site.state().pending))
        assert 1_000 <= len(accepted) <= 1_500

    async def test_many_producers_at_once_never_fill_it_beyond_its_bound(self, site: Site) -> None:
        apps = [site.another_app(max_pending=50) for _ in range(4)]

        async def produce(app: Headrace) -> int:
            accepted = 0
            for n in range(40):
                try:
                    await app.aenqueue("note", n)
                    accepted += 1
                except QueueFull:
                    pass
            return accepted

        assert sum(await asyncio.gather(*map(produce, apps))) == 50
        assert site.redis.llen(site.k.pending) == 50

    async def test_the_command_line_says_that_the_queue_is_full_and_fails(
        self, site: Site, tmp_path: Path
    ) -> None:
        env = clean_environment(HEADRACE_URL=site.url)
        produce = (
            sys.executable,
            "-m",
            "headrace",
            "produce",
            "--app",
            "tests.acceptance.poison:bounded",
        )
        with processes(tmp_path) as start:
            for _ in range(2):
                assert (
                    await asyncio.to_thread(start(*produce, "pebble", env=env).popen.wait, WAIT_S)
                    == 0
                )
            refused = start(*produce, "pebble", env=env)
            assert await asyncio.to_thread(refused.popen.wait, WAIT_S) not in (0, 2)
        assert "2 jobs waiting, which is its bound" in refused.output
        assert "Traceback" not in refused.output
        assert site.redis.llen(site.k.pending) == 2


class TestFullRedis:
    async def test_consumers_drain_a_full_redis_and_every_kind_of_end_is_kept(
        self, own_site: Site
    ) -> None:
        site, runs = own_site, dict[str, int]()

        def run(name: str) -> int:
            runs[name] = runs.get(name, 0) + 1
            return runs[name]

        @site.app.task(result_ttl=60)
        async def good(name: str) -> str:
            run(name)
            return name

        @site.app.task(result_ttl=60, max_attempts=3, backoff=Backoff(0.2, jitter=False))
        def flaky(name: str) -> str:
            if run(name) < 3:
                raise ValueError(name)
            return name

        @site.app.task(result_ttl=60, max_attempts=1)
        def bad(name: str) -> None:
            run(name)
            raise ValueError(name)

        calls: list[Any] = [good.call(f"good{n}") for n in range(60)]
        calls += [good.options(priority=n - 5).call(f"prior{n}") for n in range(10)]
        calls += [good.options(delay=0.5).call(f"late{n}") for n in range(10)]
        calls += [flaky.call(f"flaky{n}") for n in range(10)]
        calls += [bad.call(f"bad{n}") for n in range(10)]
        jobs = await site.app.aenqueue_many(calls)
        fill(site)
        assert refuses_writes(site)
        async with site.consumer(concurrency=4, lease=QUICK):
            await site.drained()
            assert refuses_writes(site)
            assert site.redis.exists(*(site.k.result(job.id) for job in jobs)) == len(jobs)
            assert len(site.letters()) == 10
            with pytest.raises(StoreFull, match="maxmemory"):
                await good.aenqueue("refused")
            for job in jobs[:90]:  # what is there is given, although nobody may block for it
                assert await job.aresult(timeout=WAIT_S)
            for job in jobs[90:]:
                with pytest.raises(JobFailed, match="max_attempts"):
                    await job.aresult(timeout=WAIT_S)
            # Who begins now is known all the same, and so maintained.
            names = {name.decode() for name in site.redis.hkeys("headrace:consumers")}
            assert len(names) == 1
            assert site.redis.sismember("headrace:queues", site.k.queue)
            unfill(site)
        assert {name: n for name, n in runs.items() if n > 1} == {f"flaky{n}": 3 for n in range(10)}
        assert len(runs) == len(jobs)
        assert site.ends() == {"enqueued": 100, "done": 90, "retry": 20, "dead": 10}

    async def test_an_idle_consumer_whose_blocking_move_is_refused_finds_work_by_claiming(
        self, own_site: Site
    ) -> None:
        site, ran = own_site, list[str]()

        @site.app.task
        async def note(name: str) -> None:
            ran.append(name)

        async with site.consumer() as running:
            await site.idle(running)
            fill(site)
            await await_until(lambda: refused(site, "BLMOVE"), what="its blocking move is refused")
            unfill(site)
            async with a_store(site.url) as store:
                # Delayed jobs wake no blocking move: they are promoted when Redis is full again.
                jobs = [
                    f'{{"id":"late{n}","task":"note","args":["{n}"]}}'.encode() for n in range(3)
                ]
                await store.run(op.enqueue(site.k, jobs, due="+700"))
            fill(site)
            assert refuses_writes(site)
            await await_until(lambda: len(ran) == 3, "they have run")
            await site.drained()
            assert refuses_writes(site)
            unfill(site)
        assert sorted(ran) == ["0", "1", "2"]

    async def test_expired_leases_are_reclaimed_and_died_of_while_redis_is_full(
        self, own_site: Site
    ) -> None:
        site, ran = own_site, list[int]()

        @site.app.task
        async def note(n: int) -> None:
            ran.append(n)

        await site.app.aenqueue_many(note.call(n) for n in range(10))
        async with a_store(site.url) as store:
            await store.run(op.claim(site.k, 10, lease_ms=300, consumer="lost", first=1))
        fill(site)
        async with site.consumer(lease=QUICK):
            await site.drained()
            assert refuses_writes(site)
            unfill(site)
        assert sorted(ran) == list(range(10))
        assert site.counters()["reclaimed"] == 10

    async def test_producers_that_fill_redis_are_refused_and_nothing_accepted_is_lost(
        self, own_site: Site
    ) -> None:
        site, ran = own_site, set[int]()

        @site.app.task
        async def note(n: int, blob: str) -> None:
            ran.add(n)

        room = int(site.redis.info("memory")["used_memory"]) + (3 << 20)
        site.redis.config_set("maxmemory-policy", "noeviction")
        site.redis.config_set("maxmemory", str(room))
        accepted: set[int] = set()

        async def produce(numbers: range) -> int:
            """Enqueue one by one; give how many were refused."""
            refused = 0
            for n in numbers:
                try:
                    await note.aenqueue(n, BLOB)
                    accepted.add(n)
                except StoreFull as error:
                    assert "maxmemory" in str(error)
                    assert not error.may_have_happened
                    refused += 1
            return refused

        assert await produce(range(400)) > 0
        assert site.redis.llen(site.k.pending) == len(accepted) > 50
        async with site.consumer(concurrency=4):
            refused = await produce(range(400, 1_000))
            await site.drained()
            await note.aenqueue(1_000, BLOB)  # there is room again
            await await_until(lambda: 1_000 in ran)
            await site.drained()
        assert ran == accepted | {1_000}
        assert len(accepted) + refused > 600
        assert site.counters()["done"] == len(ran)

    async def test_the_http_api_says_503_and_that_nothing_was_accepted(
        self, own_site: Site
    ) -> None:
        fill(own_site)
        async with a_store(own_site.url) as store:
            transport = httpx.ASGITransport(create_app(own_site.app, store))
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as api:
                answer = await api.post("/api/v1/jobs", json={"task": "note"})
        assert answer.status_code == 503
        assert "maxmemory" in answer.json()["detail"]
        assert answer.json()["accepted"] == []
        assert answer.json()["may_have_been_accepted"] is False
        assert not own_site.redis.exists(own_site.k.pending)

    async def test_a_consumer_that_starts_while_redis_is_full_drains_it(
        self, own_site: Site
    ) -> None:
        site, ran = own_site, list[int]()

        @site.app.task
        def note(n: int) -> None:
            ran.append(n)

        site.push(*({"task": "note", "args": [n]} for n in range(50)))  # bare: each is adopted
        fill(site)
        consumer = Consumer(
            site.app,
            ConsumerOptions(parse_queues("queue"), burst=True, concurrency=4),
            IsolatedRunner,
        )
        await asyncio.wait_for(consumer.run(), WAIT_S)
        assert refuses_writes(site)
        unfill(site)
        assert sorted(ran) == list(range(50))
        site.check()
