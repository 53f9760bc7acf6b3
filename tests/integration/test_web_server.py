"""The server as a whole: a real socket, real streams, its own Redis that comes and goes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from headrace import Headrace
from headrace import operations as op
from headrace.embedded.server import free_port
from headrace.errors import HeadraceError, InvalidSetting
from headrace.keys import keys_of
from headrace.maintenance import Maintenance
from headrace.policy import LeasePolicy
from headrace.store import AsyncStore
from headrace.web import serve, updates, views
from headrace.web.reader import Reader
from tests.support.servers import private_server
from tests.support.serving import served
from tests.support.wait import WAIT_S, await_until, wait_until

SOURCES = Path(__file__).resolve().parents[2] / "src"
PROGRAM = """
import asyncio, sys
from headrace import Headrace
from headrace.web import serve
asyncio.run(serve(Headrace(sys.argv[1]), port=int(sys.argv[2])))
"""


@contextlib.contextmanager
def process(url: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run a server as a process of its own, until it answers; give it and its address."""
    port = free_port()
    command = [sys.executable, "-c", PROGRAM, url, str(port)]
    running = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(SOURCES)})
    base = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{base}/healthz").is_success
        assert running.poll() is None, "the server ended"
        return False

    try:
        wait_until(answers, what="the server answers")
        yield running, base
    finally:
        running.kill()
        running.wait()


class Events:
    """The events of one stream, as they come."""

    def __init__(self, lines: AsyncIterator[str]) -> None:
        self._lines = lines
        self.last_id = ""

    async def next(self) -> tuple[str, Any]:
        name, data = "message", None
        async for line in self._lines:
            field, _, value = line.partition(": ")
            if field == "event":
                name = value
            elif field == "id":
                self.last_id = value
            elif field == "data":
                data = json.loads(value)
            elif not line and data is not None:
                return name, data
        raise EOFError

    async def message(self) -> Any:
        """Return the next message; on a slow machine beats come before the first look is over."""
        return await self.until(lambda name, _: name == "message")

    async def until(self, fits: Callable[[str, Any], bool]) -> Any:
        async with asyncio.timeout(WAIT_S):
            while True:
                name, data = await self.next()
                if fits(name, data):
                    return data


@contextlib.asynccontextmanager
async def streamed(
    client: httpx.AsyncClient, queue: str = "queue", after: str | None = None
) -> AsyncIterator[Events]:
    path, heard = f"/api/v1/events?queue={queue}", {"Last-Event-ID": after} if after else {}
    async with client.stream("GET", path, headers=heard, timeout=WAIT_S) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield Events(answer.aiter_lines())


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(updates, "EVERY_S", 0.02)
    monkeypatch.setattr(updates, "BEAT_S", 0.1)


def count(data: Any, place: str, queue: str = "queue") -> int:
    (row,) = [row for row in data["queues"] if row["queue"] == queue]
    return int(row[place])


@pytest.mark.usefixtures("quick")
class TestResuming:
    async def test_who_has_heard_the_latest_state_hears_of_the_next(
        self, url: str, redis: Redis
    ) -> None:
        async with served(url) as (client, _), streamed(client) as first:
            await first.message()
            async with streamed(client, after=first.last_id) as again:
                assert (await again.next())[0] == "beat"
                redis.lpush("queue", "{}")
                await again.until(
                    lambda name, data: name == "message" and count(data, "pending") == 1
                )
                assert int(again.last_id) > int(first.last_id)

    @pytest.mark.parametrize("after", ["1", "none", "9" * 40])
    async def test_who_has_not_hears_it_at_once(self, url: str, after: str) -> None:
        async with served(url) as (client, _), streamed(client) as first:
            await first.message()
            async with streamed(client, after=after) as again:
                assert (await again.next())[0] == "message"
                assert again.last_id == first.last_id


class TestEnding:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    async def test_a_signal_ends_it_whoever_watches(self, url: str, number: signal.Signals) -> None:
        with process(url) as (running, base):
            async with httpx.AsyncClient(base_url=base) as client, streamed(client) as events:
                await events.next()
                running.send_signal(number)
                with pytest.raises(EOFError):
                    while True:
                        await events.next()
                status = await asyncio.to_thread(running.wait, WAIT_S)
        assert status == 0

    async def test_a_redis_that_hangs_does_not_keep_it(self, tmp_path: Path) -> None:
        with private_server(tmp_path) as redis, process(redis.url) as (running, base):
            async with httpx.AsyncClient(base_url=base) as client, streamed(client) as events:
                await events.next()
                os.kill(redis.pid, signal.SIGSTOP)
                try:
                    asking = asyncio.create_task(client.get("/api/v1/queues", timeout=WAIT_S))
                    await events.until(lambda name, _: name == "away")
                    running.send_signal(signal.SIGTERM)
                    status = await asyncio.to_thread(running.wait, WAIT_S)
                finally:
                    os.kill(redis.pid, signal.SIGCONT)
                await asyncio.wait({asking})
                # 503 if its own time was up before the server's.
                assert asking.exception() or asking.result().status_code in (500, 503)
        assert status == 0

    async def test_the_lead_is_given_up_and_all_connections_are_closed(
        self, url: str, redis: Redis
    ) -> None:
        async with served(url):
            await await_until(lambda: redis.exists("headrace:leader"), what="it leads")
        assert not redis.exists("headrace:leader")
        assert [c["name"] for c in redis.client_list() if "server" in c["name"]] == []

    async def test_it_ends_when_its_caller_is_cancelled_and_gives_the_signals_back(
        self, url: str
    ) -> None:
        before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
        running = asyncio.create_task(serve(Headrace(url), port=0))
        await await_until(lambda: signal.getsignal(signal.SIGTERM) != before[0], what="it runs")
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(running, WAIT_S)
        assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == before


class TestAddress:
    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com", ""])
    async def test_only_this_machine_is_served_and_the_error_says_why(self, host: str) -> None:
        with pytest.raises(InvalidSetting, match="without tokens"):
            await serve(Headrace(), host=host, port=0)

    async def test_a_taken_port_is_said(self, url: str) -> None:
        async with served(url) as (client, _):
            with pytest.raises(HeadraceError, match=f"port {client.base_url.port} .*another port"):
                await serve(Headrace(url), port=client.base_url.port or 0)

    @pytest.mark.parametrize("port", [-1, 65_536])
    async def test_a_port_that_is_none_is_said(self, port: int) -> None:
        with pytest.raises(InvalidSetting, match=f"port {port}"):
            await serve(Headrace(), port=port)


class TestRedisComesAndGoes:
    async def test_the_server_stays_and_is_ready_again_by_itself(
        self, tmp_path: Path, quick: None
    ) -> None:
        with private_server(tmp_path) as redis:
            async with served(redis.url) as (client, _), streamed(client) as events:
                assert (await client.get("/readyz")).json() == {"ready": True}
                await events.until(lambda name, _: name == "message")

                redis.kill()
                away = await events.until(lambda name, _: name == "away")
                assert "redis://127.0.0.1" in away["error"]
                answer = await client.get("/readyz")
                assert answer.status_code == 503
                assert answer.json()["ready"] is False
                assert (await client.get("/healthz")).json() == {"alive": True}
                assert (await client.get("/")).status_code == 200
                assert "headrace_redis_up 0.0" in (await client.get("/metrics")).text
                refused = await client.post("/api/v1/jobs", json={"task": "a"})
                assert refused.status_code == 503

                redis.restart()
                await events.until(lambda name, _: name == "message")

                async def ready() -> bool:
                    return (await client.get("/readyz")).is_success

                await await_until(ready, what="it is ready again")
                assert (await client.post("/api/v1/jobs", json={"task": "a"})).status_code == 202
                await events.until(
                    lambda name, data: name == "message" and count(data, "pending") == 1
                )

    async def test_a_redis_that_hangs_is_not_ready(self, tmp_path: Path) -> None:
        with private_server(tmp_path) as redis:
            async with served(redis.url) as (client, _):
                os.kill(redis.pid, signal.SIGSTOP)
                try:
                    answer = await client.get("/readyz")
                finally:
                    os.kill(redis.pid, signal.SIGCONT)
        assert answer.status_code == 503
        assert "within 1 s" in answer.json()["error"]

    async def test_that_we_are_busy_ourselves_is_not_taken_for_a_redis_that_hangs(
        self, url: str
    ) -> None:
        async def burn() -> None:
            while True:
                time.sleep(0.4)  # noqa: ASYNC251 - a turn of the loop that takes long
                await asyncio.sleep(0)

        store, burning = AsyncStore(url), asyncio.create_task(burn())
        try:
            assert await Reader(store, Headrace(url)).why_down() == ""
        finally:
            burning.cancel()
            await store.close()


class TestMaintenance:
    async def test_a_due_job_is_promoted_with_no_consumer_there(
        self, url: str, redis: Redis
    ) -> None:
        async with served(url, policy=LeasePolicy(lease_s=0.3)) as (client, _):
            await client.post("/api/v1/jobs", json={"task": "a", "delay": 0.2})
            assert redis.zcard("queue:delayed") == 1
            await await_until(lambda: redis.llen("queue") == 1, what="the job is promoted")
            assert "headrace_maintenance_leader 1.0" in (await client.get("/metrics")).text

    async def test_when_it_fails_it_begins_again(
        self,
        url: str,
        redis: Redis,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        run, failures = Maintenance.run, [ValueError("a fault of ours")]

        async def fails_once(self: Maintenance) -> None:
            if failures:
                raise failures.pop()
            await run(self)

        monkeypatch.setattr(Maintenance, "run", fails_once)
        monkeypatch.setattr("headrace.web.server._AGAIN_S", 0.01)
        async with served(url):
            await await_until(lambda: redis.exists("headrace:leader"), what="it leads")
        assert "a fault of ours" in caplog.text


class TestEvents:
    async def test_the_lists_come_as_they_are_and_again_when_they_change(
        self, url: str, redis: Redis, quick: None
    ) -> None:
        async with served(url) as (client, _), streamed(client) as events:
            data = await events.message()
            assert [entry["key"] for entry in data["lists"]] == [
                "queue",
                "queue:priority",
                "queue:delayed",
                "queue:processing",
                "queue:dlq",
                "queue:limited",
            ]
            assert [entry["jobs"] for entry in data["lists"]] == [[]] * 6
            redis.lpush("queue", '{"task": "a", "args": [1]}', '{"task": "b"}')
            redis.blmove("queue", "queue:processing", 1, "RIGHT", "LEFT")
            redis.lpush("queue", '{"task": "c"}')
            data = await events.until(
                lambda name, data: (
                    name == "message"
                    and (count(data, "pending"), count(data, "processing")) == (2, 1)
                )
            )
            shown = {entry["place"]: entry["jobs"] for entry in data["lists"]}
            assert [job["task"] for job in shown["pending"]] == ["b", "c"]
            assert [job["arguments"] for job in shown["processing"]] == ["1"]

    async def test_nothing_is_sent_while_nothing_changes_but_signs_of_life(
        self, url: str, quick: None
    ) -> None:
        async with served(url) as (client, _), streamed(client) as events:
            await events.message()
            after: list[str] = []
            while after.count("beat") < 3:
                after.append((await events.next())[0])
            # On a slow machine a look takes too long now and then; what was away is told again.
            assert "message" not in after or "away" in after

    async def test_a_long_list_is_shown_in_part_and_large_jobs_in_smaller_part(
        self, url: str, redis: Redis, quick: None
    ) -> None:
        redis.lpush("queue", *[json.dumps({"task": "a", "args": [i]}) for i in range(100)])
        async with served(url) as (client, _), streamed(client) as events:
            data = await events.message()
            assert (count(data, "pending"), len(data["lists"][0]["jobs"])) == (100, 25)
            redis.rpush("queue", *[json.dumps({"task": "b", "args": ["x" * 200_000]})] * 30)
            # The counts are read before the lists: what comes between them is in one of them only.
            data = await events.until(
                lambda name, data: name == "message" and count(data, "pending") == 130
            )
            assert len(data["lists"][0]["jobs"]) == 5
            assert len(data["lists"][0]["jobs"][0]["arguments"]) < 250

    async def test_all_who_watch_share_one_look_and_with_the_last_one_it_ends(
        self, url: str, redis: Redis, quick: None
    ) -> None:
        looks = rounds = 0

        class Counting(Reader):
            async def read(self, *args: Any) -> Any:
                nonlocal looks
                looks += 1
                return await super().read(*args)

        class Rounds(updates.Updates):
            async def _look(self, *args: Any) -> None:
                nonlocal rounds
                rounds += 1
                await super()._look(*args)

        store = AsyncStore(url)
        feed = Rounds(Counting(store, Headrace(url)))
        before = asyncio.all_tasks()
        with contextlib.ExitStack() as stack:
            streams = []
            for _ in range(50):
                stack.enter_context(feed.subscribed("queue"))
                streams.append(feed.messages("queue"))
            for i in range(3):
                for stream in streams:
                    while not (await anext(stream)).startswith(b"data:"):
                        pass
                redis.lpush("queue", f'{{"task":"{i}"}}')
            assert 0 < looks <= rounds
        await await_until(
            lambda: feed._polling is None and asyncio.all_tasks() == before,
            what="the poller has ended",
        )
        await store.close()

    async def test_when_the_last_client_leaves_nobody_looks_any_more(
        self, url: str, quick: None
    ) -> None:
        def looking() -> bool:
            return any("_poll" in repr(task) for task in asyncio.all_tasks())

        async with served(url) as (client, _):
            async with streamed(client) as events:
                await events.message()
                assert looking()
            await await_until(lambda: not looking(), what="the poller has ended")

    async def test_a_fault_of_ours_is_shown_and_logged_and_passes(
        self,
        url: str,
        quick: None,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        faults = [KeyError("broken")]
        view = views.queue_view

        def broken_once(snapshot: op.Snapshot) -> Any:
            if faults:
                raise faults.pop()
            return view(snapshot)

        monkeypatch.setattr(updates, "queue_view", broken_once)
        async with served(url) as (client, _), streamed(client) as events:
            await events.until(lambda name, _: name == "away")
            await events.message()
        assert "broken" in caplog.text


async def test_a_queue_of_a_watcher_is_shown_before_anybody_used_it(url: str, quick: None) -> None:
    async with served(url) as (client, _), streamed(client, "nobody") as events:
        data = await events.message()
        assert count(data, "pending", "nobody") == 0
        assert data["lists"][0]["key"] == keys_of("nobody").pending
