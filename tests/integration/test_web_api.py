"""The HTTP API and the metrics, against a real server of the tests' own; no socket of ours."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any, cast

import httpx
import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis

from headrace import Headrace, ids, wire
from headrace import operations as op
from headrace.embedded.server import free_port
from headrace.keys import QUEUES, Keys, keys_of
from headrace.store import AsyncStore
from headrace.web import create_app
from headrace.web.limits import MAX_BODY
from headrace.web.reader import Reader
from headrace.web.shapes import MAX_JOBS
from tests.support.plain import PlainRedis
from tests.support.wait import WAIT_S, await_until

K = keys_of("queue")
OURS = "http://127.0.0.1"


def client_of(app: Headrace, store: AsyncStore) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(create_app(app, store)), base_url=OURS, timeout=WAIT_S
    )


@pytest.fixture
async def app(url: str) -> AsyncIterator[Headrace]:
    app = Headrace(url, max_pending=2_000)

    @app.task
    def add(a: int, b: int) -> int:
        return a + b

    yield app
    await app.aclose()


@pytest.fixture
async def api(app: Headrace, store: AsyncStore) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app, store) as client:
        yield client


def error_of(response: httpx.Response) -> str:
    """Give the error that a refusal must have, and check that it is a sentence."""
    assert response.headers["content-type"] == "application/json"
    error = response.json()["error"]
    assert " " in error, error
    return str(error)


async def kill_one(store: AsyncStore, k: Keys, reason: wire.Reason, failure: Exception) -> None:
    """Claim a job and end it in the dead letters."""
    (job,) = (await store.run(op.claim(k, 1, lease_ms=60_000, consumer="c", first=1))).jobs
    parts = wire.split(job)
    assert parts
    head, body = parts
    error = wire.error_of(reason, failure, failed_at=1, consumer="c")
    dead = op.Outcome(head.id, 1, "dead", job=wire.letter(head, body, error))
    assert await store.run(op.settle(k, "c", [dead])) == []


class TestEnqueue:
    async def test_a_job_stands_in_the_list_as_the_wire_says(
        self, api: httpx.AsyncClient, redis: Redis
    ) -> None:
        sent = {"task": "echo", "args": ["hi", 1 << 80, 0.1], "kwargs": {"to": {"a": None}}}
        answer = await api.post("/api/jobs", json=sent)
        assert answer.status_code == 202
        job_id = answer.json()["id"]
        assert answer.json() == {"id": job_id, "queue": "queue"}
        assert [json.loads(job) for job in redis.lrange("queue", 0, -1)] == [{"id": job_id, **sent}]

    async def test_an_array_is_many_jobs_in_its_order(
        self, api: httpx.AsyncClient, redis: Redis
    ) -> None:
        sent = [{"task": "echo", "args": [i]} for i in range(1_500)]
        answer = await api.post("/api/jobs", json=sent)
        assert answer.status_code == 202
        accepted = [job["id"] for job in answer.json()["jobs"]]
        stored = [json.loads(job) for job in reversed(redis.lrange("queue", 0, -1))]
        assert [job["id"] for job in stored] == accepted
        assert [job["args"] for job in stored] == [[i] for i in range(1_500)]

    async def test_no_jobs_are_none(self, api: httpx.AsyncClient) -> None:
        answer = await api.post("/api/jobs", json=[])
        assert (answer.status_code, answer.json()) == (202, {"jobs": []})

    async def test_options_are_those_of_the_python_api(
        self, api: httpx.AsyncClient, redis: Redis
    ) -> None:
        sent = {
            "task": "mail", "queue": "emails", "at": 4_000_000_000, "priority": 5, "timeout": 2.5,
            "max_attempts": 7, "result_ttl": 60, "key": "k", "key_ttl": 60, "delay": None,
        }  # fmt: skip
        first, second = (
            await api.post("/api/jobs", json=sent),
            await api.post("/api/jobs", json=sent),
        )
        assert first.json()["queue"] == "emails"
        assert first.json() == second.json(), "a second job with the key is the first one"
        (entry,) = redis.zrange(keys_of("emails").delayed, 0, -1, withscores=True)
        job, due_ms = cast("tuple[bytes, float]", entry)
        assert due_ms == 4_000_000_000_000
        assert json.loads(job) == {
            "id": first.json()["id"], "priority": 5, "task": "mail",
            "timeout": 2.5, "max_attempts": 7, "result_ttl": 60,
        }  # fmt: skip

    @pytest.mark.parametrize(
        ("body", "says"),
        [
            (b'{"task": "echo", "colour": "red"}', "`colour`"),
            (b'[{"task": "echo"}, {"task": "echo", "arg": []}]', "`arg` - at `$[1]`"),
            (b'{"args": []}', "`task`"),
            (b'{"task": ""}', "$.task"),
            (b'{"task": 1}', "$.task"),
            (b'{"task": "echo", "args": {}}', "$.args"),
            (b'{"task": "echo", "priority": 101}', "from -100 to 100"),
            (b'{"task": "echo", "delay": -1}', "0 or more"),
            (b'{"task": "echo", "delay": 1, "at": 1}', "not both"),
            (b'{"task": "echo", "queue": "a b"}', "cannot be a queue's name"),
            (b'{"task": "echo", "queue": ""}', "$.queue"),
            (b'{"task": "echo", "priority": 1.5}', "must be a whole number"),
            (b'{"task": "echo", "priority": true}', "$.priority"),
            (b'[{"task": "echo"}, {"task": "echo", "queue": "a:b"}]', "job 1: "),
            (b'{"task": "add", "args": [1]}', "missing a required argument: 'b'"),
            (b'{"task": "echo", "args": [1e400]}', "out of range"),
            (b'{"task": "echo", "args": ["\xff"]}', "utf-8"),
            (b'{"task": "echo", "args": ' + b"[" * 100_000, "recursion"),
            (b'"echo"', "Expected"),
            (b"", "truncated"),
            (b"task=echo", "malformed"),
        ],
    )
    async def test_what_cannot_be_a_job_is_refused_by_name_and_nothing_is_enqueued(
        self, api: httpx.AsyncClient, redis: Redis, body: bytes, says: str
    ) -> None:
        answer = await api.post(
            "/api/jobs", content=body, headers={"content-type": "application/json; charset=utf-8"}
        )
        assert answer.status_code == 400
        assert says.lower() in error_of(answer).lower()
        assert redis.dbsize() == 0

    async def test_a_whole_number_may_be_written_as_5_0(
        self, api: httpx.AsyncClient, redis: PlainRedis
    ) -> None:
        sent = b'{"task": "a", "priority": 5.0, "max_attempts": 7.0}'
        kind = {"content-type": "application/json"}
        assert (await api.post("/api/jobs", content=sent, headers=kind)).status_code == 202
        (job,) = redis.zrange("queue:priority", 0, -1)
        assert job.endswith(b',"priority":5,"task":"a","max_attempts":7}')

    async def test_a_job_over_the_limit_is_too_large(self, api: httpx.AsyncClient) -> None:
        answer = await api.post("/api/jobs", json={"task": "echo", "args": ["x" * (1 << 20)]})
        assert answer.status_code == 413
        assert "limit" in error_of(answer)

    async def test_too_many_jobs_are_too_many(self, api: httpx.AsyncClient) -> None:
        answer = await api.post("/api/jobs", json=[{"task": "a"}] * (MAX_JOBS + 1))
        assert answer.status_code == 413
        assert "10,000 at a time" in error_of(answer)

    @pytest.mark.parametrize(
        "body",
        [
            b"[" + b",".join([b'{"task":"a"}'] * 645_000) + b"]",
            b'{"task":"a","args":[' + b",".join([b"{}"] * 2_500_000) + b"]}",
        ],
        ids=["jobs", "arguments"],
    )
    async def test_what_is_too_much_is_not_made_into_objects_first(
        self, api: httpx.AsyncClient, body: bytes
    ) -> None:
        tracemalloc.start()
        try:
            answer = await api.post(
                "/api/jobs", content=body, headers={"content-type": "application/json"}
            )
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert answer.status_code == 413
        assert "limit" in error_of(answer) or "10,000 at a time" in error_of(answer)
        assert peak < 6 * len(body)  # the body itself, a few times

    async def test_arguments_of_a_wrong_kind_are_said(self, api: httpx.AsyncClient) -> None:
        wrong: list[dict[str, Any]] = [{"args": {}}, {"args": None}, {"kwargs": []}]
        for given in wrong:
            answer = await api.post("/api/jobs", json=[{"task": "a"}, {"task": "a", **given}])
            assert answer.status_code == 400
            assert "job 1: the body is no job" in error_of(answer)

    async def test_a_body_without_end_is_cut_off_at_the_limit(self, api: httpx.AsyncClient) -> None:
        sent = 0

        async def endless() -> AsyncIterator[bytes]:
            nonlocal sent
            while True:
                sent += 1 << 16
                yield b" " * (1 << 16)

        answer = await api.post(
            "/api/jobs", content=endless(), headers={"content-type": "application/json"}
        )
        assert answer.status_code == 413
        assert "over 8,388,608 bytes" in error_of(answer)
        assert sent <= MAX_BODY + 2 * (1 << 16)

    async def test_a_full_queue_is_429(self, api: httpx.AsyncClient, redis: Redis) -> None:
        redis.lpush("queue", *["{}"] * 1_999)
        assert (await api.post("/api/jobs", json={"task": "a"})).status_code == 202
        answer = await api.post("/api/jobs", json={"task": "a"})
        assert answer.status_code == 429
        assert "its bound" in error_of(answer)
        assert answer.json()["accepted"] == []

    async def test_with_redis_away_nothing_was_accepted(self) -> None:
        url = f"redis://127.0.0.1:{free_port()}/0"
        app = Headrace(url)
        async with client_of(app, AsyncStore(url)) as api:
            answer = await api.post("/api/jobs", json={"task": "a"})
            assert answer.status_code == 503
            assert "Start one" in error_of(answer)
            assert answer.json()["may_have_been_accepted"] is False
            assert (await api.get("/api/queues")).status_code == 503
            assert (await api.get("/api/jobs/x")).status_code == 503
            assert (await api.get("/api/queues/queue/jobs")).status_code == 503

    async def test_with_the_answer_lost_the_job_may_have_been_accepted(self) -> None:
        async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while b"EVALSHA" not in (command := await reader.read(1 << 16)):
                writer.write(b"+OK\r\n" * command.count(b"*"))
            writer.close()

        async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
            url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
            async with client_of(Headrace(url), AsyncStore(url)) as api:
                answer = await api.post("/api/jobs", json={"task": "a"})
        assert answer.status_code == 503
        assert "was lost" in error_of(answer)
        assert answer.json()["may_have_been_accepted"] is True


class TestOtherSites:
    @pytest.mark.parametrize(
        "kind", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""]
    )
    async def test_a_form_of_another_page_cannot_enqueue(
        self, api: httpx.AsyncClient, redis: Redis, kind: str
    ) -> None:
        answer = await api.post(
            "/api/jobs", content=b'{"task": "a"}', headers={"content-type": kind}
        )
        assert answer.status_code == 415
        assert "application/json" in error_of(answer)
        assert redis.dbsize() == 0

    @pytest.mark.parametrize("site", ["cross-site", "same-site"])
    async def test_what_the_browser_says_comes_from_elsewhere_is_refused(
        self, api: httpx.AsyncClient, redis: Redis, site: str
    ) -> None:
        answer = await api.post("/api/jobs", json={"task": "a"}, headers={"sec-fetch-site": site})
        assert answer.status_code == 403
        assert "another site" in error_of(answer)
        assert redis.dbsize() == 0

    async def test_our_own_page_is_not_elsewhere(self, api: httpx.AsyncClient) -> None:
        headers = {"sec-fetch-site": "same-origin"}
        assert (await api.post("/api/jobs", json={"task": "a"}, headers=headers)).is_success

    @pytest.mark.parametrize(
        "path", ["/", "/api/queues", "/api/events", "/metrics", "/static/app.js"]
    )
    async def test_a_name_that_was_made_to_point_here_sees_nothing(
        self, api: httpx.AsyncClient, path: str
    ) -> None:
        answer = await api.get(path, headers={"host": "evil.example:8390"})
        assert answer.status_code == 403
        assert "http://127.0.0.1" in error_of(answer)

    @pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:8390", "[::1]:8390"])
    async def test_every_name_of_this_machine_is_its_own(
        self, api: httpx.AsyncClient, host: str
    ) -> None:
        assert (await api.get("/healthz", headers={"host": host})).json() == {"alive": True}

    async def test_no_answer_lets_another_origin_read_it(self, api: httpx.AsyncClient) -> None:
        answer = await api.options("/api/jobs", headers={"origin": "https://evil.example"})
        assert not [name for name in answer.headers if name.startswith("access-control")]


class TestErrors:
    async def test_a_path_that_is_none_is_404(self, api: httpx.AsyncClient) -> None:
        answer = await api.get("/api/nothing")
        assert answer.status_code == 404
        assert "/api/nothing" in error_of(answer)

    async def test_a_wrong_method_is_405_and_says_which_is_right(
        self, api: httpx.AsyncClient
    ) -> None:
        answer = await api.get("/api/jobs")
        assert answer.status_code == 405
        assert error_of(answer) == "/api/jobs does not take GET: use POST"
        assert answer.headers["allow"] == "POST"


class TestQueues:
    async def test_every_place_is_counted(
        self, api: httpx.AsyncClient, app: Headrace, store: AsyncStore
    ) -> None:
        for _ in range(3):
            await app.aenqueue("a")
        await kill_one(store, K, "max_attempts", ValueError("no"))
        await store.run(op.claim(K, 1, lease_ms=60_000, consumer="c", first=2))
        await app.aenqueue_many(
            [app.call_with("a", (), {}, {"delay": 60}), app.call_with("a", (), {}, {"priority": 1})]
        )
        await store.run(op.pause(K, paused=True))
        await store.run(op.command("LPUSH", "queue", '{"task": "a"}', parse=int))
        answer = (await api.get("/api/queues")).json()
        (queue,) = answer["queues"]
        assert 0 <= queue.pop("oldest_age_s") < 60
        assert answer["now_ms"] - 60_000 < queue.pop("oldest_at_ms") <= answer["now_ms"]
        assert queue.pop("next_due_at_ms") > answer["now_ms"]
        assert queue == {
            "queue": "queue", "paused": True, "pending": 2, "priority": 1, "delayed": 1,
            "processing": 1, "dead": 1, "foreign": 1, "counters": {"enqueued": 5, "dead": 1},
        }  # fmt: skip

    async def test_the_queues_of_the_application_are_there_before_anybody_used_them(
        self, api: httpx.AsyncClient, app: Headrace
    ) -> None:
        app.task(name="later", queue="emails")(print)
        names = [queue["queue"] for queue in (await api.get("/api/queues")).json()["queues"]]
        assert names == ["emails", "queue"]

    @pytest.mark.parametrize("score", ["inf", "-inf", "1.5", "1e300"])
    async def test_a_score_and_a_counter_of_a_joker_hide_no_queue(
        self, api: httpx.AsyncClient, redis: Redis, score: str
    ) -> None:
        redis.zadd("queue:delayed", {"{}": float(score)})
        redis.hset("queue:stats", mapping={"enqueued": "x", "done": "1.5", b"\xff": "1", "dead": 2})
        assert (await api.get("/metrics")).status_code == 200
        (queue,) = (await api.get("/api/queues")).json()["queues"]
        assert (queue["delayed"], queue["counters"]) == (1, {"dead": 2})
        assert queue["next_due_at_ms"] >= 0

    async def test_one_queue_is_shown_alone(self, api: httpx.AsyncClient, app: Headrace) -> None:
        await app.aenqueue_many([app.call_with("a", (), {}, {"queue": "a/b"})])
        answer = (await api.get("/api/queues/a%2Fb")).json()
        assert (answer["queue"], answer["pending"]) == ("a/b", 1)

    async def test_a_name_that_no_queue_can_have_hides_no_queue(
        self, api: httpx.AsyncClient, redis: Redis
    ) -> None:
        redis.sadd(QUEUES, "a b", "", "a:b", b"\xff", "ours")
        assert (await api.get("/metrics")).status_code == 200
        answer = await api.get("/api/queues")
        assert [queue["queue"] for queue in answer.json()["queues"]] == ["ours", "queue"]

    @pytest.mark.parametrize("path", ["/api/queues/nobody", "/api/queues/nobody/jobs"])
    async def test_a_queue_that_nobody_used_is_404(self, api: httpx.AsyncClient, path: str) -> None:
        answer = await api.get(path)
        assert answer.status_code == 404
        assert error_of(answer) == "there is no queue 'nobody': there are queue"

    @pytest.mark.parametrize(
        "job", ['{"task": "a"}', '{"id":"mine","task":"a"}', f'{{"id":"{"0" * 26}","task":"a"}}']
    )
    async def test_the_age_of_a_foreign_job_is_unknown(
        self, api: httpx.AsyncClient, redis: Redis, job: str
    ) -> None:
        redis.lpush("queue", job)
        answer = (await api.get("/api/queues/queue")).json()
        assert (answer["oldest_at_ms"], answer["oldest_age_s"]) == (None, None)

    async def test_a_job_from_a_clock_that_is_ahead_has_no_negative_age(
        self, api: httpx.AsyncClient, redis: Redis
    ) -> None:
        redis.lpush("queue", f'{{"id":"v{ids.new_id()[1:]}","task":"a"}}')
        assert (await api.get("/api/queues/queue")).json()["oldest_age_s"] == 0


class TestJobs:
    async def test_the_next_jobs_of_a_list_are_shown_cut(
        self, api: httpx.AsyncClient, app: Headrace
    ) -> None:
        for i in range(4):
            await app.aenqueue("echo", i, "ü" * 1_000, n={"x": [1]})
        answer = (await api.get("/api/queues/queue/jobs?limit=2")).json()
        assert (answer["place"], answer["key"], len(answer["jobs"])) == ("pending", "queue", 2)
        first = answer["jobs"][0]
        assert first["task"] == "echo"
        assert first["arguments"].startswith('0,"üü')
        assert first["arguments"].endswith("ü…")
        assert len(first["arguments"].encode()) < 250
        assert first["bytes"] > 2_000
        assert first["id"]
        assert first["made_at_ms"]

    async def test_named_arguments_are_shown_by_name(
        self, api: httpx.AsyncClient, app: Headrace
    ) -> None:
        await app.aenqueue("echo", 1, "b", n={"x": [1]}, m=None)
        (job,) = (await api.get("/api/queues/queue/jobs")).json()["jobs"]
        assert job["arguments"] == '1,"b", n={"x":[1]}, m=null'

    @pytest.mark.parametrize("place", ["delayed", "priority"])
    async def test_jobs_that_wait_elsewhere_are_shown_too(
        self, api: httpx.AsyncClient, app: Headrace, place: str
    ) -> None:
        options = {"delayed": {"delay": 60}, "priority": {"priority": 3}}[place]
        await app.aenqueue_many([app.call_with("a", (), {}, options)])  # type: ignore[arg-type]
        answer = (await api.get(f"/api/queues/queue/jobs?place={place}")).json()
        assert answer["key"] == f"queue:{place}"
        assert [job["task"] for job in answer["jobs"]] == ["a"]

    async def test_a_dead_letter_says_why(
        self, api: httpx.AsyncClient, app: Headrace, store: AsyncStore
    ) -> None:
        await app.aenqueue("a")
        await kill_one(store, K, "max_attempts", ValueError("no" * 1_000))
        (job,) = (await api.get("/api/queues/queue/jobs?place=dead")).json()["jobs"]
        message = job["error"].pop("message")
        assert message.startswith("nono")
        assert len(message) == 201
        assert job["error"] == {"reason": "max_attempts", "type": "ValueError", "failed_at_ms": 1}

    @pytest.mark.parametrize(
        ("raw", "shown"),
        [
            (b"not json", "not json"),
            (b"\xff\xfe{", "\ufffd\ufffd{"),
            (b"", ""),
            (b"[1]", "[1]"),
            (b'{"args":[1]}', '{"args":[1]}'),
            (b'{"task":3}', '{"task":3}'),
        ],
    )
    async def test_what_is_no_job_is_shown_as_it_is(
        self, api: httpx.AsyncClient, redis: Redis, raw: bytes, shown: str
    ) -> None:
        redis.lpush("queue", raw)
        letter = wire.malformed_letter(raw, wire.Error("malformed"))
        redis.lpush("queue:dlq", letter)
        (job,) = (await api.get("/api/queues/queue/jobs")).json()["jobs"]
        assert (job["id"], job["task"], job["arguments"]) == (None, None, shown)
        (dead,) = (await api.get("/api/queues/queue/jobs?place=dead")).json()["jobs"]
        assert (dead["task"], dead["arguments"]) == (None, shown)
        assert dead["error"]["reason"] == "malformed"

    async def test_a_letter_that_holds_nonsense_is_shown_all_the_same(
        self, api: httpx.AsyncClient, redis: Redis
    ) -> None:
        redis.lpush("queue:dlq", '{"id":"x","error":{"reason":"malformed","payload_base64":"x"}}')
        redis.lpush("queue:dlq", '{"id":"y","task":"a","error":"no object"}')
        jobs = (await api.get("/api/queues/queue/jobs?place=dead")).json()["jobs"]
        assert [(job["id"], job["error"] and job["error"]["reason"]) for job in jobs] == [
            ("y", None),
            ("x", "malformed"),
        ]

    @pytest.mark.parametrize(
        "asks",
        [
            "place=done",
            "limit=0",
            "limit=101",
            "limit=x",
            "limit=1e9",
            "limit=%D9%A3",
            f"limit={'9' * 5_000}",
            f"limit={'0' * 5_000}",
            "limit=0000000010000000",
        ],
    )
    async def test_a_question_without_meaning_is_400(
        self, api: httpx.AsyncClient, asks: str
    ) -> None:
        answer = await api.get(f"/api/queues/queue/jobs?{asks}")
        assert answer.status_code == 400
        assert error_of(answer).startswith(asks[:6])

    async def test_of_large_jobs_fewer_are_read_than_were_asked_for(
        self, api: httpx.AsyncClient, redis: Redis
    ) -> None:
        small, large = b'{"task":"s"}', json.dumps({"task": "l", "args": ["x" * 1_000_000]})
        redis.rpush("queue", *[large] * 100, *[small] * 12)
        before = redis.info("stats")["total_net_output_bytes"]
        jobs = (await api.get("/api/queues/queue/jobs?limit=100")).json()["jobs"]
        assert [job["task"] for job in jobs] == ["s"] * 12 + ["l"] * 3
        assert redis.info("stats")["total_net_output_bytes"] - before < 6_000_000

    @pytest.mark.parametrize("place", ["pending", "processing", "dead", "delayed", "priority"])
    async def test_a_place_is_read_in_its_order_and_to_its_end(
        self, api: httpx.AsyncClient, app: Headrace, redis: Redis, place: str
    ) -> None:
        made = [b'{"id":"j%02d","task":"a"}' % i for i in range(23)]
        key = getattr(K, "dead" if place == "dead" else place)
        if place in {"delayed", "priority"}:
            redis.zadd(key, {job: i for i, job in enumerate(made)})
        elif place == "dead":
            redis.lpush(key, *reversed(made))
        else:
            redis.lpush(key, *made)
        for limit in (1, 5, 7, 23, 100):
            url = f"/api/queues/queue/jobs?place={place}&limit={limit}"
            jobs = (await api.get(url)).json()["jobs"]
            assert [job["id"] for job in jobs] == [f"j{i:02}" for i in range(min(limit, 23))]
        assert (jobs[3]["due_at_ms"] == 3) == (place == "delayed")

    async def test_a_claimed_job_shows_whose_it_is(
        self, api: httpx.AsyncClient, app: Headrace, store: AsyncStore, redis: Redis
    ) -> None:
        await app.aenqueue("a")
        await store.run(op.claim(K, 1, lease_ms=60_000, consumer="web1-c", first=7))
        redis.lpush("queue:processing", b'{"task":"bare"}')
        jobs = (await api.get("/api/queues/queue/jobs?place=processing")).json()["jobs"]
        assert [(job["task"], job["consumer"]) for job in jobs] == [("a", "web1-c"), ("bare", None)]
        seen, bare = (job["seen_at_ms"] for job in jobs)
        assert bare is None
        again = (await api.get("/api/queues/queue/jobs?place=processing")).json()["jobs"]
        assert again[0]["seen_at_ms"] == seen  # of the same claim; another one is seen anew
        await store.run(op.settle(K, "web1-c", [op.Outcome(jobs[0]["id"], 7, "release")]))
        await store.run(op.claim(K, 1, lease_ms=60_000, consumer="web1-c", first=8))
        await await_until(
            lambda: redis.time() > (seen // 1000, seen % 1000 * 1000 + 999), what="a ms"
        )
        anew = (await api.get("/api/queues/queue/jobs?place=processing")).json()["jobs"]
        assert max(job["seen_at_ms"] or 0 for job in anew) > seen

    async def test_texts_of_any_length_are_shown_cut(
        self, api: httpx.AsyncClient, redis: Redis
    ) -> None:
        long = "n" * 1_000_000
        error = {"reason": long, "type": long, "message": long, "failed_at": 1}
        redis.lpush("queue:dlq", json.dumps({"id": "x", "task": long, "error": error}))
        redis.hset("queue:stats", long, 1)
        answer = await api.get("/api/queues/queue/jobs?place=dead")
        assert len(answer.content) < 2_000
        (job,) = answer.json()["jobs"]
        assert {len(job["task"]), len(job["error"]["reason"]), len(job["error"]["type"])} == {201}
        assert len((await api.get("/api/queues/queue")).content) < 2_000

    async def test_a_jobs_state_is_told(
        self, api: httpx.AsyncClient, app: Headrace, store: AsyncStore
    ) -> None:
        job = (await app.aenqueue_many([app.call_with("a", (), {}, {"queue": "other"})]))[0]
        path = f"/api/jobs/{job.id}?queue=other"
        assert (await api.get(path)).json() == {"id": job.id, "queue": "other", "state": "pending"}
        await store.run(op.claim(keys_of("other"), 1, lease_ms=9_000, consumer="c", first=1))
        assert (await api.get(path)).json()["state"] == "processing"

    @pytest.mark.parametrize("job_id", ["a%20b", "x%0A", "%0A", "%C3%BC", "x" * 129, ""])
    async def test_what_can_be_no_jobs_id_is_400(self, api: httpx.AsyncClient, job_id: str) -> None:
        answer = await api.get(f"/api/jobs/{job_id}")
        assert answer.status_code == 400
        assert "is no job's id" in error_of(answer)

    @pytest.mark.parametrize(
        "path",
        ["/api/jobs/x?queue=a:b", "/api/jobs/x?queue=", "/api/events?queue=a:b", "/?queue=a:b"],
    )
    async def test_a_queue_that_cannot_be_is_400(self, api: httpx.AsyncClient, path: str) -> None:
        answer = await api.get(path)
        assert answer.status_code == 400
        assert "cannot be a queue's name" in error_of(answer)


async def test_what_nobody_foresaw_has_the_headers_of_every_answer(
    app: Headrace, store: AsyncStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(_: Reader) -> list[str]:
        raise ZeroDivisionError

    monkeypatch.setattr(Reader, "names", fails)
    transport = httpx.ASGITransport(create_app(app, store), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=OURS) as api:
        answer = await api.get("/api/queues/queue")
    assert answer.status_code == 500
    assert "its log says how" in error_of(answer)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"


class TestMetrics:
    async def scrape(self, api: httpx.AsyncClient) -> dict[tuple[str, ...], float]:
        answer = await api.get("/metrics")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/plain")
        families = list(text_string_to_metric_families(answer.text))
        assert all(
            family.documentation.endswith(".") or ";" in family.documentation for family in families
        )
        return {
            (sample.name, *sample.labels.values()): sample.value
            for family in families
            for sample in family.samples
        }

    async def test_a_queue_is_measured_in_every_place(
        self, api: httpx.AsyncClient, app: Headrace, store: AsyncStore, redis: Redis
    ) -> None:
        for _ in range(3):
            await app.aenqueue("a")
        await kill_one(store, K, "max_attempts", ValueError("no"))
        assert await store.run(op.settle(K, "c", [op.Outcome("gone", 1, "done")])) == ["gone"]
        redis.lpush("queue", "{}")
        await store.run(op.pause(K, paused=True))
        found = await self.scrape(api)
        expected = {
            ("headrace_redis_up",): 1,
            ("headrace_maintenance_leader",): 0,
            ("headrace_jobs", "pending", "queue"): 3,
            ("headrace_jobs", "dead", "queue"): 1,
            ("headrace_jobs", "processing", "queue"): 0,
            ("headrace_enqueued_total", "queue"): 3,
            ("headrace_jobs_dead_total", "queue"): 1,
            ("headrace_jobs_done_total", "queue"): 0,
            ("headrace_stale_settles_total", "queue"): 1,
            ("headrace_foreign_jobs", "queue"): 1,
            ("headrace_queue_paused", "queue"): 1,
        }
        assert {key: found.get(key) for key in expected} == expected
        assert 0 <= found["headrace_oldest_job_age_seconds", "queue"] < 60

    async def test_an_empty_queue_has_no_old_job_and_a_foreign_one_an_unknown_age(
        self, api: httpx.AsyncClient, redis: Redis
    ) -> None:
        name = ("headrace_oldest_job_age_seconds", "queue")
        assert (await self.scrape(api))[name] == 0
        redis.lpush("queue", "{}")
        assert name not in await self.scrape(api)

    async def test_a_collector_that_prefers_openmetrics_gets_it(
        self, api: httpx.AsyncClient
    ) -> None:
        accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
        answer = await api.get("/metrics", headers={"accept": accept})
        assert answer.headers["content-type"].startswith("application/openmetrics-text")
        assert answer.text.endswith("# EOF\n")

    async def test_with_redis_away_the_scrape_says_so(self) -> None:
        url = f"redis://127.0.0.1:{free_port()}/0"
        async with client_of(Headrace(url), AsyncStore(url)) as api:
            assert await self.scrape(api) == {
                ("headrace_redis_up",): 0,
                ("headrace_queues_read",): 0,
                ("headrace_maintenance_leader",): 0,
            }

    async def test_a_redis_that_is_slow_is_not_down(
        self, api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("headrace.web.metrics._WITHIN_S", 0.0)
        found = await self.scrape(api)
        assert (found["headrace_redis_up",], found["headrace_queues_read",]) == (1, 0)

    async def test_of_many_queues_the_largest_have_series_and_the_others_a_sum(
        self, api: httpx.AsyncClient, redis: Redis
    ) -> None:
        redis.sadd(QUEUES, *(f"q{n:03}" for n in range(300)))
        for n in range(300):
            redis.lpush(f"q{n:03}", *["{}"] * (1 + (n >= 250)))
            redis.hset(f"q{n:03}:stats", "done", 1)
        found = await self.scrape(api)
        jobs = {k[2]: v for k, v in found.items() if k[:2] == ("headrace_jobs", "pending")}
        assert len(jobs) == 101
        assert {f"q{n:03}" for n in range(250, 300)} < jobs.keys()
        assert sum(jobs.values()) == 350
        assert jobs["all others"] == 350 - 50 * 2 - 50
        done = {k[1]: v for k, v in found.items() if k[0] == "headrace_jobs_done_total"}
        assert (len(done), sum(done.values())) == (101, 300)
        assert len((await api.get("/api/queues")).json()["queues"]) == 301

    async def test_what_a_forgotten_queue_had_counted_stays_in_the_sum(
        self, api: httpx.AsyncClient, redis: Redis, store: AsyncStore
    ) -> None:
        redis.sadd(QUEUES, "gone")
        redis.hset("gone:stats", "done", 5)
        assert await store.run(op.forget(keys_of("gone"), 0)) == "forgotten"
        assert (await self.scrape(api))["headrace_jobs_done_total", "all others"] == 5


async def test_queues_come_in_pages(
    api: httpx.AsyncClient, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.web.api.MAX_QUEUES_LISTED", 2)
    redis.sadd(QUEUES, "a", "b", "c")
    first = (await api.get("/api/queues")).json()
    assert ([q["queue"] for q in first["queues"]], first["next"]) == (["a", "b"], "b")
    second = (await api.get("/api/queues?after=b")).json()
    assert ([q["queue"] for q in second["queues"]], second["next"]) == (["c", "queue"], None)


async def test_no_queues_are_made_without_bound(
    api: httpx.AsyncClient, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.web.reader._UNASKED", 0)
    monkeypatch.setattr("headrace.web.reader.MOST_QUEUES", 3)
    assert (await api.post("/api/jobs", json={"task": "a", "queue": "b"})).status_code == 202
    both = [{"task": "a", "queue": "c"}, {"task": "a", "queue": "d"}]
    answer = await api.post("/api/jobs", json=both)
    assert answer.status_code == 429
    assert "'c' would be a new one" in answer.json()["error"]
    assert not redis.exists("c", "d")
    assert (await api.post("/api/jobs", json={"task": "a", "queue": "b"})).status_code == 202


async def test_every_answer_of_the_api_can_be_read_strictly(
    api: httpx.AsyncClient, app: Headrace
) -> None:
    await app.aenqueue("a", "\u2028\ud7ff\U0001f600\x00")
    for path in (
        "/api/queues",
        "/api/queues/queue",
        "/api/queues/queue/jobs",
        "/api/openapi.json",
        "/healthz",
        "/readyz",
    ):
        answer = await api.get(path)
        assert answer.headers["cache-control"] == "no-store"
        msgspec.json.decode(answer.content)
