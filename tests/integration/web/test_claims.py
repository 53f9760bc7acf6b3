"""Claims over HTTP: a consumer that has no access to Redis loses nothing, and runs nothing twice."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from redis import Redis

from headrace import RESULT, Context, Headrace, JobFailed, NoResult, chain
from headrace.ids import new_id
from headrace.leasing import Leases, Lines, leases
from headrace.policy import LeasePolicy
from headrace.scripts import script
from headrace.store import AsyncStore
from headrace.timings import telling, timings_of
from headrace.web import create_app
from headrace.web.application import LABEL
from tests.integration.web.client import OURS, error_of
from tests.support.consuming import QUICK, Site, a_store
from tests.support.proxy import Fault, proxied
from tests.support.wait import WAIT_S, await_until

ASK = {"consumer": "far", "queues": ["queue"]}


@pytest.fixture
async def site(url: str, redis: Redis) -> AsyncIterator[Site]:
    site = Site(url, redis)
    yield site
    await site.close()


@pytest.fixture
async def app(site: Site) -> Headrace:
    """Give the application that the server knows: without tasks, unless a test adds some."""
    return site.another_app()


@pytest.fixture
async def lines(app: Headrace, store: AsyncStore) -> AsyncIterator[Lines]:
    lines = Lines(store, Leases(store, app), LABEL, LeasePolicy())
    yield lines
    await lines.close()


def client_of(app: Headrace, store: AsyncStore, lines: Lines) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(create_app(app, store, lines=lines))
    return httpx.AsyncClient(transport=transport, base_url=f"{OURS}/api/v1", timeout=WAIT_S)


@pytest.fixture
async def api(
    app: Headrace, store: AsyncStore, lines: Lines, site: Site
) -> AsyncIterator[httpx.AsyncClient]:
    """Give a client of a server; afterwards the sum holds."""
    async with client_of(app, store, lines) as client:
        yield client
    await lines.close()
    site.check()


@asynccontextmanager
async def served_by(app: Headrace, url: str) -> AsyncIterator[httpx.AsyncClient]:
    """Give a client of a server that reaches Redis elsewhere."""
    async with a_store(url) as store:
        lines = Lines(store, Leases(store, app), LABEL, LeasePolicy())
        async with client_of(app, store, lines) as client:
            yield client
        await lines.close()


async def claim(api: httpx.AsyncClient, **asked: Any) -> list[dict[str, Any]]:
    answer = await api.post("/claims", json=ASK | asked)
    assert answer.status_code == 200, answer.text
    claims: list[dict[str, Any]] = answer.json()["claims"]
    return claims


async def settle(api: httpx.AsyncClient, job: dict[str, Any], end: str, **more: Any) -> list[Any]:
    outcome = {name: job[name] for name in ("queue", "id", "claim")} | {"end": end} | more
    answer = await api.post("/claims/settle", json={"outcomes": [outcome]})
    assert answer.status_code == 200, answer.text
    lost: list[Any] = answer.json()["lost"]
    return lost


async def extend(api: httpx.AsyncClient, *jobs: dict[str, Any], lease: float = 60) -> Any:
    claims = [{name: job[name] for name in ("queue", "id", "claim")} for job in jobs]
    answer = await api.post("/claims/extend", json={"claims": claims, "lease": lease})
    assert answer.status_code == 200, answer.text
    return answer.json()


class TestAJob:
    async def test_is_given_with_its_call_and_a_lease(
        self, api: httpx.AsyncClient, site: Site
    ) -> None:
        site.push({"id": "a", "task": "send", "args": ["ü"], "kwargs": {"n": 1}, "timeout": 9})
        (job,) = await claim(api, lease=30)
        left_ms = job.pop("lease_ends_at_ms") - site.now_ms()
        token = job.pop("claim")
        assert job == {
            "queue": "queue", "id": "a", "task": "send", "args": ["ü"], "kwargs": {"n": 1},
            "headers": {}, "attempt": 1, "max_attempts": 3, "delivery": 0, "timeout": 9,
        }  # fmt: skip
        assert 0 < left_ms <= 30_000
        assert site.state().claims["a"][0] == token
        assert token.startswith("far~")

    async def test_keeps_its_numbers_as_they_are_written(
        self, api: httpx.AsyncClient, site: Site
    ) -> None:
        site.push(b'{"id":"a","task":"t","args":[123456789012345678901234567890,0.10]}')
        answer = await api.post("/claims", json=ASK)
        assert b'"args":[123456789012345678901234567890,0.10]' in answer.content

    async def test_that_is_done_is_gone(self, api: httpx.AsyncClient, site: Site) -> None:
        site.push({"task": "t"})
        (job,) = await claim(api)
        assert await settle(api, job, "ack") == []
        assert site.ends() == {"done": 1}
        assert not await claim(api)

    async def test_whose_result_is_wanted_gives_it(
        self, api: httpx.AsyncClient, site: Site
    ) -> None:
        @site.app.task(result_ttl=60)
        async def far() -> None: ...

        job = await far.options(result_ttl=60).aenqueue()
        (claimed,) = await claim(api)
        await settle(api, claimed, "ack", result={"a": [1, None]})
        assert await job.aresult(WAIT_S) == {"a": [1, None]}  # type: ignore[func-returns-value]
        assert [run.outcome for run in await job.ahistory()] == ["done"]

    async def test_that_failed_is_tried_again_and_then_dead(
        self, api: httpx.AsyncClient, site: Site
    ) -> None:
        site.push({"id": "a", "task": "t", "max_attempts": 2})
        error = {"type": "Timeout", "message": "no answer", "traceback": "at line 3"}
        (job,) = await claim(api)
        await settle(api, job, "retry", error=error, delay=0)
        (job,) = await claim(api)
        assert (job["attempt"], job["delivery"]) == (2, 1)
        await settle(api, job, "retry", error=error, delay=0)
        (letter,) = site.letters()
        told = letter["error"]
        assert (told["reason"], told["type"], told["message"]) == (
            "max_attempts",
            "Timeout",
            "no answer",
        )
        assert "at line 3" in told["traceback"]
        assert told["consumer"].startswith("far~")

    async def test_that_is_tried_later_waits(self, api: httpx.AsyncClient, site: Site) -> None:
        site.push({"task": "t"})
        (job,) = await claim(api)
        await settle(api, job, "retry", delay=60)
        assert site.redis.zcard(site.k.delayed) == 1
        assert not await claim(api)

    async def test_that_is_hopeless_is_dead_at_once(
        self, api: httpx.AsyncClient, site: Site
    ) -> None:
        site.push({"task": "t"})
        (job,) = await claim(api)
        await settle(api, job, "dead", error={"message": "no such user"})
        (letter,) = site.letters()
        assert (letter["error"]["reason"], letter["error"]["message"]) == (
            "rejected",
            "no such user",
        )

    async def test_that_is_released_is_the_next_one_and_uncharged(
        self, api: httpx.AsyncClient, site: Site
    ) -> None:
        site.push({"id": "a", "task": "t"}, {"id": "b", "task": "t"})
        (job,) = await claim(api)
        await settle(api, job, "release")
        (again,) = await claim(api)
        assert (again["id"], again["attempt"], again["delivery"]) == ("a", 1, 1)
        assert await settle(api, job, "ack") == [{"queue": "queue", "id": "a"}]

    async def test_is_one_of_as_many_as_are_asked_for(
        self, api: httpx.AsyncClient, site: Site
    ) -> None:
        site.push(*({"id": f"j{n}", "task": "t"} for n in range(5)))
        first, second = await claim(api, count=3), await claim(api, count=3)
        assert [job["id"] for job in first + second] == [f"j{n}" for n in range(5)]
        outcomes = [
            {"queue": "queue", "id": job["id"], "claim": job["claim"], "end": "ack"}
            for job in first + second
        ]
        answer = await api.post("/claims/settle", json={"outcomes": outcomes})
        assert answer.json() == {"lost": []}
        assert site.ends() == {"done": 5}


class TestStatistics:
    async def test_a_job_that_ends_far_away_is_counted_with_its_wait_and_its_run(
        self, api: httpx.AsyncClient, site: Site, lines: Lines
    ) -> None:
        await site.app.aenqueue("t")
        (job,) = await claim(api)
        await asyncio.sleep(0.02)
        assert await settle(api, job, "ack") == []
        assert len(await settle(api, job, "ack")) == 1  # it is counted once
        await lines.close()
        counted = (await api.get("/statistics")).json()["tasks"]["t"]
        assert (counted["runs"], counted["done"], counted["wait"]["count"]) == (1, 1, 1)
        assert 0.02 <= counted["run"]["mean_s"] < WAIT_S

    async def test_who_fails_gives_back_or_cannot_run_is_counted_as_what_it_is(
        self, api: httpx.AsyncClient, site: Site, lines: Lines
    ) -> None:
        site.push({"task": "t", "expires_at": 1})
        assert await claim(api) == []
        for end in ("retry", "dead", "release"):
            site.push({"task": "t"})
            (job,) = await claim(api)
            await settle(api, job, end, **({"delay": 60} if end == "retry" else {}))
        await lines.close()
        counted = (await api.get("/statistics")).json()["tasks"]["t"]
        assert (counted["runs"], counted["retried"], counted["dead"]) == (2, 1, 2)

    async def test_a_server_that_runs_tells_without_being_asked(
        self, api: httpx.AsyncClient, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(telling, "EVERY_S", 0.01)

        async def told() -> bool:
            return bool((await api.get("/statistics")).json()["overall"]["done"] == 2)

        for _ in range(2):
            site.push({"task": "t"})
        for job in await claim(api, count=2):
            await settle(api, job, "ack")
        await await_until(told)

    @pytest.mark.parametrize("due", [f"+{'9' * 400}", 5, None])
    async def test_when_a_foreign_job_was_due_is_in_no_jobs_way(
        self, api: httpx.AsyncClient, site: Site, lines: Lines, due: object
    ) -> None:
        site.push({"id": new_id(), "task": "t", "due": due})
        (job,) = await claim(api)
        assert await settle(api, job, "ack") == []
        assert site.ends() == {"done": 1}
        await lines.close()
        counted = (await api.get("/statistics")).json()["tasks"]["t"]
        assert (counted["done"], counted["wait"]["count"]) == (1, 1)

    async def test_a_server_that_could_not_tell_for_whatever_reason_tells_of_the_next(
        self,
        api: httpx.AsyncClient,
        site: Site,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        monkeypatch.setattr(telling, "EVERY_S", 0.01)

        async def work() -> None:
            site.push({"task": "t"})
            (job,) = await claim(api)
            await settle(api, job, "ack")

        async def told() -> bool:
            return bool((await api.get("/statistics")).json()["overall"]["done"] == 1)

        with monkeypatch.context() as broken:

            def fails(*_: object) -> None:
                raise RuntimeError("not now")

            broken.setattr("headrace.timings.requests.add", fails)
            await work()
            await await_until(lambda: "not now" in caplog.text)
        await work()
        await await_until(told)

    async def test_a_claim_of_an_earlier_version_has_no_times(
        self, api: httpx.AsyncClient, site: Site, lines: Lines, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(leases, "new_holder", lambda consumer: f"{consumer}~{'0' * 16}")
        site.push({"task": "t"})
        (job,) = await claim(api)
        await settle(api, job, "ack")
        await lines.close()
        counted = (await api.get("/statistics")).json()["tasks"]["t"]
        assert (counted["runs"], counted["done"]) == (0, 1)


@pytest.mark.parametrize(("fault", "counted"), [("cut", 1), ("swallow", 1)])
async def test_what_is_told_is_counted_once_at_most(
    site: Site, url: str, fault: Fault, counted: int
) -> None:
    site.redis.script_load(script("timings/add").source)
    site.push({"task": "t"})
    with proxied(url) as proxy:
        async with a_store(proxy.url) as store:
            lines = Lines(store, Leases(store, site.another_app()), LABEL, LeasePolicy())
            async with client_of(site.another_app(), store, lines) as api:
                (job,) = await claim(api)
                proxy.fail_next(fault, script("timings/add").sha.encode())
                await settle(api, job, "ack")
                await lines.close()  # it does not fail, and does not wait for long
    runs = site.redis.hget(timings_of(site.k), "t")
    assert int((runs or b"0").split()[0]) <= counted
    site.check()


class TestWhatCannotRun:
    async def test_a_malformed_job_is_a_dead_letter_and_given_to_nobody(
        self, api: httpx.AsyncClient, site: Site
    ) -> None:
        site.push(b"no job", {"id": "b", "task": "t"})
        given = await claim(api, count=2)
        assert [job["id"] for job in given] == ["b"]
        assert site.letters()[0]["error"]["reason"] == "malformed"

    async def test_a_job_that_has_expired_is_not_given(
        self, api: httpx.AsyncClient, site: Site
    ) -> None:
        site.push({"task": "t", "expires_at": 1})
        assert not await claim(api)
        assert site.letters()[0]["error"]["reason"] == "expired"

    async def test_of_a_paused_queue_nothing_is_given(
        self, api: httpx.AsyncClient, site: Site
    ) -> None:
        site.push({"task": "t"})
        await api.post("/queues/queue/pause")
        assert not await claim(api)
        await api.post("/queues/queue/resume")
        assert len(await claim(api)) == 1

    async def test_a_limit_that_the_server_knows_holds(
        self, api: httpx.AsyncClient, site: Site, app: Headrace
    ) -> None:
        @app.task(concurrency_limit=1)
        async def one_at_a_time() -> None: ...

        for _ in range(2):
            await one_at_a_time.aenqueue()
        (job,) = await claim(api, count=2)
        assert not await claim(api, count=2)
        waits = asyncio.create_task(claim(api, wait=60))
        await settle(api, job, "ack")
        (job,) = await waits
        await settle(api, job, "ack")
        assert site.ends()["done"] == 2


class TestFencing:
    async def test_a_job_whose_consumer_died_runs_again_and_its_late_word_is_refused(
        self, api: httpx.AsyncClient, site: Site
    ) -> None:
        ran: list[tuple[int, int]] = []

        @site.app.task
        async def work(ctx: Context) -> None:
            ran.append((ctx.attempt, ctx.delivery))

        await site.app.aenqueue("work")
        (job,) = await claim(api)
        site.leases_run_out()
        async with site.consumer(lease=QUICK, check=False):
            await site.drained()
        assert ran == [(1, 1)]
        assert site.counters()["reclaimed"] == 1
        assert await settle(api, job, "ack") == [{"queue": "queue", "id": job["id"]}]
        assert (await extend(api, job))["lost"] == [job["id"]]
        assert site.ends()["done"] == 1

    @pytest.mark.parametrize("token", ["far:1", "x", "", "far~0:1", "ü:1"])
    async def test_a_token_that_is_none_changes_nothing(
        self, api: httpx.AsyncClient, site: Site, token: str
    ) -> None:
        site.push({"task": "t"})
        (job,) = await claim(api)
        forged = job | {"claim": token}
        assert await settle(api, forged, "ack") == [{"queue": "queue", "id": job["id"]}]
        assert (await extend(api, forged))["lost"] == [job["id"]]
        assert await settle(api, job, "ack") == []

    async def test_repeated_a_settle_changes_nothing(
        self, api: httpx.AsyncClient, site: Site
    ) -> None:
        site.push({"task": "t"})
        (job,) = await claim(api)
        outcome = {"queue": "queue", "id": job["id"], "claim": job["claim"]}
        twice = [outcome | {"end": "ack"}, outcome | {"end": "dead"}]
        answer = await api.post("/claims/settle", json={"outcomes": twice})
        assert answer.json() == {"lost": []}
        assert await settle(api, job, "ack") == [{"queue": "queue", "id": job["id"]}]
        assert site.ends() == {"done": 1}

    async def test_a_lease_is_extended(self, api: httpx.AsyncClient, site: Site) -> None:
        site.push({"task": "t"})
        (job,) = await claim(api, lease=2)
        assert await extend(api, job, lease=600) == {"lost": [], "cancelled": []}
        ends_at = site.redis.zscore(site.k.leases, job["id"])
        assert ends_at is not None
        assert ends_at - site.now_ms() > 500_000

    async def test_a_job_that_is_to_be_cancelled_says_so_and_is(
        self, api: httpx.AsyncClient, site: Site
    ) -> None:
        site.push({"id": "a", "task": "t"})
        (job,) = await claim(api)
        answer = await api.post("/jobs/a/cancel")
        assert answer.json()["became"] == "requested"
        assert (await extend(api, job))["cancelled"] == ["a"]
        assert await settle(api, job, "cancel") == []
        assert site.ends() == {"cancel": 1}


@pytest.mark.parametrize("fault", ["cut", "swallow"])
async def test_what_a_lost_answer_had_given_goes_back_uncharged(
    site: Site, url: str, fault: Fault
) -> None:
    site.redis.script_load(script("claim").source)
    sent = await site.app.aenqueue("t")
    with proxied(url) as proxy:
        async with served_by(site.another_app(), proxy.url) as api:
            proxy.fail_next(fault, script("claim").sha.encode())
            answer = await api.post("/claims", json=ASK)
            assert answer.status_code == 503
            (job,) = await claim(api)
            assert (job["id"], job["attempt"]) == (sent.id, 1)
            assert await settle(api, job, "ack") == []
    assert "reclaimed" not in site.counters()
    site.check()


@pytest.mark.parametrize("result", ["1e400", "[" * 5_000 + "]" * 5_000])
async def test_a_result_that_cannot_be_kept_is_no_obstacle(
    api: httpx.AsyncClient, site: Site, result: str
) -> None:
    job = (await site.app.aenqueue_many([site.app.call_with("t", (), {}, {"result_ttl": 60})]))[0]
    (claimed,) = await claim(api)
    outcome = json.dumps({name: claimed[name] for name in ("queue", "id", "claim")})
    body = f'{{"outcomes": [{outcome[:-1]}, "end": "ack", "result": {result}}}]}}'
    answer = await api.post(
        "/claims/settle", content=body, headers={"content-type": "application/json"}
    )
    if answer.status_code == 400:  # deeper than anybody reads: nothing has happened
        assert "the body is no settlement" in error_of(answer)
        await settle(api, claimed, "ack")
    else:
        assert answer.json() == {"lost": []}
        with pytest.raises(NoResult):
            await job.aresult(WAIT_S)


@pytest.mark.parametrize("text", ["a\0b", "", "'\"<b>", "ü" * 300])
async def test_an_error_may_be_called_anything(
    api: httpx.AsyncClient, site: Site, text: str
) -> None:
    site.push({"task": "t"})
    (job,) = await claim(api)
    error = {"type": text, "message": text, "traceback": text}
    assert await settle(api, job, "dead", error=error) == []
    (letter,) = site.letters()
    assert letter["error"].get("message", "") == text


async def test_a_workflow_goes_on(api: httpx.AsyncClient, site: Site) -> None:
    @site.app.task
    async def add(a: int, b: int) -> int:
        return a + b

    flow = await chain(add.call(1, 2), add.call(RESULT, 10)).aenqueue()
    (first,) = await claim(api)
    await settle(api, first, "ack", result=3)
    (second,) = await claim(api)
    assert second["args"] == [3, 10]
    await settle(api, second, "ack", result=13)
    assert await flow.aresult(WAIT_S) == 13


async def test_what_failed_far_away_is_raised_at_the_waiter(
    api: httpx.AsyncClient, site: Site
) -> None:
    @site.app.task(result_ttl=60, max_attempts=1)
    async def far() -> None: ...

    job = await far.aenqueue()
    (claimed,) = await claim(api)
    await settle(api, claimed, "dead", error={"type": "CardRefused", "message": "no"})
    with pytest.raises(JobFailed, match="CardRefused: no"):
        await job.aresult(WAIT_S)


class TestWaiting:
    async def blocked(self, site: Site) -> None:
        await await_until(
            lambda: any("b" in client["flags"] for client in site.redis.client_list()),
            what="somebody blocks",
        )

    @pytest.mark.parametrize("way", ["plain", "priority", "delayed", "resumed"])
    async def test_ends_when_a_job_comes(
        self, api: httpx.AsyncClient, site: Site, way: str
    ) -> None:
        if way == "resumed":
            site.push({"task": "t"})
            await api.post("/queues/queue/pause")
        polling = asyncio.create_task(claim(api, wait=60))
        await self.blocked(site)
        if way == "plain":
            site.push({"task": "t"})
        elif way == "priority":
            await api.post("/jobs", json={"task": "t", "priority": 5})
        elif way == "delayed":
            await api.post("/jobs", json={"task": "t", "delay": 0.01})
            async with site.consumer(queues="other", lease=QUICK, check=False):
                await await_until(polling.done)
        else:
            await api.post("/queues/queue/resume")
        (job,) = await polling
        assert await settle(api, job, "ack") == []

    async def test_ends_without_a_job_when_its_time_is_over(self, api: httpx.AsyncClient) -> None:
        assert await claim(api, wait=0.05) == []

    async def test_many_wait_and_each_gets_one(self, api: httpx.AsyncClient, site: Site) -> None:
        polls = [asyncio.create_task(claim(api, wait=60)) for _ in range(50)]
        await self.blocked(site)
        site.push(*({"id": f"j{n}", "task": "t"} for n in range(50)))
        given = [job for jobs in await asyncio.gather(*polls) for job in jobs]
        assert sorted(job["id"] for job in given) == sorted(f"j{n}" for n in range(50))
        for job in given:
            assert await settle(api, job, "ack") == []

    async def test_for_several_queues_gets_what_comes_first(
        self, api: httpx.AsyncClient, redis: Redis
    ) -> None:
        polling = asyncio.create_task(claim(api, queues=["queue", "emails"], wait=60))
        await await_until(
            lambda: sum("b" in one["flags"] for one in redis.client_list()) >= 4,
            what="both are waited for",
        )
        redis.lpush("emails", '{"id":"m","task":"t"}')
        (job,) = await polling
        assert job["queue"] == "emails"
        assert await settle(api, job, "ack") == []

    async def test_costs_redis_nothing_while_nothing_comes(
        self, api: httpx.AsyncClient, site: Site
    ) -> None:
        polls = [asyncio.create_task(claim(api, wait=1)) for _ in range(20)]
        await self.blocked(site)
        await asyncio.sleep(0)
        before = site.redis.info("commandstats")["cmdstat_evalsha"]["calls"]
        assert await asyncio.gather(*polls) == [[]] * 20
        after = site.redis.info("commandstats")["cmdstat_evalsha"]["calls"]
        assert after - before <= 20  # those who had not claimed when the first one blocked

    async def test_who_has_left_gets_nothing_and_nothing_is_lost(
        self, api: httpx.AsyncClient, site: Site, lines: Lines
    ) -> None:
        polling = asyncio.create_task(claim(api, wait=60))
        await self.blocked(site)
        polling.cancel()
        await asyncio.wait({polling})
        site.push({"id": "a", "task": "t"})
        (job,) = await claim(api, wait=60)
        assert (job["id"], job["attempt"]) == ("a", 1)
        assert await settle(api, job, "ack") == []
        assert "reclaimed" not in site.counters()

    async def test_ends_at_once_when_the_server_ends(
        self, api: httpx.AsyncClient, site: Site, lines: Lines
    ) -> None:
        polling = asyncio.create_task(claim(api, wait=60))
        await self.blocked(site)
        await lines.close()
        assert await polling == []
        await site.check_nothing_is_left()


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("", {}, "missing required field `consumer`"),
        ("", ASK | {"consumer": "a b"}, "consumer"),
        ("", ASK | {"consumer": "a~b"}, "consumer"),
        ("", ASK | {"queues": []}, "queues"),
        ("", ASK | {"queues": ["a:b"]}, "a:b"),
        ("", ASK | {"count": 101}, "count"),
        ("", ASK | {"wait": 61}, "wait"),
        ("", ASK | {"lease": 0}, "lease"),
        ("", ASK | {"leese": 1}, "leese"),
        ("/extend", {"claims": []}, "claims"),
        ("/settle", {"outcomes": [{"queue": "q", "id": "a", "claim": "c", "end": "x"}]}, "end"),
    ],
)
async def test_what_has_no_meaning_is_refused_by_name(
    api: httpx.AsyncClient, path: str, body: dict[str, Any], says: str
) -> None:
    answer = await api.post(f"/claims{path}", content=json.dumps(body))
    assert answer.status_code == 415
    answer = await api.post(f"/claims{path}", json=body)
    assert answer.status_code == 400
    assert says in error_of(answer)


async def test_all_partitions_of_a_queue_are_one(
    api: httpx.AsyncClient, url: str, redis: Redis
) -> None:
    producer = Headrace(url)
    producer.partition_queue("queue", 4)
    sent = [await producer.aenqueue("t", n) for n in range(400)]
    await producer.aclose()
    got: list[dict[str, Any]] = []
    while jobs := await claim(api, count=100):
        got += jobs
    assert {job["id"] for job in got} == {job.id for job in sent}
    assert len({job["queue"] for job in got}) == 4
    redis.flushdb()
