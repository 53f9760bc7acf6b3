"""GET /api/v1/queues: every queue, counted in every place."""

from __future__ import annotations

import httpx
import pytest
import yaml
from redis import Redis

from headrace import Headrace, ids
from headrace import operations as op
from headrace.keys import QUEUES, keys_of
from headrace.store import AsyncStore
from tests.integration.web.client import K, error_of, kill_one
from tests.support.processes import ROOT

AN_OLD_ID = "06g2fheg35sfr9aadfs26ehoc8"  # made long ago


async def test_every_place_is_counted(
    api: httpx.AsyncClient, app: Headrace, store: AsyncStore
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
    answer = (await api.get("/api/v1/queues")).json()
    (queue,) = answer["queues"]
    assert 0 <= queue.pop("oldest_age_s") < 60
    assert answer["now_ms"] - 60_000 < queue.pop("oldest_at_ms") <= answer["now_ms"]
    assert queue.pop("next_due_at_ms") > answer["now_ms"]
    assert queue == {
        "queue": "queue", "paused": True, "pending": 2, "priority": 1, "delayed": 1, "limited": 0,
        "processing": 1, "dead": 1, "foreign": 1, "counters": {"enqueued": 5, "dead": 1},
    }  # fmt: skip


async def test_the_queues_of_the_application_are_there_before_anybody_used_them(
    api: httpx.AsyncClient, app: Headrace
) -> None:
    app.task(name="later", queue="emails")(print)
    names = [queue["queue"] for queue in (await api.get("/api/v1/queues")).json()["queues"]]
    assert names == ["emails", "queue"]


@pytest.mark.parametrize("score", ["inf", "-inf", "1.5", "1e300"])
async def test_a_score_and_a_counter_of_a_joker_hide_no_queue(
    api: httpx.AsyncClient, redis: Redis, score: str
) -> None:
    redis.zadd("queue:delayed", {"{}": float(score)})
    redis.hset("queue:stats", mapping={"enqueued": "x", "done": "1.5", b"\xff": "1", "dead": 2})
    assert (await api.get("/metrics")).status_code == 200
    (queue,) = (await api.get("/api/v1/queues")).json()["queues"]
    assert (queue["delayed"], queue["counters"]) == (1, {"dead": 2})
    assert queue["next_due_at_ms"] >= 0


async def test_one_queue_is_shown_alone(api: httpx.AsyncClient, app: Headrace) -> None:
    await app.aenqueue_many([app.call_with("a", (), {}, {"queue": "a/b"})])
    answer = (await api.get("/api/v1/queues/a%2Fb")).json()
    assert (answer["queue"], answer["pending"]) == ("a/b", 1)


async def test_a_name_that_no_queue_can_have_hides_no_queue(
    api: httpx.AsyncClient, redis: Redis
) -> None:
    redis.sadd(QUEUES, "a b", "", "a:b", b"\xff", "ours")
    assert (await api.get("/metrics")).status_code == 200
    answer = await api.get("/api/v1/queues")
    assert [queue["queue"] for queue in answer.json()["queues"]] == ["ours", "queue"]


@pytest.mark.parametrize("path", ["/api/v1/queues/nobody", "/api/v1/queues/nobody/jobs"])
async def test_a_queue_that_nobody_used_is_404(api: httpx.AsyncClient, path: str) -> None:
    answer = await api.get(path)
    assert answer.status_code == 404
    assert error_of(answer) == "there is no queue 'nobody': there are queue"


@pytest.mark.parametrize(
    "job", ['{"task": "a"}', '{"id":"mine","task":"a"}', f'{{"id":"{"0" * 26}","task":"a"}}']
)
async def test_the_age_of_a_foreign_job_is_unknown(
    api: httpx.AsyncClient, redis: Redis, job: str
) -> None:
    redis.lpush("queue", job)
    answer = (await api.get("/api/v1/queues/queue")).json()
    assert (answer["oldest_at_ms"], answer["oldest_age_s"]) == (None, None)


async def test_a_job_from_a_clock_that_is_ahead_has_no_negative_age(
    api: httpx.AsyncClient, redis: Redis
) -> None:
    redis.lpush("queue", f'{{"id":"v{ids.new_id()[1:]}","task":"a"}}')
    assert (await api.get("/api/v1/queues/queue")).json()["oldest_age_s"] == 0


async def test_queues_come_in_pages(
    api: httpx.AsyncClient, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.web.api.queues.MAX_QUEUES_LISTED", 2)
    redis.sadd(QUEUES, "a", "b", "c")
    first = (await api.get("/api/v1/queues")).json()
    assert ([q["queue"] for q in first["queues"]], first["next"]) == (["a", "b"], "b")
    second = (await api.get("/api/v1/queues?after=b")).json()
    assert ([q["queue"] for q in second["queues"]], second["next"]) == (["c", "queue"], None)


async def test_a_scaler_is_told_how_much_there_is_to_do(
    api: httpx.AsyncClient, redis: Redis, store: AsyncStore
) -> None:
    redis.lpush(
        "queue", f'{{"id":"{AN_OLD_ID}","task":"t"}}', f'{{"id":"{ids.new_id()}","task":"t"}}'
    )
    redis.zadd("queue:delayed", {'{"id":"c","task":"t"}': 4e12})
    told = (await api.get("/api/v1/scale")).json()
    assert (told["jobs"], told["waiting"]) == (2, 2)
    assert told["oldest_age_s"] > 3_600
    await store.run(op.claim(K, 1, lease_ms=60_000, consumer="c", first=1))
    told = (await api.get("/api/v1/scale", params={"queue": "queue"})).json()
    assert (told["jobs"], told["waiting"]) == (2, 1)
    nothing = (await api.get("/api/v1/scale", params={"queue": "new"})).json()
    assert nothing == {"queue": "new", "jobs": 0, "waiting": 0, "oldest_age_s": 0.0}


@pytest.mark.parametrize("name", ["keda-http", "keda-redis-lists"])
async def test_what_the_examples_for_keda_ask_for_is_there(
    api: httpx.AsyncClient, name: str
) -> None:
    documents = [*yaml.safe_load_all((ROOT / "examples" / f"{name}.yaml").read_text())]
    scaled = next(one for one in documents if one["kind"] == "ScaledObject")
    for trigger in scaled["spec"]["triggers"]:
        asked = trigger["metadata"]
        if trigger["type"] == "redis":
            k = keys_of("emails")
            assert asked["listName"] in {k.pending, k.processing}
        else:
            url = httpx.URL(asked["url"])
            answer = await api.get(f"{url.path}?{url.query.decode()}")
            assert float(answer.json()[asked["valueLocation"]]) == 0
