"""Webhooks: each dead letter is told once, signed, again after a failure, and whoever dies in between loses none."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis import Redis

from headrace import Headrace, forgetting
from headrace.clock import now_ms
from headrace.keys import keys_of
from headrace.retry import Backoff
from headrace.store import AsyncStore
from headrace.web.reader import Reader
from headrace.webhooks import marks as marks_module
from headrace.webhooks import service
from headrace.webhooks.event import Event, died
from headrace.webhooks.hook import Webhook
from headrace.webhooks.service import WebhookService
from headrace.webhooks.watcher import QUEUE
from tests.integration.web.client import K, kill_one
from tests.support.receiver import Receiver, receiving
from tests.support.wait import await_until

SECRET = b"sixteen bytes or more"
HOOKS = keys_of(QUEUE)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "LOOK_EVERY_S", 0.02)


def hook_to(receiver: Receiver, *events: str, **more: Any) -> Webhook:
    kinds: Any = frozenset(events or ("dead",))
    return Webhook("ops", receiver.url, SECRET, kinds, **more)


@asynccontextmanager
async def serving(
    url: str, store: AsyncStore, app: Headrace, *hooks: Webhook
) -> AsyncIterator[WebhookService]:
    """Run the service until the block ends; only once it has seen where the queues are."""
    quick = Backoff(base_s=0.01, max_s=0.01)
    running = WebhookService(url, store, Reader(store, app), hooks, backoff=quick)
    running.start()
    try:
        await await_until(lambda: seen(store), "it has looked")
        yield running
    finally:
        await running.close()


async def seen(store: AsyncStore) -> bool:
    return "ops" in await store.run(marks_module.read())


async def die(app: Headrace, store: AsyncStore, *, times: int = 1) -> None:
    for n in range(times):
        await app.aenqueue("a", n)
        await kill_one(store, K, "max_attempts", ValueError(f"no {n}"), now_ms())


async def test_a_dead_letter_is_told_once_and_signed(
    url: str, store: AsyncStore, app: Headrace, receiver: Receiver, redis: Redis
) -> None:
    await die(app, store)  # before anybody has asked to be told
    async with serving(url, store, app, hook_to(receiver)):
        await die(app, store)
        await await_until(lambda: receiver.got)
        await die(app, store)
        await await_until(lambda: len(receiver.got) == 2)
    one = receiver.got[0]
    assert one.is_signed_with(SECRET)
    assert (one.path, one.headers["content-type"]) == ("/hook?from=headrace", "application/json")
    about = one.event["data"]
    assert (one.event["type"], about["queue"], about["task"]) == ("dead", "queue", "a")
    assert (about["reason"], about["message"]) == ("max_attempts", "no 0")
    assert len(set(receiver.ids)) == 2
    assert redis.llen(HOOKS.dead) == 0


@pytest.mark.parametrize("status", [500, 302, 404])
async def test_what_is_not_taken_is_sent_again_with_the_same_id(
    url: str, store: AsyncStore, app: Headrace, receiver: Receiver, status: int
) -> None:
    receiver.answers = [status, status]
    async with serving(url, store, app, hook_to(receiver)):
        await die(app, store)
        await await_until(lambda: len(receiver.got) == 3)
        await die(app, store)
        await await_until(lambda: len(receiver.got) == 4)
    assert len(set(receiver.ids[:3])) == 1
    assert receiver.ids[3] != receiver.ids[0]
    assert all(one.is_signed_with(SECRET) for one in receiver.got)
    assert {one.path for one in receiver.got} == {"/hook?from=headrace"}  # no redirect is followed


async def test_an_address_that_is_gone_is_not_asked_again(
    url: str, store: AsyncStore, app: Headrace, receiver: Receiver, redis: Redis
) -> None:
    receiver.answers = [410]
    async with serving(url, store, app, hook_to(receiver)):
        await die(app, store)
        await await_until(lambda: redis.llen(HOOKS.dead) == 1)
    assert len(receiver.got) == 1
    assert receiver.url.encode() not in b"".join(redis.lrange(HOOKS.dead, 0, -1))  # type: ignore[arg-type]


async def test_an_address_is_in_no_dead_letter_though_the_answer_quotes_it(
    url: str,
    store: AsyncStore,
    app: Headrace,
    receiver: Receiver,
    redis: Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(service, "ATTEMPTS", 1)
    receiver.answers = [500]
    async with serving(url, store, app, hook_to(receiver)):
        await die(app, store)
        await await_until(lambda: redis.llen(HOOKS.dead) == 1)
    letter = redis.lindex(HOOKS.dead, 0)
    assert b"answered 500" in letter  # type: ignore[operator]
    assert b"/hook" not in letter  # type: ignore[operator]


async def test_an_event_of_a_webhook_that_one_server_does_not_know_waits_for_one_that_does(
    url: str, store: AsyncStore, app: Headrace, receiver: Receiver, redis: Redis
) -> None:
    other = Webhook("other", receiver.url, SECRET)
    with pytest.MonkeyPatch.context() as dead:

        async def nobody(_: object) -> None: ...

        dead.setattr(WebhookService, "_consume", nobody)
        async with serving(url, store, app, hook_to(receiver), other):
            await die(app, store)
            await await_until(lambda: redis.llen(HOOKS.pending) == 2)
    async with serving(url, store, app, hook_to(receiver)):  # its file is older
        await await_until(lambda: told_of(redis, "retry") >= 1)
        await await_until(lambda: len(receiver.got) == 1)
    async with serving(url, store, app, hook_to(receiver), other):
        await await_until(lambda: len(receiver.got) == 2)
    assert redis.llen(HOOKS.dead) == 0


def told_of(redis: Redis, how: str = "done") -> int:
    """Count what has become of messages, as Redis knows it."""
    return int(redis.hget(HOOKS.stats, how) or 0)


async def test_a_letter_that_says_very_much_keeps_no_other_back(
    url: str, store: AsyncStore, app: Headrace, receiver: Receiver, redis: Redis
) -> None:
    huge = {"id": "huge", "task": "a", "error": {"reason": "rejected", "message": "x" * 1_100_000}}
    async with serving(url, store, app, hook_to(receiver)):
        redis.lpush(K.dead, json.dumps(huge, separators=(",", ":")))
        redis.hincrby(K.stats, "dead", 1)
        await die(app, store)
        await await_until(lambda: len(receiver.got) == 2)
    about = {one.event["data"]["id"]: one.event["data"] for one in receiver.got}
    assert len(about.pop("huge")["message"]) == 1_000
    assert [one["message"] for one in about.values()] == ["no 0"]


async def test_one_that_does_not_answer_holds_up_no_other(
    url: str, store: AsyncStore, app: Headrace, receiver: Receiver, redis: Redis
) -> None:
    with receiving() as silent:
        silent.answering.clear()
        slow = Webhook("slow", silent.url, SECRET)
        async with serving(url, store, app, slow, hook_to(receiver)):
            await die(app, store, times=10)
            await await_until(lambda: len(receiver.got) == 10)
            assert len(silent.got) <= 4
            silent.answering.set()
            await await_until(lambda: told_of(redis) == 20)
        assert len(set(silent.ids)) == 10


async def test_an_event_that_can_be_no_job_keeps_no_other_back(
    url: str,
    store: AsyncStore,
    app: Headrace,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def large(queue: str, letter: bytes, message_id: str) -> Event:
        event = died(queue, letter, message_id)
        is_first = b"no 0" in letter
        return event._replace(body=b"x" * (1 << 21)) if is_first else event

    monkeypatch.setattr("headrace.webhooks.watcher.died", large)
    async with serving(url, store, app, hook_to(receiver)):
        await die(app, store, times=2)
        await await_until(lambda: receiver.got)
        await die(app, store)  # the same text
        await await_until(lambda: caplog.text.count("is not told of") >= 2)
    assert [one.event["data"]["message"] for one in receiver.got] == ["no 1"]


async def test_a_letter_that_is_pushed_down_by_others_that_nobody_counted_is_told(
    url: str, store: AsyncStore, app: Headrace, receiver: Receiver, redis: Redis
) -> None:
    class Late(AsyncStore):
        async def run(self, operation: Any) -> Any:
            if operation.name == "webhooks/letters" and not redis.exists("pushed"):
                redis.set("pushed", 1)
                redis.lpush(K.dead, *(f'{{"id":"moved-{n}","task":"a"}}' for n in range(5)))
            return await super().run(operation)

    late = Late(url)
    await die(app, store)  # before anybody has asked to be told
    async with serving(url, late, app, hook_to(receiver)):
        await die(app, store)
        await await_until(lambda: "no 0" in {one.event["data"]["message"] for one in receiver.got})
    redis.delete("pushed")
    ids = [one.event["data"]["id"] for one in receiver.got]
    assert len(ids) == len({*ids})
    assert [one.event["data"]["message"] for one in receiver.got].count("no 0") == 1
    await late.close()


async def test_large_letters_are_read_a_few_at_a_time(store: AsyncStore, redis: Redis) -> None:
    letters = [b"%d%b" % (n, b"x" * 400_000) for n in range(7)]
    redis.lpush(K.dead, *letters)
    redis.hset(K.stats, "dead", 7)
    found, told = list[bytes](), 0
    for expected, over in ((3, False), (6, False), (7, True)):
        few = await store.run(marks_module.letters(K, told, 100, 20))
        told = few.counted
        assert (told, few.all) == (expected, over)
        assert len(few.raw) + len(few.older) <= 3
        found += few.raw
    assert found == letters


async def test_of_letters_that_were_purged_nothing_is_left_to_read(
    store: AsyncStore, redis: Redis
) -> None:
    redis.lpush(K.dead, "one", "two")
    redis.hset(K.stats, "dead", 1_000_000)
    assert await store.run(marks_module.letters(K, 5, 100, 20)) == (
        1_000_000, True, [b"one", b"two"], [],
    )  # fmt: skip
    assert await store.run(marks_module.letters(K, 999_999, 100, 20)) == (
        1_000_000, True, [b"two"], [b"one"],
    )  # fmt: skip
    assert await store.run(marks_module.letters(K, 999_998, 1, 1)) == (
        999_999, False, [b"one"], [],
    )  # fmt: skip


async def test_letters_that_come_while_no_server_runs_are_told_by_the_next(
    url: str, store: AsyncStore, app: Headrace, receiver: Receiver, redis: Redis
) -> None:
    async with serving(url, store, app, hook_to(receiver)):
        await die(app, store)
        await await_until(lambda: told_of(redis) == 1)  # else it is sent again: nobody has heard
    await die(app, store, times=3)
    async with serving(url, store, app, hook_to(receiver)):
        await await_until(lambda: len(receiver.got) == 4)
    assert len(set(receiver.ids)) == 4


async def test_a_server_that_dies_between_telling_and_marking_tells_nothing_twice(
    url: str, store: AsyncStore, app: Headrace, receiver: Receiver, redis: Redis
) -> None:
    async with serving(url, store, app, hook_to(receiver)):
        await die(app, store)
        await await_until(lambda: receiver.got)
        mark: Any = None

        def marked() -> Any:
            nonlocal mark
            mark = redis.hget(marks_module.MARKS, "ops dead queue")
            return mark

        await await_until(marked)
        await await_until(lambda: told_of(redis) == 1)
    redis.hdel(marks_module.MARKS, "ops dead queue")  # as if it had not come so far
    async with serving(url, store, app, hook_to(receiver)):
        await await_until(lambda: redis.hexists(marks_module.MARKS, "ops dead queue"))
        await die(app, store)
        await await_until(lambda: len(receiver.got) >= 2)
    assert len(receiver.ids) == len(set(receiver.ids)) == 2


async def test_a_server_that_dies_before_it_sends_has_enqueued_it(
    url: str, store: AsyncStore, app: Headrace, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as dead:

        async def nobody(_: object) -> None: ...

        dead.setattr(WebhookService, "_consume", nobody)
        async with serving(url, store, app, hook_to(receiver)):
            await die(app, store)
            await await_until(lambda: waiting(store))
    assert receiver.got == []
    async with serving(url, store, app, hook_to(receiver)):
        await await_until(lambda: receiver.got)
    assert len(receiver.got) == 1


async def waiting(store: AsyncStore) -> bool:
    told = await store.run(marks_module.read())
    return "ops dead queue" in told


async def test_many_letters_at_once_are_told_one_by_one_each_once(
    url: str, store: AsyncStore, app: Headrace, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.webhooks.watcher._LETTERS", 10)
    async with serving(url, store, app, hook_to(receiver)):
        await die(app, store, times=35)
        await await_until(lambda: len(receiver.got) >= 35)
    messages = {one.event["data"]["id"] for one in receiver.got}
    assert len(messages) == len(receiver.got) == 35


async def test_letters_that_come_between_the_count_and_the_reading_hide_no_other(
    url: str, store: AsyncStore, app: Headrace, receiver: Receiver
) -> None:
    """They push those that were counted down the list, where places count from the newest."""
    died_meanwhile = False

    class Late(AsyncStore):
        async def run(self, operation: Any) -> Any:
            nonlocal died_meanwhile
            if operation.name == "webhooks/letters" and not died_meanwhile:
                died_meanwhile = True
                await die(app, store, times=5)
            return await super().run(operation)

    late = Late(url)
    async with serving(url, late, app, hook_to(receiver)):
        await die(app, store, times=3)
        await await_until(lambda: len(receiver.ids) >= 8)
    assert died_meanwhile
    assert len(set(receiver.ids)) == len(receiver.ids) == 8
    await late.close()


async def test_an_old_job_is_told_of_once_and_again_when_it_was_young_meanwhile(
    url: str, store: AsyncStore, app: Headrace, receiver: Receiver, redis: Redis
) -> None:
    hook = hook_to(receiver, "age", max_age_s=0.1)
    async with serving(url, store, app, hook):
        await app.aenqueue("a", 1)
        await await_until(lambda: receiver.got)
        redis.delete(K.pending)
        await await_until(lambda: not redis.hexists(marks_module.MARKS, "ops age queue"))
        await app.aenqueue("a", 2)
        await await_until(lambda: len(receiver.got) == 2)
    about = receiver.got[0].event["data"]
    assert receiver.got[0].event["type"] == "age"
    assert (about["queue"], about["waiting"], about["max_age_s"]) == ("queue", 1, 0.1)
    assert about["oldest_age_s"] > 0.1


async def test_other_queues_and_its_own_are_not_told_of(
    url: str, store: AsyncStore, app: Headrace, receiver: Receiver, redis: Redis
) -> None:
    hook = hook_to(receiver, queues=frozenset({"emails"}))
    async with serving(url, store, app, hook):
        await die(app, store)
        redis.lpush(HOOKS.pending, '{"task":"headrace.webhook"}')
        await await_until(lambda: redis.llen(HOOKS.dead) == 1, "its own died")
        emails = Headrace(url, queue="emails")
        await emails.aenqueue("a")
        await kill_one(store, keys_of("emails"), "rejected", ValueError("x"), now_ms())
        await await_until(lambda: receiver.got)
        await emails.aclose()
    assert [one.event["data"]["queue"] for one in receiver.got] == ["emails"]


async def test_a_queue_that_is_forgotten_and_used_again_is_told_of(
    url: str, store: AsyncStore, app: Headrace, receiver: Receiver, redis: Redis
) -> None:
    async with serving(url, store, app, hook_to(receiver)):
        await die(app, store, times=2)
        await await_until(lambda: len(receiver.got) == 2)
        redis.delete(K.dead)
        await await_until(lambda: waiting(store))
        assert await store.follow(forgetting.forget([K], 0)) == ["forgotten"]
        await die(app, store)
        await await_until(lambda: len(receiver.got) == 3)


async def test_a_letter_of_a_plain_client_is_told_and_one_of_last_week_is_not(
    url: str, store: AsyncStore, app: Headrace, receiver: Receiver, redis: Redis
) -> None:
    async with serving(url, store, app, hook_to(receiver)):
        old = b'{"id":"old","task":"a","error":{"reason":"rejected","failed_at":1000000}}'
        redis.lpush(K.dead, old, b'{"id":"new","task":"a"}')
        redis.hincrby(
            K.stats, "dead", 2
        )  # one was purged since it was counted: an older stands there
        await await_until(lambda: receiver.got)
        await await_until(lambda: waiting(store))
    assert [one.event["data"]["id"] for one in receiver.got] == ["new"]
