"""Encrypted jobs on a real server: run, tried again, moved, put back; and what whoever looks into Redis sees."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from headrace import (
    CURRENT,
    RESULT,
    Batch,
    Context,
    Encryption,
    JobFailed,
    NoResult,
    Progress,
    chain,
    group,
)
from headrace import operations as op
from headrace.doctor import explain, locate
from headrace.duties import DUTIES
from headrace.policy import LeasePolicy
from headrace.retry import Backoff
from headrace.schedules import keep_declared
from tests.integration.consumer import encrypted_tasks
from tests.support.consuming import QUICK, Site, a_store, heard, lent
from tests.support.serving import served
from tests.support.wait import WAIT_S, await_until

SECRET = "4111-secret-1111"
OLD, NEW = (Encryption.generate_key() for _ in range(2))
KEYS = Encryption([NEW, OLD])
FORM = {"sec-fetch-site": "same-origin"}


def everything(redis: Any) -> bytes:
    """Return every key and every value of a server, as one text."""
    read = {
        b"string": redis.get,
        b"list": lambda key: redis.lrange(key, 0, -1),
        b"hash": redis.hgetall,
        b"set": redis.smembers,
        b"zset": lambda key: redis.zrange(key, 0, -1),
        b"stream": redis.xrange,
    }
    found: list[Any] = []
    for key in redis.scan_iter(count=1_000):
        kind: bytes = redis.type(key)
        if kind != b"none":  # it has just gone
            found += [key, read[kind](key)]
    return repr(found).encode()


@pytest.fixture(name="sealed")
def _sealed(site: Site) -> Iterator[Site]:
    """Give the site, whose application has keys."""
    site.app.encryption = KEYS
    yield site
    assert SECRET.encode() not in everything(site.redis)


async def test_nothing_that_is_encrypted_stands_in_redis_as_it_is(
    sealed: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """Enqueued, delayed, run, tried again, dead, scheduled, streamed, handed on, and through a workflow."""
    caplog.set_level(logging.DEBUG)
    app, seen = sealed.app, []

    def look() -> None:
        text = everything(sealed.redis)
        assert SECRET.encode() not in text
        seen.append(len(text))

    @app.task(result_ttl=60, max_attempts=2, backoff=Backoff(0.01))
    async def pay(card: str, ctx: Context = CURRENT) -> str:
        assert card == SECRET
        await asyncio.to_thread(look)
        if ctx.attempt == 1:
            raise ValueError(f"no answer for {card}")
        return f"paid {card}"

    @app.task(result_ttl=60, max_attempts=1)
    def fail(card: str) -> None:
        raise ValueError(f"no such card {card}") from KeyError(card)

    @app.task(result_ttl=60)
    async def numbers(card: str) -> AsyncIterator[str]:
        for digit in card[:3]:
            yield f"{digit} {card}"

    @app.task
    async def hand_on(card: str, ctx: Context = CURRENT) -> None:
        ctx.enqueue(pay.call(card))

    @app.task(result_ttl=60)
    async def both(paid: list[str], options: dict[str, Any]) -> dict[str, Any]:
        return {"paid": paid, **options}

    ticked = asyncio.Event()

    @app.task
    async def tick(card: str) -> None:
        assert card == SECRET
        ticked.set()

    tick.every(0.2, args=(SECRET,))
    known = asyncio.create_task(keep_declared(app.producer().astore(), app.declared_schedules()))
    later = await pay.options(delay=600).aenqueue(SECRET)
    waiting = await pay.options(priority=3).aenqueue(SECRET)
    look()
    async with sealed.consumer(lease=QUICK, duties=DUTIES, check=False):
        assert await heard(waiting) == f"paid {SECRET}"
        dead = await fail.aenqueue(SECRET)
        with pytest.raises(JobFailed, match="ValueError: not told"):
            await heard(dead)
        streaming = await numbers.aenqueue(SECRET)
        assert [item async for item in streaming.stream()] == [f"{n} {SECRET}" for n in "411"]
        steps = group([pay.call(SECRET), pay.call(SECRET)]).then(
            both.call(RESULT, {"deep": [RESULT], "card": SECRET})
        )
        flow = await steps.aenqueue()
        look()
        paid = [f"paid {SECRET}"] * 2
        assert await flow.aresult(WAIT_S) == {"paid": paid, "deep": [paid], "card": SECRET}
        assert await app.workflow(flow.id).aresult(WAIT_S) == await flow.aresult(WAIT_S)
        before = sealed.counters()["done"]
        await hand_on.aenqueue(SECRET)
        await await_until(lambda: sealed.counters()["done"] >= before + 2)
        await asyncio.wait_for(ticked.wait(), WAIT_S)
        look()
        assert [run.error for run in await waiting.ahistory()] == ["ValueError", ""]
        assert await app.job(waiting.id).aresult(WAIT_S) == f"paid {SECRET}"
        assert await later.acancel()
    known.cancel()
    (letter,) = sealed.letters()
    assert letter["error"]["type"] == "ValueError"
    assert (
        "test_encryption.py" in letter["error"]["traceback"]
    )  # where it was, without what it said
    assert max(seen) > 1_000
    assert SECRET not in caplog.text


async def test_jobs_under_the_old_key_and_the_new_one_run_in_any_order(sealed: Site) -> None:
    """Rotation: consumers get both keys first, producers the new one, and then the old one goes."""
    old, new = (sealed.another_app(encryption=Encryption([key])) for key in (OLD, NEW))
    for app in (sealed.app, old, new):
        app.task(name="echo", result_ttl=60)(_echo)
    first = [await app.tasks["echo"].aenqueue(SECRET) for app in (old, new, old)]
    async with sealed.consumer():
        assert [await heard(sealed.app.job(job.id)) for job in first] == [SECRET] * 3
        with pytest.raises(NoResult, match="none of those here"):
            await heard(first[0])  # results are under the new key by now
        assert await heard(first[1]) == SECRET


@pytest.mark.parametrize("keys", [None, Encryption([Encryption.generate_key()])])
async def test_a_consumer_without_the_key_loses_nothing(
    sealed: Site, keys: Encryption | None
) -> None:
    """A dead letter at once, though its task keeps none; put back, it runs where the key is."""
    blind = sealed.another_app(encryption=keys)
    for app in (sealed.app, blind):
        app.task(name="echo", result_ttl=60, dead_letter=False)(_echo)
    job = await sealed.app.tasks["echo"].aenqueue(SECRET)
    async with sealed.consumer(blind):
        (letter,) = await sealed.died()
    assert letter["error"]["reason"] == "undecryptable"
    assert letter["error"]["type"] == "Undecryptable"
    assert KEYS.key_ids[0] in letter["error"]["message"]
    assert "HEADRACE_ENCRYPTION_KEYS" in letter["error"]["message"]
    assert "attempt" not in letter or letter["attempt"] == 1
    async with a_store(sealed.url) as store:
        at = await store.follow(locate(sealed.k.queue, job.id, most=1_000))
        assert "undecryptable" in str(explain(at, LeasePolicy()))
    sealed.redis.lmove(sealed.k.dead, sealed.k.pending, "LEFT", "RIGHT")
    async with sealed.consumer(check=False):
        await await_until(lambda: sealed.counters().get("done", 0) == 1)
        assert await heard(job) == SECRET
        with pytest.raises(NoResult, match="encrypted"):
            await heard(blind.job(job.id))


async def test_arguments_of_another_task_are_refused(sealed: Site) -> None:
    """Whoever may write to Redis cannot have one task called with what was meant for another."""
    ran: list[Any] = []
    sealed.app.task(name="pay")(ran.append)
    sealed.app.task(name="show")(ran.append)
    stolen = json.loads(sealed.app.tasks["pay"].call(SECRET).job)["kwargs"]
    sealed.push({"task": "show", "kwargs": stolen})
    async with sealed.consumer():
        (letter,) = await sealed.died()
    assert letter["error"]["reason"] == "undecryptable"
    assert "taken from elsewhere" in letter["error"]["message"]
    assert ran == []


async def test_a_job_with_arguments_in_the_clear_runs_beside_encrypted_ones(sealed: Site) -> None:
    """Of before there were keys; and from a program that has none."""
    app = sealed.app
    app.task(name="echo", result_ttl=60)(_echo)
    app.task(name="clear", result_ttl=60, encrypted=False)(_echo)
    sealed.push({"id": "plain-1", "task": "echo", "args": ["hello"]})
    clear = await app.tasks["clear"].aenqueue("hello")
    assert b'"args":["hello"]' in everything(sealed.redis)
    async with sealed.consumer():
        assert await heard(app.job("plain-1")) == "hello"
        assert await heard(clear) == "hello"
    assert b'"value":"hello"' in sealed.redis.lindex(sealed.k.result(clear.id), 0)
    assert b"$encrypted" in sealed.redis.lindex(sealed.k.result("plain-1"), 0)


async def test_a_task_that_is_not_encrypted_takes_over_what_an_encrypted_one_returns(
    sealed: Site,
) -> None:
    app = sealed.app
    app.task(name="echo", result_ttl=60)(_echo)

    @app.task(result_ttl=60, encrypted=False)
    async def length(text: str) -> int:
        return len(text)

    flow = await chain(app.tasks["echo"].call(SECRET), length.call(RESULT)).aenqueue()
    async with sealed.consumer(duties=DUTIES):
        assert await flow.aresult(WAIT_S) == len(SECRET)


async def test_a_task_that_is_not_encrypted_and_fails_on_a_decrypted_result_tells_nothing_of_it(
    sealed: Site, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    app = sealed.app

    @app.task(result_ttl=60)
    async def charge(card: str) -> str:
        return f"charged {card}"

    @app.task(encrypted=False, max_attempts=1, result_ttl=60)
    async def notify(text: str) -> None:
        raise ValueError(f"nobody takes {text}") from KeyError(text)

    flow = await chain(charge.call(SECRET), notify.call(RESULT)).aenqueue()
    async with sealed.consumer(duties=DUTIES, check=False):
        with pytest.raises(JobFailed) as raised:
            await flow.aresult(WAIT_S)
        (letter,) = await sealed.died()
    assert SECRET not in str(raised.value)
    assert letter["error"]["type"] == "ValueError"
    assert "not told" in letter["error"]["message"]
    assert SECRET.encode() not in everything(sealed.redis)
    assert SECRET not in caplog.text
    sealed.app.task(name="plain", encrypted=False, max_attempts=1)(_fail)
    await app.tasks["plain"].aenqueue("what was never encrypted")
    async with sealed.consumer(check=False):
        _, letter = await sealed.died(2)
    assert letter["error"]["message"] == "what was never encrypted"


async def test_a_lost_consumers_job_is_reclaimed_and_still_readable(sealed: Site) -> None:
    sealed.app.task(name="echo", result_ttl=60)(_echo)
    job = await sealed.app.tasks["echo"].aenqueue(SECRET)
    async with a_store(sealed.url) as store:
        claim = op.claim(sealed.k, 1, lease_ms=1, consumer="lost", first=1)
        assert len((await store.run(claim)).jobs) == 1
    sealed.leases_run_out()
    async with sealed.consumer(lease=QUICK):
        assert await heard(job) == SECRET
    (run,) = await job.ahistory()
    assert run.delivery == 1


async def test_jobs_are_readable_when_they_were_moved_to_another_queue(sealed: Site) -> None:
    sealed.app.task(name="echo", result_ttl=60)(_echo)
    job = await sealed.app.tasks["echo"].options(queue="elsewhere").aenqueue(SECRET)
    raw = sealed.redis.lmove("elsewhere", sealed.k.pending, "RIGHT", "LEFT")
    assert raw is not None
    sealed.redis.hincrby("elsewhere:stats", "enqueued", -1)
    sealed.foreign += 1
    async with sealed.consumer():
        assert await heard(sealed.app.job(job.id)) == SECRET


async def test_progress_is_for_people_and_is_not_encrypted(sealed: Site) -> None:
    go_on = asyncio.Event()

    @sealed.app.task(result_ttl=60)
    async def slow(card: str, ctx: Context = CURRENT) -> None:
        ctx.progress(1, 2, "half of it")
        await go_on.wait()

    job = await slow.aenqueue(SECRET)
    async with sealed.consumer():

        async def told() -> bool:
            return await job.aprogress() is not None

        await await_until(told)
        progress = await job.aprogress()
        assert isinstance(progress, Progress)
        assert progress.note == "half of it"
        go_on.set()
        await heard(job)


async def test_a_job_in_a_process_of_its_own_is_encrypted_as_all_others(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    async with lent(site, encrypted_tasks.app), site.consumer():
        assert await heard(await encrypted_tasks.apart.aenqueue(SECRET)) == f"paid {SECRET}"
        with pytest.raises(JobFailed, match="ValueError: not told"):
            await heard(await encrypted_tasks.fail_apart.aenqueue(SECRET))
        assert SECRET.encode() not in everything(site.redis)
    assert SECRET not in caplog.text


async def test_jobs_of_a_batch_are_encrypted_each(sealed: Site) -> None:
    @sealed.app.batch_task(size=2, within=600, result_ttl=60)
    async def pay(batch: Batch[str]) -> list[str]:
        return [f"paid {card}" for card in batch.values]

    jobs = await sealed.app.aenqueue_many(pay.call(f"{SECRET} {n}") for n in range(2))
    async with sealed.consumer():
        assert [await heard(job) for job in jobs] == [f"paid {SECRET} {n}" for n in range(2)]


async def test_the_pages_and_the_api_show_that_a_job_is_encrypted(sealed: Site) -> None:
    sealed.app.task(name="fail", max_attempts=1)(_fail)
    dead = await sealed.app.tasks["fail"].aenqueue(SECRET)
    async with sealed.consumer(check=False):
        await sealed.died()
    job = await sealed.app.tasks["fail"].aenqueue(SECRET)
    await sealed.app.schedules.aadd("beat", sealed.app.tasks["fail"].call(SECRET), every=3600)
    async with served(sealed.url) as (client, _):
        for path, shows in {
            "/queues/queue": True,
            f"/jobs/{job.id}": True,
            f"/dead-letters/{dead.id}": True,
            "/dead-letters?queue=queue": False,
            "/under-the-hood/queue": False,
            "/schedules": False,
            "/api/v1/queues/queue/jobs": True,
            f"/api/v1/jobs/{job.id}/explanation": False,
            "/api/v1/schedules": True,
            "/api/v1/dead-letters?queue=queue": False,
            f"/api/v1/dead-letters/{dead.id}?queue=queue": True,
        }.items():
            page = await client.get(path)
            assert SECRET not in page.text, path
            assert page.is_success, (path, page.text)
            assert ("$encrypted" in page.text) or not shows, path


async def test_an_edited_letter_is_encrypted_anew_where_the_server_has_the_keys(
    sealed: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the API and by the form; neither leaves anything of it in the clear, nor half of it."""
    ran = await _dead_letters(sealed, 2)
    first, second = (letter["id"] for letter in sealed.letters())
    monkeypatch.setenv("HEADRACE_ENCRYPTION_KEYS", f"{NEW},{OLD}")
    async with served(sealed.url) as (client, _):
        path = f"/api/v1/dead-letters/{first}/redrive?queue=queue"
        answer = await client.post(path, json={"args": [SECRET]}, headers=FORM)
        assert answer.status_code == 400
        assert "give all of them anew" in answer.json()["detail"]
        answer = await client.post(path, json={"args": [SECRET], "kwargs": {}}, headers=FORM)
        assert answer.json()["count"] == 1
        page = f"/dead-letters/{second}/redrive?queue=queue"
        old = json.dumps(_kwargs_of(sealed, second), indent=2)
        data = {"args": json.dumps([SECRET]), "kwargs": old}
        answer = await client.post(page, data=data, headers=FORM)
        assert answer.status_code == 400
        assert "give all of them anew" in answer.text
        data = {"args": "[]", "kwargs": json.dumps({"card": SECRET})}
        answer = await client.post(page, data=data, headers=FORM)
        assert answer.status_code == 303
    assert SECRET.encode() not in everything(sealed.redis)
    async with sealed.consumer():
        await await_until(lambda: ran == [SECRET, SECRET])


async def test_a_server_without_keys_puts_nothing_of_an_encrypted_letter_in_the_clear(
    sealed: Site,
) -> None:
    ran = await _dead_letters(sealed, 1)
    (letter,) = sealed.letters()
    async with served(sealed.url) as (client, _):
        path = f"/api/v1/dead-letters/{letter['id']}/redrive?queue=queue"
        answer = await client.post(path, json={"kwargs": {"card": SECRET}}, headers=FORM)
        assert answer.status_code == 400
        assert "HEADRACE_ENCRYPTION_KEYS" in answer.json()["detail"]
        assert sealed.letters() == [letter]
        page = (await client.get(f"/dead-letters/{letter['id']}?queue=queue")).text
        assert (
            "It cannot be edited here: its arguments are encrypted, and this server has no keys"
            in page
        )
        await client.post(path, json={}, headers=FORM)  # as it is
    async with sealed.consumer():
        await await_until(lambda: ran == ["4242"])


async def test_an_edited_member_of_a_workflow_goes_on_with_results_encrypted(
    sealed: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it was given of others is edited away with the rest; what it returns goes on."""
    app = sealed.app

    @app.task
    async def echo(card: str) -> str:
        return card

    @app.task(max_attempts=1)
    async def pay(card: str, cents: int) -> str:
        if not cents:
            raise ValueError(card)
        return f"{cents} {card}"

    flow = await chain(echo.call(SECRET), pay.call(RESULT, 0), echo.call(RESULT)).aenqueue()
    async with sealed.consumer(duties=DUTIES, check=False):
        (letter,) = await sealed.died()
        monkeypatch.setenv("HEADRACE_ENCRYPTION_KEYS", NEW)
        async with served(sealed.url) as (client, _):
            path = f"/api/v1/dead-letters/{letter['id']}/redrive?queue=queue"
            new = {"args": [SECRET, 5], "kwargs": {}}
            assert (await client.post(path, json=new, headers=FORM)).json()["count"] == 1
        assert await flow.aresult(WAIT_S) == f"5 {SECRET}"


async def test_over_http_what_is_called_encrypted_and_is_not_is_refused(
    sealed: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_ENCRYPTION_KEYS", NEW)
    async with served(sealed.url) as (client, _):
        job = {"task": "pay", "kwargs": {"$encrypted": {"card": "4242"}}}
        answer = await client.post("/api/v1/jobs", json=job)
        assert answer.status_code == 400
        assert "Call the argument something else" in answer.json()["detail"]
    assert sealed.counters().get("enqueued", 0) == 0


async def _dead_letters(site: Site, count: int) -> list[str]:
    """Have so many jobs die, each called with 4242; give what is run from then on."""
    ran = list[str]()
    fails = [True]

    @site.app.task(max_attempts=1)
    async def pay(card: str) -> None:
        if fails:
            raise OSError(card)
        ran.append(card)

    for _ in range(count):
        await pay.aenqueue("4242")
    async with site.consumer(check=False):
        await site.died(count)
    fails.clear()
    return ran


def _kwargs_of(site: Site, job_id: str) -> Any:
    return next(letter["kwargs"] for letter in site.letters() if letter["id"] == job_id)


async def _fail(card: str) -> None:
    raise ValueError(card)


async def _echo(card: str) -> str:
    return card
