"""What the pages do: by forms, without a script, and by the same functions as the API."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from redis import Redis

from headrace import Headrace, chain, group
from headrace import operations as op
from headrace.keys import keys_of
from headrace.store import AsyncStore
from headrace.timings import requests
from headrace.web.api import dead_letters
from headrace.web.pages import queue as queue_page
from headrace.workflows.keys import begun_of
from tests.integration.web.client import K
from tests.integration.web.pages import Filled, die, fill, some_counts
from tests.support import invariants
from tests.support.pages import BROWSER, FORM, open_page, send

FORM_TYPE = {"content-type": "application/x-www-form-urlencoded"}


@pytest.fixture
async def filled(app: Headrace, store: AsyncStore, redis: Redis) -> Filled:
    return await fill(app, store, redis, args=["ann"])


def letters(redis: Redis) -> list[str]:
    return [json.loads(one)["id"] for one in redis.lrange(K.dead, 0, -1)]


async def test_a_queue_is_paused_and_resumed(
    api: httpx.AsyncClient, filled: Filled, store: AsyncStore
) -> None:
    page = await open_page(api, "/queues/queue")
    page = await send(api, page.forms["/queues/queue/pause"])
    assert "The queue is paused" in page.text
    assert (await store.run(op.snapshot(K))).paused
    page = await send(api, page.forms["/queues/queue/resume"])
    assert "hands out jobs again" in page.text
    assert not (await store.run(op.snapshot(K))).paused


async def test_a_job_is_cancelled_after_a_question(
    api: httpx.AsyncClient, filled: Filled, store: AsyncStore
) -> None:
    page = await open_page(api, f"/jobs/{filled.pending}")
    asked = f"/jobs/{filled.pending}/cancel"
    assert [link for link in page.links() if asked in link]
    assert not page.forms  # only the next page does it
    page = await open_page(api, f"{asked}?queue=queue")
    page = await send(api, page.forms[asked])
    assert "The job is cancelled" in page.text
    assert "cancelled, within the last hour" in page.text
    assert (await store.run(op.snapshot(K))).pending == 0


async def test_a_job_that_runs_is_asked_to_stop(api: httpx.AsyncClient, filled: Filled) -> None:
    path = f"/jobs/{filled.processing}/cancel"
    page = await send(api, (await open_page(api, path)).forms[path])
    assert "asked to stop" in page.text


async def test_a_job_that_is_over_is_not_cancelled(api: httpx.AsyncClient, filled: Filled) -> None:
    path = "/jobs/nobody/cancel"
    page = await send(api, (await open_page(api, path)).forms[path], status=404)
    assert "no job nobody waits or runs" in page.text


class TestAJobThatLiesDeep:
    @pytest.mark.parametrize("parts", [1, 2])
    async def test_is_said_to_be_looked_for_in_a_part_alone_and_how_it_is_found(
        self, url: str, api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, parts: int
    ) -> None:
        monkeypatch.setattr("headrace.web.api.jobs.MOST_SEARCHED", 5)
        app = Headrace(url)
        app.partition_queue("queue", parts)
        jobs = await app.aenqueue_many([app.call_with("t", (n,), {}, {}) for n in range(300)])
        job = [one for one in jobs if "@" not in one.id][-1]  # else its id names its partition
        page = await open_page(api, f"/jobs/{job.id}?queue=queue")
        says = f"not among the {5 * parts} jobs that were read, and queue queue has more"
        assert says in page.text
        assert f"headrace explain --search 0 --queue queue {job.id}" in page.text
        await app.aclose()

    async def test_is_cancelled_all_the_same(
        self, app: Headrace, api: httpx.AsyncClient, store: AsyncStore,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        monkeypatch.setattr("headrace.web.api.jobs.MOST_SEARCHED", 5)
        jobs = await app.aenqueue_many([app.call_with("t", (n,), {}, {}) for n in range(40)])
        page = await open_page(api, f"/jobs/{jobs[-1].id}?queue=queue")
        asked = f"/jobs/{jobs[-1].id}/cancel"
        assert [link for link in page.links() if asked in link]
        page = await open_page(api, f"{asked}?queue=queue")
        await send(api, page.forms[asked])
        assert (await store.run(op.snapshot(K))).pending == 39


class TestDeadLetters:
    async def test_without_a_queue_are_those_of_one_that_has_some(
        self, api: httpx.AsyncClient, redis: Redis
    ) -> None:
        die(redis, "a", queue="mails")
        page = await open_page(api, "/dead-letters")
        assert page.url.endswith("/dead-letters?queue=mails")
        empty = await open_page(api, "/dead-letters?queue=other")
        assert "No dead letters in queue other" in empty.text

    async def test_are_grouped_and_filtered(self, api: httpx.AsyncClient, redis: Redis) -> None:
        for n in range(3):
            die(redis, f"a{n}", error={"message": f"no route to {n}"})
        die(redis, "b", task="pay", error={"reason": "timeout"})
        page = await open_page(api, "/dead-letters?queue=queue")
        assert "3 send max_attempts OSError: no route to 2" in page.text
        (group,) = [one for one in page.links() if "kind=" in one][:1]
        page = await open_page(api, group)
        ticked = [one["value"] for one in page.all("input") if one.get("type") == "checkbox"]
        assert ticked == ["a2", "a1", "a0"]
        page = await open_page(api, "/dead-letters?queue=queue&task=pay")
        assert [one["value"] for one in page.all("input") if one.get("type") == "checkbox"] == ["b"]
        page = await open_page(api, "/dead-letters?queue=queue&text=nothing")
        assert "None fits." in page.text

    async def test_are_filtered_by_a_form_that_sends_its_empty_fields_too(
        self, api: httpx.AsyncClient, redis: Redis
    ) -> None:
        die(redis, "a")
        die(redis, "b", task="pay")
        page = await open_page(api, "/dead-letters?queue=queue&kind=&reason=&task=pay&text=")
        assert [one["value"] for one in page.all("input") if one.get("type") == "checkbox"] == ["b"]

    async def test_that_are_ticked_are_put_back(self, api: httpx.AsyncClient, redis: Redis) -> None:
        for n in range(3):
            die(redis, f"a{n}")
        answer = await api.post(
            "/dead-letters/redrive",
            data={"queue": "queue", "ticked": "1", "id": ["a0", "a2"]}, headers=FORM,
        )  # fmt: skip
        assert answer.headers["location"] == "../dead-letters?queue=queue&done=redriven&n=2"
        assert letters(redis) == ["a1"]
        invariants.check(redis, foreign=3)

    async def test_of_which_none_is_ticked_all_stay(
        self, api: httpx.AsyncClient, redis: Redis
    ) -> None:
        die(redis, "a")
        data = {"queue": "queue", "ticked": "1"}
        answer = await api.post("/dead-letters/redrive", data=data, headers=FORM)
        assert answer.status_code == 400
        assert "no letter is ticked" in answer.text
        assert letters(redis) == ["a"]

    async def test_that_fit_are_put_back(self, api: httpx.AsyncClient, redis: Redis) -> None:
        die(redis, "a")
        die(redis, "b", error={"reason": "timeout"})
        die(redis, "c", args=["timeout"])
        page = await open_page(api, "/dead-letters?queue=queue&reason=timeout")
        form = page.forms["/dead-letters/redrive"]  # the first one: of all that fit
        page = await send(api, form)
        assert letters(redis) == ["c", "a"]

    async def test_are_deleted_after_a_question(self, api: httpx.AsyncClient, redis: Redis) -> None:
        die(redis, "a")
        die(redis, "b", task="pay")
        page = await open_page(api, "/dead-letters/purge?queue=queue&task=pay")
        assert "Delete all dead letters with task pay of queue queue for good?" in page.text
        assert letters(redis) == ["b", "a"]
        page = await send(api, page.forms["/dead-letters/purge"])
        assert "1 dead letter is deleted for good" in page.text
        assert letters(redis) == ["a"]
        invariants.check(redis, foreign=2)

    async def test_that_die_after_the_question_stay(
        self, api: httpx.AsyncClient, redis: Redis
    ) -> None:
        die(redis, "a")
        page = await open_page(api, "/dead-letters/purge?queue=queue")
        seconds, micros = redis.time()
        die(redis, "later", error={"failed_at": seconds * 1000 + micros // 1000 + 60_000})
        await send(api, page.forms["/dead-letters/purge"])
        assert letters(redis) == ["later"]

    async def test_are_moved_in_rounds_and_the_rest_is_told_of(
        self, api: httpx.AsyncClient, redis: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(dead_letters, "MOST_MOVED", 2)
        monkeypatch.setattr("headrace.web.pages.dead_letters.ROUNDS", 3)
        for n in range(9):
            die(redis, f"a{n}")
        page = await open_page(api, "/dead-letters?queue=queue&task=send")
        page = await send(api, page.forms["/dead-letters/redrive"])
        assert "6 dead letters are put back, and there are more" in page.text
        assert page.url.endswith("n=6&task=send")
        assert len(letters(redis)) == 3


class TestOneLetter:
    async def test_is_put_back_as_it_is(self, api: httpx.AsyncClient, redis: Redis) -> None:
        die(redis, "a", args=[1, "ü"], kwargs={"x": None}, extra=[1.50])
        page = await open_page(api, "/dead-letters/a")
        page = await send(api, page.forms["/dead-letters/a/redrive"])
        assert "1 dead letter is put back" in page.text
        assert "pending, 1st of 1 that wait" in page.text
        (job,) = redis.lrange("queue", 0, -1)
        # Byte for byte, but for what told of its failures.
        assert job == (
            b'{"id":"a","task":"send","args":[1,"\\u00fc"],"kwargs":{"x":null},"extra":[1.5]}'
        )

    async def test_is_put_back_with_other_arguments(
        self, api: httpx.AsyncClient, redis: Redis
    ) -> None:
        die(redis, "a", args=[1], timeout=9)
        page = await open_page(api, "/dead-letters/a")
        form = page.forms["/dead-letters/a/redrive"]
        assert dict(form.fields) == {"args": "[1]", "kwargs": "{}"}
        await send(api, form, args='[2, "ann"]', kwargs='{"force": true}')
        (job,) = map(json.loads, redis.lrange("queue", 0, -1))
        expected = {"id": "a", "task": "send", "args": [2, "ann"], "timeout": 9}
        assert job == expected | {"kwargs": {"force": True}}

    @pytest.mark.parametrize("args", ["", "{}", "[1", "null", "nonsense"])
    async def test_with_nonsense_stays(
        self, api: httpx.AsyncClient, redis: Redis, args: str
    ) -> None:
        die(redis, "a", args=[1])
        form = (await open_page(api, "/dead-letters/a")).forms["/dead-letters/a/redrive"]
        page = await send(api, form, status=400, args=args)
        assert "args must be a JSON array" in page.text
        assert letters(redis) == ["a"]

    async def test_with_hidden_arguments_is_not_edited_but_goes_back_whole(
        self, api: httpx.AsyncClient, redis: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HEADRACE_REDACT", "password")
        die(redis, "a", kwargs={"password": "hunter22"})
        page = await open_page(api, "/dead-letters/a")
        assert not page.all("textarea")
        assert "some of its arguments are hidden" in page.text
        form = page.forms["/dead-letters/a/redrive"]
        await send(api, form, status=400, kwargs='{"password":"•••"}')
        await send(api, form)
        (job,) = redis.lrange("queue", 0, -1)
        assert b"hunter22" in job

    async def test_that_is_no_job_goes_back_as_it_was(
        self, api: httpx.AsyncClient, redis: Redis
    ) -> None:
        error = {"reason": "malformed", "payload": "not json"}
        redis.lpush(K.dead, json.dumps({"id": "a", "error": error}, separators=(",", ":")))
        page = await open_page(api, "/dead-letters/a?queue=queue")
        assert "it is no job" in page.text
        answer = await api.post(
            "/dead-letters/a/redrive?queue=queue", data={"none": ""}, headers=FORM
        )
        assert answer.status_code in {303, 400}


class TestSchedules:
    async def test_are_paused_resumed_and_removed(
        self, api: httpx.AsyncClient, filled: Filled, redis: Redis
    ) -> None:
        page = await open_page(api, "/schedules")
        assert "every 30 s" in page.text
        page = await send(api, page.forms["/schedules/beat/pause"])
        assert "beat paused" in page.text
        page = await send(api, page.forms["/schedules/beat/resume"])
        assert "goes on with its next tick" in page.text
        page = await open_page(api, "/schedules/beat/remove")
        page = await send(api, page.forms["/schedules/beat/remove"])
        assert "The schedule is removed" in page.text
        assert "No schedules" in page.text
        assert not redis.exists("headrace:schedules")

    async def test_show_their_next_ticks(self, api: httpx.AsyncClient, filled: Filled) -> None:
        page = await open_page(api, "/schedules")
        assert page.text.count(" UTC (in ") == 5


class TestANewSchedule:
    NIGHTLY = {"name": "nightly", "task": "add", "cron": "30 2 * * *", "timezone": "Europe/Berlin"}

    async def test_is_added_by_a_form(self, api: httpx.AsyncClient, redis: Redis) -> None:
        page = await open_page(api, "/schedules")
        fields = self.NIGHTLY | {"queue": "nights", "args": "[1, 2]"}
        page = await send(api, page.forms["/schedules"], status=200, **fields)
        assert "The schedule is added" in page.text
        assert "cron 30 2 * * * in Europe/Berlin" in page.text
        (one,) = (await api.get("/api/v1/schedules")).json()["schedules"]
        assert (one["name"], one["queue"], one["job"]["args"]) == ("nightly", "nights", [1, 2])

    async def test_may_come_every_so_many_seconds(self, api: httpx.AsyncClient) -> None:
        page = await open_page(api, "/schedules")
        fields = {"name": "beat", "task": "t", "every": "0.5", "kwargs": '{"deep": [null]}'}
        page = await send(api, page.forms["/schedules"], status=200, **fields)
        assert "every 0.5 s" in page.text

    @pytest.mark.parametrize(
        ("field", "typed", "says"),
        [
            ("name", "", "cannot be a schedule's name"),
            ("name", "two words", "cannot be a schedule's name"),
            ("name", "beat", "there is a schedule 'beat' already: choose another name"),
            ("task", "", "name the task that runs the jobs"),
            ("task", "t" * 300, "255 characters at most"),
            ("queue", "a:b", "queue"),
            ("cron", "", "give a cron expression or a number of seconds"),
            ("cron", "61 * * * *", "is no cron expression"),
            ("cron", "0 0 30 2 *", "bad day-of-month"),
            ("every", "5", "not both"),
            ("timezone", "Mars/Olympus", "Mars/Olympus"),
            ("args", "[1", "this must be a JSON array"),
            ("args", '{"a": 1}', "this must be a JSON array"),
            ("args", "[1, 2, 3]", "argument"),
            ("kwargs", "[]", "this must be a JSON object"),
        ],
    )
    async def test_that_is_wrong_is_not_added_and_what_is_wrong_stands_at_its_field(
        self, api: httpx.AsyncClient, filled: Filled, field: str, typed: str, says: str
    ) -> None:
        before = (await api.get("/api/v1/schedules")).json()
        form = (await open_page(api, "/schedules")).forms["/schedules"]
        fields = self.NIGHTLY | {"args": "[1, 2]"} | {field: typed}
        page = await send(api, form, status=400, **fields)
        assert says in page.text
        (told,) = [one for one in page.all("p") if one.get("id", "").endswith("-wrong")]
        assert told["id"] == f"add-{field}-wrong"
        inputs = [
            one for one in (*page.all("input"), *page.all("textarea")) if "aria-invalid" in one
        ]
        assert [(one["name"], "autofocus" in one) for one in inputs] == [(field, True)]
        assert told["id"] in inputs[0]["aria-describedby"].split()
        kept = dict(page.forms["/schedules"].fields)
        assert kept == {"queue": "", "every": "", "kwargs": "{}"} | fields
        assert (await api.get("/api/v1/schedules")).json() == before

    @pytest.mark.parametrize("every", ["0", "-1", "0.01", "nan", "inf", "1e400", "soon"])
    async def test_with_a_period_that_is_none_is_refused(
        self, api: httpx.AsyncClient, every: str
    ) -> None:
        form = (await open_page(api, "/schedules")).forms["/schedules"]
        page = await send(api, form, status=400, name="a", task="t", every=every)
        assert "add-every-wrong" in [one.get("id") for one in page.all("p")]

    async def test_of_nothing_has_everything_told_at_once(self, api: httpx.AsyncClient) -> None:
        answer = await api.post("/schedules", content=b"", headers=FORM | FORM_TYPE)
        assert answer.status_code == 400
        assert "3 fields are wrong" in answer.text

    async def test_that_is_too_large_says_so(self, api: httpx.AsyncClient) -> None:
        form = (await open_page(api, "/schedules")).forms["/schedules"]
        args = json.dumps(["x" * 100_000])
        page = await send(api, form, status=400, name="a", task="t", every="5", args=args)
        assert "over the limit of 65,536" in page.text


class TestWorkflows:
    async def test_are_drawn_and_listed(self, api: httpx.AsyncClient, filled: Filled) -> None:
        page = await open_page(api, filled.paths["workflow"])
        assert "0 of 2 members have ended" in page.text
        assert len([one for one in page.all("g") if "box" in one["class"]]) == 2
        assert "1 send in a flow waits for 1" in page.text
        queue = await open_page(api, "/queues/flows")
        assert [link for link in queue.links() if f"/workflows/{filled.workflow}" in link]

    async def test_show_who_runs_and_who_waits(
        self, app: Headrace, api: httpx.AsyncClient, store: AsyncStore
    ) -> None:
        @app.task(queue="flows")
        def step(n: int) -> None: ...

        flow = await chain(group(step.call(n) for n in (1, 2)), step.call(3)).aenqueue()
        k = keys_of("flows")
        claimed = await store.run(op.claim(k, 1, lease_ms=60_000, consumer="c", first=1))
        page = await open_page(api, f"/workflows/{flow.id}?queue=flows")
        assert "step 0 · runs" in page.text
        assert "open" in page.text
        assert "step 2 · waits for 2" in page.text
        assert len(claimed.jobs) == 1

    async def test_are_cancelled_after_a_question(
        self, api: httpx.AsyncClient, filled: Filled
    ) -> None:
        asked = f"/workflows/{filled.workflow}/cancel"
        page = await open_page(api, f"{asked}?queue=flows")
        page = await send(api, page.forms[asked])
        assert "The workflow is cancelled" in page.text

    async def test_that_wait_to_begin_are_shown_and_cancelled(
        self, app: Headrace, api: httpx.AsyncClient, redis: Redis
    ) -> None:
        redis.set(begun_of(keys_of("flows"), "one"), 2, ex=60)  # as when a job has handed it on
        page = await open_page(api, "/workflows/one?queue=flows")
        assert "waiting" in page.text
        assert "0 of 2 members have ended" in page.text
        asked = "/workflows/one/cancel"
        page = await send(api, (await open_page(api, f"{asked}?queue=flows")).forms[asked])
        assert "The workflow is cancelled" in page.text

    async def test_with_very_many_members_are_cut(
        self, app: Headrace, api: httpx.AsyncClient
    ) -> None:
        @app.task(queue="flows")
        def step(n: int) -> None: ...

        flow = await group(step.call(n) for n in range(2_000)).aenqueue()
        page = await open_page(api, f"/workflows/{flow.id}?queue=flows")
        assert "and 1,500 more" in page.text
        assert "and 492 more" in page.text
        assert len(page.answer.content) < 400_000


class TestAQueue:
    async def test_is_shown_page_by_page(self, app: Headrace, api: httpx.AsyncClient) -> None:
        await app.aenqueue_many([app.call_with("send", (n,), {}, {}) for n in range(60)])
        seen: list[str] = []
        page = await open_page(api, "/queues/queue")
        while True:
            seen += [link.rpartition("/")[2] for link in page.links() if "/jobs/" in link]
            following = [one["href"] for one in page.all("a") if one.get("rel") == "next"]
            if not following:
                break
            page = await open_page(api, f"/queues/{following[0].removeprefix('../queues/')}")
        assert len(seen) == len(set(seen)) == 60

    async def test_is_searched_by_task_and_by_text(
        self, app: Headrace, api: httpx.AsyncClient
    ) -> None:
        await app.aenqueue_many([app.call_with("send", (f"no {n}",), {}, {}) for n in range(40)])
        ann = await app.aenqueue("pay", "änn")
        for asked in ("text=änn", "task=pay", "task=pay&text=nn"):
            page = await open_page(api, f"/queues/queue?{asked}")
            assert [link for link in page.links() if "/jobs/" in link] == [
                f"http://127.0.0.1/jobs/{ann.id}?queue=queue"
            ]
            assert "1 found in 41 of 41" in page.text
        assert "Nothing fits." in (await open_page(api, "/queues/queue?text=moon")).text

    async def test_is_not_read_without_bound(
        self, app: Headrace, api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(queue_page, "MOST_SEARCHED", 30)
        # No id has a hyphen: one may have "39" in it.
        await app.aenqueue_many([app.call_with("send", (f"no-{n}",), {}, {}) for n in range(40)])
        page = await open_page(api, "/queues/queue?text=no-39")
        assert "among those that were read: look further" in page.text
        (following,) = [one["href"] for one in page.all("a") if one.get("rel") == "next"]
        page = await open_page(api, f"/queues/{following.removeprefix('../queues/')}")
        assert "39" in page.text
        assert "1 found in 10 of 40" in page.text

    async def test_that_is_divided_is_one(self, url: str, api: httpx.AsyncClient) -> None:
        app = Headrace(url)
        app.partition_queue("queue", 3)
        jobs = [await app.aenqueue("t", n) for n in range(70)]
        await app.aclose()
        page, seen = await open_page(api, "/queues/queue"), set[str]()
        while True:
            seen |= {link for link in page.links() if "/jobs/" in link}
            following = [one["href"] for one in page.all("a") if one.get("rel") == "next"]
            if not following:
                break
            page = await open_page(api, f"/queues/{following[0].removeprefix('../queues/')}")
        assert len(seen) == 70
        assert "3 partitions" in page.text
        last = await open_page(api, f"/jobs/{jobs[-1].id}?queue=queue")
        assert "pending" in last.text


async def test_a_consumer_is_shown_with_what_it_runs(
    api: httpx.AsyncClient, filled: Filled
) -> None:
    page = await open_page(api, "/consumers")
    assert "web1" in page.text
    assert "not connected" in page.text
    assert [link for link in page.links() if f"/jobs/{filled.processing}" in link]


async def test_the_overview_has_the_sum_and_the_life_cycle(
    api: httpx.AsyncClient, filled: Filled
) -> None:
    page = await open_page(api, "/")
    assert "4 accepted + 1 foreign = 1 pending + 1 priority + 1 delayed + 1 processing" in page.text
    numbers = {one["data-life"] for one in page.all("text") if "data-life" in one}
    assert numbers >= {"enqueued", "pending", "processing", "dead", "done"}


class TestCharts:
    async def test_of_nothing_say_so(self, api: httpx.AsyncClient, redis: Redis) -> None:
        redis.sadd("headrace:queues", "queue")
        for path in ("/", "/queues/queue"):
            page = await open_page(api, path)
            assert "No data yet" in page.text, path
            assert not page.all("figure")

    @pytest.mark.parametrize("path", ["/", "/queues/queue"])
    async def test_show_what_consumers_told_and_a_table_has_the_numbers(
        self, api: httpx.AsyncClient, filled: Filled, path: str
    ) -> None:
        page = await open_page(api, path)
        says = [one["aria-label"] for one in page.all("svg") if one.get("class") == "bars"]
        assert says[0].startswith("Jobs done, by the minute: 90 in all; most at ")
        assert says[1].startswith("Failures, by the minute: 3 for good, 7 to be tried again")
        assert "half within 23 ms, 95 % within 480 ms" in says[2]
        assert page.text.count("not over yet") >= 1
        assert "plain clients ran" in page.text
        rows = [one for one in page.all("td") if one.get("data-label") == "cancelled"]
        assert len(rows) == 60
        assert "send 100 3 for good, 7 tried again" in page.text

    async def test_of_a_queue_are_its_own(
        self, api: httpx.AsyncClient, store: AsyncStore, redis: Redis
    ) -> None:
        for name in ("a", "b"):
            redis.sadd("headrace:queues", name)
        await store.run(requests.add(keys_of("a"), {"send": some_counts()}))
        await store.run(requests.add(keys_of("b"), {"send": some_counts()}))
        assert "180 in all" in (await open_page(api, "/")).text
        assert "90 in all" in (await open_page(api, "/queues/a")).text

    async def test_of_very_many_queues_are_of_the_one_that_is_chosen(
        self, api: httpx.AsyncClient, store: AsyncStore, redis: Redis
    ) -> None:
        redis.sadd("headrace:queues", *(f"q{n}" for n in range(25)))
        for name in ("q1", "q2", "q2"):
            await store.run(requests.add(keys_of(name), {"send": some_counts()}))
        page = await open_page(api, "/?queue=q2")
        assert "queue q2; of more than 20 together there are none" in page.text
        assert "180 in all" in page.text
        assert "No data yet" in (await open_page(api, "/?queue=q3")).text

    @pytest.mark.parametrize(("minutes", "rows"), [(60, {60}), (360, {36}), (1440, {72})])
    async def test_are_of_as_long_as_is_asked_for(
        self, api: httpx.AsyncClient, filled: Filled, minutes: int, rows: set[int]
    ) -> None:
        for path in ("/?queue=queue", "/queues/queue?place=dead"):
            page = await open_page(api, f"{path}&minutes={minutes}")
            found = [one for one in page.all("td") if one.get("data-label") == "cancelled"]
            assert len(found) in rows
            assert "90 in all" in page.text
            links = [one for one in page.links() if f"minutes={minutes}#" in one]
            assert len(links) == 1

    @pytest.mark.parametrize("minutes", ["0", "61", "x", "-60", "1e3"])
    async def test_of_another_length_are_refused(
        self, api: httpx.AsyncClient, filled: Filled, minutes: str
    ) -> None:
        for path in ("/?", "/queues/queue?"):
            page = await open_page(api, f"{path}minutes={minutes}", status=400)
            assert "use one of 60, 360, 1440" in page.text

    async def test_make_room_for_what_is_searched_for(
        self, api: httpx.AsyncClient, filled: Filled
    ) -> None:
        for asked in ("text=ann", "task=send", "after=0.0"):
            assert not (await open_page(api, f"/queues/queue?{asked}")).all("figure")


async def test_the_keys_of_a_queue_are_shown_as_they_are(
    api: httpx.AsyncClient, filled: Filled
) -> None:
    page = await open_page(api, "/under-the-hood/queue")
    assert f"{K.delayed} zset 1" in page.text
    assert f"{K.cancelled} zset –" in page.text


class TestAnotherSite:
    @pytest.mark.parametrize(
        "headers",
        [
            {"origin": "https://evil.example"},
            {"origin": "null"},
            {"sec-fetch-site": "cross-site"},
            {"sec-fetch-site": "same-site"},
        ],
    )
    @pytest.mark.parametrize(
        ("path", "data"),
        [
            ("/queues/queue/pause", {}),
            ("/dead-letters/purge", {"queue": "queue"}),
            ("/dead-letters/redrive", {"queue": "queue"}),
            ("/dead-letters/dead1/redrive", {}),
            ("/schedules/beat/remove", {}),
            ("/schedules", {"name": "a", "task": "t", "every": "5"}),
            ("/login", {"token": "x"}),
            ("/logout", {}),
        ],
    )
    async def test_cannot_have_a_browser_send_a_form(
        self, api: httpx.AsyncClient, filled: Filled, redis: Redis,
        path: str, data: dict[str, Any], headers: dict[str, str],
    ) -> None:  # fmt: skip
        before = (redis.dbsize(), redis.lrange(K.dead, 0, -1), redis.hgetall(K.meta))
        answer = await api.post(path, data=data, headers=BROWSER | headers)
        assert answer.status_code == 403
        assert "another site" in answer.json()["detail"]
        assert (redis.dbsize(), redis.lrange(K.dead, 0, -1), redis.hgetall(K.meta)) == before

    @pytest.mark.parametrize("kind", ["application/json", "text/plain", "multipart/form-data"])
    async def test_what_is_no_form_is_refused(
        self, api: httpx.AsyncClient, redis: Redis, kind: str
    ) -> None:
        die(redis, "a")
        answer = await api.post(
            "/dead-letters/purge", content=b"queue=queue", headers={"content-type": kind}
        )
        assert answer.status_code == 400
        assert letters(redis) == ["a"]

    async def test_may_not_show_a_page_in_a_frame(self, api: httpx.AsyncClient) -> None:
        policy = (await api.get("/consumers")).headers["content-security-policy"]
        assert "frame-ancestors 'none'" in policy
        assert "form-action 'self'" in policy


def test_keys_of_a_queue_have_words() -> None:
    from dataclasses import fields

    from headrace.web.pages import under_the_hood

    names = {field.name for field in fields(keys_of("queue"))} - {"queue"}
    assert set(under_the_hood._SAYS) == set(under_the_hood._USUAL) == names
