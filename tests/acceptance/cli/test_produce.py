"""``headrace produce``: what is enqueued, and what is printed of it."""

from __future__ import annotations

import json
from pathlib import Path

from redis import Redis

from tests.support.commands import Headrace, starting
from tests.support.jobs import jobs
from tests.support.plain import PlainRedis


def test_it_enqueues_one_job_and_prints_its_id_alone(headrace: Headrace, redis: Redis) -> None:
    ran = headrace("produce", "echo")
    (job,) = jobs(redis)
    assert (ran.code, ran.out, ran.err) == (0, f"{job['id']}\n", "")
    assert job == {"id": job["id"], "task": "echo"}


def test_without_an_application_no_task_of_the_demo_is_known(
    headrace: Headrace, redis: Redis
) -> None:
    assert headrace("produce", "add", "just one").code == 0
    assert jobs(redis)[0]["args"] == ["just one"]


def test_the_demos_application_has_a_job_to_try_it(headrace: Headrace, redis: Redis) -> None:
    assert headrace("produce", "--app", "headrace.demo.tasks").code == 0
    assert (jobs(redis)[0]["task"], jobs(redis)[0]["args"]) == ("echo", ["hello"])


def test_arguments_are_json_where_they_can_be(headrace: Headrace, redis: Redis) -> None:
    headrace("produce", "echo", "hi", "1", "-2.5", '{"a": [null]}', '"5"', "[1", "--", "--json", "")
    assert jobs(redis)[0]["args"] == ["hi", 1, -2.5, {"a": [None]}, "5", "[1", "--json", ""]


def test_keyword_arguments_are_given_by_name(headrace: Headrace, redis: Redis, shop: Path) -> None:
    ran = headrace(
        "produce", "send", "42", "-k", "subject=a=b", "--kwargs", "n=1", "--queue", "mail"
    )
    assert ran.code == 0
    assert jobs(redis, "mail")[0]["kwargs"] == {"subject": "a=b", "n": 1}
    refused = headrace("produce", "send", "42", "-k", "n=1", "--app", "shop", cwd=shop)
    assert refused.code == 2
    assert "unexpected keyword argument 'n'" in refused.complaint


def test_a_task_of_ones_own_goes_to_its_queue(headrace: Headrace, redis: Redis, shop: Path) -> None:
    assert headrace("produce", "send", "me", HEADRACE_APP="shop:app", cwd=shop).code == 0
    assert redis.llen("mail") == 1


def test_a_job_can_be_prioritised_delayed_and_bounded(
    headrace: Headrace, redis: PlainRedis
) -> None:
    headrace("produce", "echo", "-p", "5", "--timeout", "2.5", "--result-ttl", "60")
    (job,) = [json.loads(job) for job in redis.zrange("queue:priority", 0, -1)]
    assert (job["priority"], job["timeout"], job["result_ttl"]) == (5, 2.5, 60)
    headrace("produce", "echo", "--delay", "3600")
    headrace("produce", "echo", "--at", "2040-01-01T00:00:00Z")
    headrace("produce", "echo", "--at", "2208988800.5")
    due = [score for _, score in redis.zrange("queue:delayed", 0, -1, withscores=True)]
    assert due[1:] == [2_208_988_800_000, 2_208_988_800_500]


def test_a_key_gives_the_first_jobs_id(headrace: Headrace, redis: Redis) -> None:
    first = headrace("produce", "echo", "--key", "daily")
    assert headrace("produce", "echo", "--key", "daily").out == first.out
    assert redis.llen("queue") == 1


def test_many_are_enqueued_with_an_id_each(headrace: Headrace, redis: Redis) -> None:
    ran = headrace("produce", "echo", "--count", "2500")
    assert ran.lines == [job["id"] for job in jobs(redis)]
    assert len(set(ran.lines)) == 2500
    # Where that takes long, it says how far it is.
    assert ran.err in ("", "2,500 of 2,500 enqueued\n")


def test_each_line_read_makes_a_job(headrace: Headrace, redis: Redis) -> None:
    ran = headrace("produce", "add", "1", "--stdin", stdin="2\n3\n")
    assert len(ran.lines) == 2
    assert [job["args"] for job in jobs(redis)] == [[1, 2], [1, 3]]
    assert headrace("produce", "echo", "--stdin", stdin="").out == ""


def test_as_json_it_prints_an_object_a_job(headrace: Headrace, redis: Redis) -> None:
    ran = headrace("produce", "echo", "-n", "2", "--json", "-q", "bulk")
    printed = [json.loads(line) for line in ran.lines]
    assert printed == [{"id": job["id"], "queue": "bulk"} for job in jobs(redis, "bulk")]


def test_it_waits_for_results(headrace: Headrace, url: str, tmp_path: Path) -> None:
    consumer = starting(tmp_path, "consume", "headrace.demo.tasks", url=url)
    try:
        ran = headrace("produce", "add", "1", "2", "--wait")
        assert (ran.code, ran.lines, ran.err) == (0, ["3"], "")
        ran = headrace("produce", "echo", "hi", "--wait=20", "--json")
        assert (ran.json["result"], ran.json["queue"]) == (["hi"], "queue")
        ran = headrace("produce", "fail", "bad\nluck", "--max-attempts", "1", "--wait", "20")
        assert (ran.code, ran.out) == (1, "")
        assert r"failed (max_attempts): RuntimeError: bad; luck" in ran.complaint
    finally:
        consumer.end()


def test_a_result_that_does_not_come_is_a_failure(headrace: Headrace, redis: Redis) -> None:
    ran = headrace("produce", "unheard_of", "--wait", "0.2")
    assert ran.code == 1
    assert "no result of job" in ran.complaint
    assert jobs(redis)[0]["result_ttl"] == 3600  # else there would be nothing to wait for
