"""A unique key while a consumer works: held until its job ends, and free from then on."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from headrace import Backoff, Headrace, InvalidJob, Reject
from headrace.ids import new_id
from tests.support.consuming import Site
from tests.support.wait import await_until

KEY = 'user/17 "ä" 100%'


def succeed() -> None: ...


def fail() -> None:
    raise Reject("no")


def fails_twice(app: Headrace) -> list[str]:
    """Make a task that is tried again twice; gives what a second enqueue was answered meanwhile."""
    answers: list[str] = []

    @app.task(max_attempts=3, backoff=Backoff(base_s=0))
    async def work() -> None:
        answers.append((await again(app).aenqueue()).id)
        if len(answers) < 3:
            raise ValueError("not yet")

    return answers


def again(app: Headrace) -> Any:
    return app.tasks["work"].options(key=KEY)


@pytest.mark.parametrize("function", [succeed, fail])
@pytest.mark.parametrize("dead_letter", [True, False], ids=["kept", "dropped"])
async def test_a_key_is_free_when_its_job_has_run(
    site: Site, function: Callable[[], None], dead_letter: bool
) -> None:
    site.app.task(name="work", dead_letter=dead_letter)(function)
    async with site.consumer():
        first = await again(site.app).aenqueue()
        await site.drained()
        second = await again(site.app).aenqueue()
        assert second.id != first.id
        await site.drained()
    assert site.redis.keys("queue:unique:*") == []


async def test_a_key_is_held_through_all_attempts(site: Site) -> None:
    answers = fails_twice(site.app)
    async with site.consumer():
        job = await again(site.app).aenqueue()
        await await_until(lambda: len(answers) == 3, what="three attempts")
        await site.drained()
    assert answers == [job.id] * 3
    assert site.redis.keys("queue:unique:*") == []


async def test_a_cancelled_jobs_key_is_free_at_once(site: Site) -> None:
    ran: list[int] = []

    @site.app.task
    def work(number: int) -> None:
        ran.append(number)

    first = await work.options(key="u", delay=600).aenqueue(1)
    assert (await work.options(key="u").aenqueue(9)).id == first.id
    assert await first.acancel()
    second = await work.options(key="u").aenqueue(2)
    assert second.id != first.id
    async with site.consumer():
        await site.drained()
    assert ran == [2]


async def test_the_keys_of_jobs_that_cannot_be_run_are_free(site: Site) -> None:
    unknown = site.another_app()
    call = unknown.call_with("nobody", (), {}, {"key": "a"})
    await unknown.producer().asend([call])
    malformed = f'{{"id":"{new_id()}","key":"b","args":[]}}'.encode()
    site.push(malformed)
    site.redis.set(site.k.unique("b"), json.loads(malformed)["id"])
    async with site.consumer(unknown_task_ttl_s=0):
        letters = await site.died(2)
    assert {letter["error"]["reason"] for letter in letters} == {"unknown_task", "malformed"}
    assert site.redis.keys("queue:unique:*") == []


async def test_a_key_for_which_a_time_was_asked_outlives_its_job(site: Site) -> None:
    site.app.task(name="work")(succeed)
    async with site.consumer():
        first = await site.app.tasks["work"].options(key="u", key_ttl=600).aenqueue()
        await site.drained()
        second = await site.app.tasks["work"].options(key="u").aenqueue()
        assert second.id == first.id
    assert site.counters()["enqueued"] == 1


async def test_two_keys_that_differ_in_a_letter_are_two(site: Site) -> None:
    site.app.task(name="work")(succeed)
    keys = ["a", "a ", 'a"', "a%22", "ä", "a\\", "a\n", "\ud800"]
    ids = {(await site.app.tasks["work"].options(key=key).aenqueue()).id for key in keys}
    assert len(ids) == len(keys)
    async with site.consumer():
        await site.drained()
    assert site.redis.keys("queue:unique:*") == []
    with pytest.raises(InvalidJob, match="key"):
        site.app.tasks["work"].options(key="")
