"""Bad input from anywhere: whatever is pushed is run or stands in the dead letters, to the byte.

Each flaw comes on both ways into a consumer: by a blocking move while it is idle, and by a claim of
what was there before it started.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from headrace import Backoff, Context
from headrace.doctor import dead_letters
from tests.support.consuming import Running, Site, a_store, ids_of
from tests.support.wait import await_until

WAYS = pytest.mark.parametrize("way", ["by move", "by claim"])

DEEP = b"[" * 100_000 + b"]" * 100_000

MALFORMED = {
    "no JSON": b"nonsense",
    "single quotes": b"{'task':'echo'}",
    "empty string": b"",
    "white space": b" \n",
    "cut off": b'{"task":"echo","args":[1',
    "two objects": b'{"task":"echo"}{"task":"echo"}',
    "comma at the end": b'{"task":"echo",}',
    "list": b'["task","echo"]',
    "string": b'"task"',
    "number": b"42",
    "null": b"null",
    "infinity": b"1e400",
    "a name beyond all bounds": b'{"task":"%b"}' % (b"n" * 256),
    "NaN": b'{"task":"echo","args":[NaN]}',
    "empty object": b"{}",
    "no task": b'{"id":"x","args":[1]}',
    "null as task": b'{"task":null}',
    "number as task": b'{"id":"0123456789abcdefghijklmnop","task":5}',
    "object as args": b'{"task":"echo","args":{"a":1}}',
    "list as kwargs": b'{"task":"echo","kwargs":[1]}',
    "text as timeout": b'{"task":"echo","timeout":"soon"}',
    "1e400 as max_attempts": b'{"task":"echo","max_attempts":1e400}',
    "1e400 as argument": b'{"task":"echo","args":[1e400]}',
    "huge exponent": b'{"task":"echo","args":[1e999999999999]}',
    "not UTF-8": b"\xff\xfe\x00\x80",
    "not UTF-8 in an argument": b'{"task":"echo","args":["\xff"]}',
    "not UTF-8 in a job with an id": b'{"id":"y","task":"echo","args":["\xe4"]}',
    "surrogate in UTF-8": b'{"task":"echo","args":["\xed\xa0\x80"]}',
    "lone surrogate": rb'{"task":"echo","args":["\ud800"]}',
    "BOM": b'\xef\xbb\xbf{"task":"echo"}',
    "UTF-16": '{"task":"echo"}'.encode("utf-16"),
    "NULs": b"\x00" * 10,
    "NUL behind": b'{"task":"echo"}\x00',
    "deep nesting": b'{"task":"echo","args":' + DEEP + b"}",
    "deep nesting without an end": b'{"id":"z","task":"echo","args":' + b'[{"a":' * 50_000,
    "nothing but depth": DEEP,
    "depth in a field that nobody reads": b'{"task":"echo","x":' + DEEP + b"}",
    "cut off behind an id": b'{"id":"w"',
    "pickle": b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x04echo\x94.",
    "id that is no string": b'{"id":[],"args":[]}',
    "looks like a letter": b'{"error":{"reason":"malformed"}}',
}

RUNS: dict[str, tuple[bytes, Any]] = {
    "no id": (b'{"task":"echo","args":["hi"]}', "hi"),
    "id not first": (b'{"task":"echo","id":"mine","args":[1]}', 1),
    "numeric id": (b'{"id":12345678901234567890,"task":"echo","args":[1]}', 1),
    "null as id": (b'{"id":null,"task":"echo","args":[1]}', 1),
    "id with a quote": (rb'{"id":"a\"b","task":"echo","args":[1]}', 1),
    "id with a space": (b'{"id":"a b","task":"echo","args":[1]}', 1),
    "id beyond ASCII": ('{"id":"ü","task":"echo","args":[1]}'.encode(), 1),
    "empty id": (b'{"id":"","task":"echo","args":[1]}', 1),
    "long id": (b'{"id":"%b","task":"echo","args":[1]}' % (b"i" * 500), 1),
    "id like a bare lease": (b'{"id":"~0:1","task":"echo","args":[1]}', 1),
    "white space": (b' {\n "task" : "echo" ,\t"args" : [ "a b" ] }\r\n', "a b"),
    "trailing newline": (b'{"id":"nl","task":"echo","args":[1]}\n', 1),
    "beyond 2^53": (b'{"task":"echo","args":[9007199254740993]}', 9007199254740993),
    "beyond 2^64": (b'{"task":"echo","args":[123456789012345678901234567890]}', 123456789012345678901234567890),
    "beyond -2^63": (b'{"task":"echo","args":[-98765432109876543210]}', -98765432109876543210),
    "float": (b'{"task":"echo","args":[1.0000000000000002]}', 1.0000000000000002),
    "NUL in a string": (rb'{"task":"echo","args":["\u0000"]}', "\0"),
    "pair of surrogates": (rb'{"task":"echo","args":["\ud83d\ude00"]}', "😀"),
    "field twice": (b'{"task":"nobody","task":"echo","args":[1]}', 1),
    "counters of a joker": (
        b'{"task":"echo","args":[1],"delivery":-5,"attempt":1.5,"crashes":"x","priority":1e9}', 1
    ),
    "kwargs": (b'{"kwargs":{"value":[{}]},"task":"echo"}', [{}]),
    "unknown 1e400": (b'{"task":"echo","args":[1],"x":1e400}', 1),
    "unknown field that is not UTF-8": (b'{"task":"echo","args":[1],"x":"\xff"}', 1),
    "escapes in names": (rb'{"\u0074ask":"echo","args":[1],"id":"\u0041"}', 1),
    "null as error": (b'{"id":"e","task":"echo","args":[1],"error":null}', 1),
    "bounds below 0": (b'{"task":"echo","args":[1],"max_attempts":-5,"result_ttl":-5}', 1),
}  # fmt: skip


@asynccontextmanager
async def fed(
    site: Site, way: str, *jobs: bytes | dict[str, Any], **options: Any
) -> AsyncIterator[Running]:
    """Run a consumer that gets jobs one by one, each in one way, and is alive afterwards."""
    alive = asyncio.Event()

    if "echo" not in site.app.tasks:
        site.app.task(name="echo")(lambda value=None: value)

    @site.app.task(name="alive")
    async def is_alive() -> None:
        alive.set()

    if way == "by claim":
        site.push(*jobs)
    async with site.consumer(**options) as running:
        if way == "by move":
            for job in jobs:
                await site.idle(running)
                site.push(job)
        yield running
        site.push({"task": "alive"})
        await await_until(alive.is_set, what="a good job runs")
        await await_until(lambda: site.counters().get("done"), what="it is done")


def bytes_of(letter: dict[str, Any]) -> bytes:
    """Give the bytes of the malformed job that a letter is about."""
    error = letter["error"]
    if "payload_base64" in error:
        return base64.b64decode(error["payload_base64"], validate=True)
    payload: str = error["payload"]
    return payload.encode()


class TestMalformed:
    @WAYS
    @pytest.mark.parametrize("unrunnable", MALFORMED)
    async def test_its_exact_bytes_stand_in_the_dead_letters_however_often_it_comes_back(
        self, site: Site, way: str, unrunnable: str
    ) -> None:
        job = MALFORMED[unrunnable]
        async with fed(site, way, job) as running:
            [letter] = await site.died()
            first = site.raw_letters()
            assert bytes_of(letter) == job
            assert letter["error"]["reason"] == "malformed"
            assert letter["error"]["consumer"] == running.name
            assert letter["error"]["message"]
            # Moved back by hand, it is not wrapped twice; by an operation, it is unwrapped.
            site.redis.lmove(site.k.dead, site.k.pending, "LEFT", "RIGHT")
            await await_until(lambda: site.raw_letters() not in ([], first))
            [again] = site.letters()
            assert bytes_of(again) == job
            assert (again["id"], again["delivery"]) == (letter["id"], letter["delivery"] + 1)
            async with a_store(site.url) as store:
                assert await store.follow(dead_letters.redrive(site.k, lambda _: True, print)) == 1
            await await_until(lambda: site.counters()["dead"] == 3)
            [last] = site.letters()
            assert bytes_of(last) == job
        assert {letter["error"]["message"], again["error"]["message"]} == {last["error"]["message"]}

    @WAYS
    async def test_all_at_once_and_among_good_ones_none_is_lost(self, site: Site, way: str) -> None:
        jobs = [*MALFORMED.values()]
        jobs += [job for job in jobs if not job.startswith(b'{"id":"')]  # equal bytes, too
        good = [job for job, _ in RUNS.values()]
        mixed = [job for pair in zip(jobs, good * 4) for job in pair]
        if way == "by claim":
            site.push(*mixed)
        runs: list[Any] = []

        @site.app.task
        async def echo(value: Any) -> None:
            runs.append(value)

        async with site.consumer(concurrency=7) as running:
            if way == "by move":
                await site.idle(running)
                site.push(*mixed)
            letters = await site.died(len(jobs))
            await site.drained()
        assert Counter(map(bytes_of, letters)) == Counter(jobs)
        assert len(runs) == len(mixed) - len(jobs)

    async def test_the_letter_of_a_job_that_can_be_read_by_now_runs_it(self, site: Site) -> None:
        ran: list[Any] = []

        @site.app.task
        async def echo(value: Any, ctx: Context) -> None:
            ran.append((value, ctx.attempt, ctx.delivery))

        payload = json.dumps({"task": "echo", "args": ["read"]})
        async with site.consumer():
            site.push({"id": "a", "delivery": 3, "attempt": 2,
                       "error": {"reason": "malformed", "payload": payload}})  # fmt: skip
            await await_until(lambda: ran)
            await site.drained()
        assert ran == [("read", 1, 3)]

    @WAYS
    async def test_malformed_jobs_take_no_slot(self, site: Site, way: str) -> None:
        async with fed(site, way, *[b"nonsense"] * 50, concurrency=1):
            await site.died(50)


class TestForeign:
    @WAYS
    @pytest.mark.parametrize("kind", RUNS)
    async def test_what_can_be_read_runs_with_its_arguments_as_they_came(
        self, site: Site, way: str, kind: str
    ) -> None:
        job, expected = RUNS[kind]
        ran: list[Any] = []

        @site.app.task
        async def echo(value: Any = None) -> None:
            ran.append(value)

        async with fed(site, way, job):
            await await_until(lambda: ran)
        assert ran[0] == expected
        assert type(ran[0]) is type(expected)
        assert not site.letters()

    @WAYS
    async def test_jobs_of_one_id_all_run(self, site: Site, way: str) -> None:
        ran: list[Any] = []

        @site.app.task
        async def echo(value: Any) -> None:
            ran.append(value)

        site.twins.add("same")
        jobs = [f'{{"id":"same","task":"echo","args":[{n}]}}'.encode() for n in (1, 2, 2, 3)]
        if way == "by claim":
            site.push(*jobs)
        async with site.consumer() as running:
            if way == "by move":
                await site.idle(running)
                site.push(*jobs)
            await await_until(lambda: len(ran) >= 4)
            await site.drained()
        assert sorted(ran) == [1, 2, 2, 3]
        assert site.counters()["done"] == 4

    @WAYS
    async def test_jobs_of_one_id_in_two_consumers_all_run(self, site: Site, way: str) -> None:
        ran: list[Any] = []

        @site.app.task
        async def echo(value: Any) -> None:
            ran.append(value)
            await await_until(lambda: len(ran) == 2)  # the other one is held at the same time

        site.twins.add("same")
        async with site.consumer(concurrency=1) as a, site.consumer(concurrency=1) as b:
            await site.idle(a, b)
            for n in (1, 2):
                site.push(f'{{"id":"same","task":"echo","args":[{n}]}}'.encode())
            await site.drained()
        assert sorted(ran) == [1, 2]

    @WAYS
    async def test_fields_that_nobody_knows_go_through_retry_and_death_and_redrive(
        self, site: Site, way: str
    ) -> None:
        broken = [True]

        @site.app.task(max_attempts=2, backoff=Backoff(base_s=0.01))
        async def note(n: int) -> None:
            if broken:
                raise ValueError

        job = (b'{"task":"note","args":[12345678901234567890123],"trace":{"span" : "\\u00e9"},'
               b'"big":1e400,"foreign_id":7}')  # fmt: skip
        async with fed(site, way, job):
            await site.died()
            [letter] = site.raw_letters()
            for part in (b'"args":[12345678901234567890123]', b'"trace":{"span" : "\\u00e9"}',
                         b'"big":1e400', b'"foreign_id":7'):  # fmt: skip
                assert part in letter
            broken.clear()
            site.redis.lmove(site.k.dead, site.k.pending, "LEFT", "RIGHT")
            await await_until(lambda: site.counters().get("done"))

    @WAYS
    @pytest.mark.parametrize("error", [{"mine": 1}, "mine", {"reason": "r", "payload": "no job"},
                                       {"reason": "r", "payload_base64": "AAAA"}])  # fmt: skip
    async def test_an_error_of_somebody_else_is_never_taken_for_the_job(
        self, site: Site, way: str, error: Any
    ) -> None:
        seen: list[bytes] = []

        @site.app.task
        async def look() -> None:
            await await_until(lambda: site.state().leases, what="it is adopted")
            seen.extend(site.state().processing)

        async with fed(site, way, {"id": "e", "task": "look", "args": [], "error": error}):
            await await_until(lambda: seen)
        assert [json.loads(job) for job in seen] == [{"id": "e", "task": "look", "args": []}]

    @WAYS
    @pytest.mark.parametrize("call", [{"args": [1, 2]}, {"kwargs": {"who": 1}},
                                      {"args": [1], "kwargs": {"value": 1}}])  # fmt: skip
    async def test_arguments_that_do_not_fit_are_not_tried_again(
        self, site: Site, way: str, call: dict[str, Any]
    ) -> None:
        async with fed(site, way, {"task": "echo"} | call):
            [letter] = await site.died()
        assert letter["error"]["reason"] == "invalid_arguments"
        assert letter["attempt"] == 1
        assert call.items() <= letter.items()


class TestTooLarge:
    @WAYS
    @pytest.mark.parametrize("head", ["", '"id":"large",'])
    async def test_a_foreign_job_of_2_mib_is_dead_and_whole(
        self, site: Site, way: str, head: str
    ) -> None:
        job = f'{{{head}"task":"echo","args":["{"x" * (2 << 20)}"]}}'.encode()
        async with fed(site, way, job):
            [letter] = await site.died()
            assert letter["error"]["reason"] == "too_large"
            assert "limit is 1,048,576" in letter["error"]["message"]
            assert letter["args"] == ["x" * (2 << 20)]

    @WAYS
    async def test_what_is_large_and_malformed_is_whole_too(self, site: Site, way: str) -> None:
        job = b"\xff" * (2 << 20)
        async with fed(site, way, job):
            [letter] = await site.died()
            assert bytes_of(letter) == job

    async def test_a_job_of_the_limit_runs_also_when_it_comes_back_with_its_error(
        self, site: Site
    ) -> None:
        sizes: list[int] = []
        broken = [True]

        @site.app.task(max_attempts=1)
        async def note(text: str) -> None:
            sizes.append(len(text))
            if broken:
                raise ValueError

        async with site.consumer():
            await note.aenqueue("x" * ((1 << 20) - 100))
            await site.died()
            broken.clear()
            assert site.redis.strlen("nothing") == 0
            site.redis.lmove(site.k.dead, site.k.pending, "LEFT", "RIGHT")
            await site.drained()
        assert sizes == [(1 << 20) - 100] * 2


class TestUnknownTasks:
    @WAYS
    async def test_it_is_parked_and_runs_where_it_is_known(self, site: Site, way: str) -> None:
        ran: list[int] = []
        stranger = site.another_app()

        @stranger.task
        async def other() -> None: ...

        @site.app.task
        async def known(n: int, ctx: Context) -> None:
            ran.append(ctx.delivery)

        job = {"id": "j", "task": "known", "args": [1], "x": 1}
        if way == "by claim":
            site.push(job)
        async with site.consumer(stranger) as running:
            if way == "by move":
                await site.idle(running)
                site.push(job)
            await await_until(lambda: site.redis.zcard(site.k.delayed))
            [(parked, due)] = site.state().delayed
            assert 0 < due - site.now_ms() <= 1_000
            fields = json.loads(parked)
            assert abs(fields.pop("unknown_since") - site.now_ms()) < 5_000
            assert fields == {"id": "j", "delivery": 1, "task": "known", "args": [1], "x": 1}
        async with site.consumer():
            await await_until(lambda: ran)
            await site.drained()
        assert ran == [1]
        assert site.counters() == {"park": 1, "done": 1}

    async def test_its_pauses_grow_with_the_time_that_it_has_waited(self, site: Site) -> None:
        now = site.now_ms()
        waits = {"a": 300, "b": 10_000, "c": 40_000, "d": 3_600_000}
        async with site.consumer():
            for name, ms in waits.items():
                site.push(f'{{"id":"{name}","unknown_since":{now - ms},"task":"t"}}'.encode())
            await await_until(lambda: site.redis.zcard(site.k.delayed) == 4)
            pauses = {
                json.loads(job)["id"]: due - site.now_ms() for job, due in site.state().delayed
            }
        for (_, pause), bound in zip(sorted(pauses.items()), (1_000, 10_000, 40_000, 60_000)):
            assert bound - 2_000 < pause < bound + 5_000, pauses

    async def test_after_its_time_it_is_dead_and_can_be_brought_back(self, site: Site) -> None:
        ran: list[tuple[int, int]] = []
        stranger = site.another_app()
        async with site.consumer(stranger, unknown_task_ttl_s=0.5):
            job = await site.app.aenqueue("known", 1)
            [letter] = await site.died()
            assert letter["error"]["reason"] == "unknown_task"
            assert "'known'" in letter["error"]["message"]
            assert site.counters() == {"enqueued": 1, "park": 1, "dead": 1}

        @site.app.task
        async def known(n: int, ctx: Context) -> None:
            ran.append((ctx.attempt, ctx.delivery))

        site.redis.lmove(site.k.dead, site.k.pending, "LEFT", "RIGHT")
        async with site.consumer():
            await await_until(lambda: ran)
        assert ran == [(1, 2)]
        assert await job.astatus() == "done"

    async def test_its_failures_are_not_forgotten_while_it_is_parked(self, site: Site) -> None:
        async with site.consumer(site.another_app()):
            site.push(b'{"id":"j","attempt":2,"task":"t"}')
            await await_until(lambda: site.redis.zcard(site.k.delayed))
            [(parked, _)] = site.state().delayed
        assert json.loads(parked)["attempt"] == 2
        assert ids_of([parked]) == ["j"]
