"""Failed jobs run again, later and later, and stand once in the dead letters when that was enough."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from headrace import Backoff, Context, InvalidArguments, Reject, Retry, wire
from headrace.doctor import dead_letters
from tests.support.consuming import Site, a_store
from tests.support.wait import WAIT_S, await_until, wait_until

AT_ONCE = Backoff(base_s=0)
WAYS_BACK = pytest.mark.parametrize("way", ["redrive", "LMOVE"])


async def bring_back(site: Site, way: str) -> None:
    """Move all dead letters back: as Headrace does, or as anybody may."""
    if way == "redrive":
        async with a_store(site.url) as store:
            flow = dead_letters.redrive(site.k, lambda _letter: True, lambda _moved: None)
            assert await store.follow(flow)
    else:
        while site.redis.lmove(site.k.dead, site.k.pending, "LEFT", "RIGHT") is not None:
            pass


def logged(caplog: pytest.LogCaptureFixture, part: str) -> list[str]:
    return [text for record in caplog.records if part in (text := record.getMessage())]


class TestAttempts:
    async def test_a_task_that_always_fails_runs_max_attempts_times_later_and_later(
        self, site: Site, caplog: pytest.LogCaptureFixture
    ) -> None:
        runs: list[tuple[int, int, int]] = []
        caplog.set_level("INFO", "headrace.consumer")

        @site.app.task(max_attempts=4, backoff=Backoff(base_s=0.1, jitter=False))
        async def fails(what: str, ctx: Context) -> None:
            runs.append((ctx.attempt, ctx.delivery, site.now_ms()))
            raise LookupError(f"no {what}")

        async with site.consumer() as running:
            job = await site.app.aenqueue("fails", "luck")
            [letter] = await site.died()
            name = running.name
        assert [(attempt, delivery) for attempt, delivery, _ in runs] == [
            (1, 0), (2, 1), (3, 2), (4, 3)
        ]  # fmt: skip
        at = [ms for _, _, ms in runs]
        assert at[1] - at[0] >= 100
        assert at[2] - at[1] >= 200
        assert at[3] - at[2] >= 400
        assert [text[:34] for text in logged(caplog, "attempt failed")] == [
            f"attempt failed, again in {delay} s: Lo" for delay in (0.1, 0.2, 0.4)
        ]
        error = letter.pop("error")
        assert letter == {
            "id": job.id, "delivery": 4, "attempt": 4, "task": "fails", "args": ["luck"]
        }  # fmt: skip
        assert (error["reason"], error["type"], error["message"]) == (
            "max_attempts", "LookupError", "no luck"
        )  # fmt: skip
        assert error["consumer"] == name
        # By a consumer's estimate of Redis' clock: for people.
        assert at[3] - 1_000 <= error["failed_at"] <= site.now_ms() + 1_000
        assert 'raise LookupError(f"no {what}")' in error["traceback"]
        assert len(site.raw_letters()) == 1
        assert site.counters() == {"enqueued": 1, "retry": 3, "dead": 1}

    async def test_the_bound_of_one_job_counts_more_than_that_of_its_task(self, site: Site) -> None:
        runs: list[str] = []

        @site.app.task(max_attempts=3, backoff=AT_ONCE)
        def fails(name: str, ctx: Context) -> None:
            runs.append(f"{name} {ctx.attempt}/{ctx.max_attempts}")
            raise OSError

        async with site.consumer(concurrency=1):
            for bound in (1, 5):
                await fails.options(max_attempts=bound).aenqueue(str(bound))  # type: ignore[call-arg]
                await site.died(bound // 5 + 1)
        assert runs == ["1 1/1", "5 1/5", "5 2/5", "5 3/5", "5 4/5", "5 5/5"]

    async def test_a_job_that_succeeds_in_the_end_is_done(self, site: Site) -> None:
        @site.app.task(backoff=AT_ONCE, result_ttl=60)
        async def third_time_lucky(ctx: Context) -> int:
            if ctx.attempt < 3:
                raise OSError
            return ctx.attempt

        async with site.consumer():
            assert await (await site.app.aenqueue("third_time_lucky")).aresult(WAIT_S) == 3
        assert not site.letters()
        assert site.counters() == {"enqueued": 1, "retry": 2, "done": 1}

    async def test_a_retried_job_keeps_its_priority_and_its_id(self, site: Site) -> None:
        runs: list[tuple[str, bytes]] = []

        @site.app.task(backoff=Backoff(base_s=0.01, jitter=False), max_attempts=2)
        async def fails(ctx: Context) -> None:
            runs.append((ctx.job_id, site.state().processing[0]))
            raise OSError

        async with site.consumer():
            job = await fails.options(priority=7).aenqueue()  # type: ignore[call-arg]
            [letter] = await site.died()
        assert [job_id for job_id, _ in runs] == [job.id, job.id]
        assert all(json.loads(raw)["priority"] == 7 for _, raw in runs)
        assert letter["priority"] == 7

    async def test_a_job_that_is_back_before_its_consumer_knows_keeps_its_id(
        self, site: Site
    ) -> None:
        # An idle consumer's move can bring it before the answer to its settle has been read.
        ids: list[str] = []

        @site.app.task(max_attempts=300, backoff=AT_ONCE)
        async def fails(ctx: Context) -> None:
            ids.append(ctx.job_id)
            raise OSError

        async with site.consumer() as one, site.consumer() as two:
            await site.idle(one, two)
            jobs = [await site.app.aenqueue("fails") for _ in range(2)]
            await site.died(2)
        assert [ids.count(job.id) for job in jobs] == [300, 300]
        assert not site.counters().get("renamed")


class TestWishes:
    @pytest.mark.parametrize("kind", ["async", "sync"])
    async def test_a_task_may_say_when_it_wants_to_run_again(self, site: Site, kind: str) -> None:
        at: list[int] = []

        def run() -> None:
            at.append(site.now_ms())
            if len(at) == 1:
                raise Retry("not yet", in_=0.15)

        async def arun() -> None:
            run()

        # An hour's backoff: only the wish brings it back within this test.
        options: Any = {"name": "run", "backoff": Backoff(base_s=3600, max_s=3600, jitter=False)}
        task: Any = site.app.task(**options)(run if kind == "sync" else arun)
        async with site.consumer():
            await task.aenqueue()
            await await_until(lambda: len(at) == 2)
            await site.drained()
        assert at[1] - at[0] >= 150
        assert site.counters() == {"enqueued": 1, "retry": 1, "done": 1}

    @pytest.mark.parametrize("wish", [0, -1.0, float("nan"), float("inf"), None])
    async def test_a_wish_without_meaning_is_no_harm(self, site: Site, wish: float | None) -> None:
        attempts: list[int] = []

        @site.app.task(backoff=AT_ONCE)
        async def again(ctx: Context) -> None:
            attempts.append(ctx.attempt)
            if ctx.attempt == 1:
                raise Retry(in_=wish)

        async with site.consumer():
            await site.app.aenqueue("again")
            await await_until(lambda: attempts == [1, 2])
            await site.drained()

    async def test_wishes_end_with_the_attempts(self, site: Site) -> None:
        @site.app.task(max_attempts=3, retry_on=())
        async def never_content() -> None:
            raise Retry("once more", in_=0)

        async with site.consumer():
            await never_content.aenqueue()
            [letter] = await site.died()
        assert (letter["attempt"], letter["error"]["reason"]) == (3, "max_attempts")
        assert (letter["error"]["type"], letter["error"]["message"]) == ("Retry", "once more")

    async def test_a_rejected_job_is_dead_at_once(self, site: Site) -> None:
        runs: list[int] = []

        @site.app.task(max_attempts=9, backoff=AT_ONCE)
        def refuses() -> None:
            runs.append(1)
            raise Reject("no such customer")

        async with site.consumer():
            await refuses.aenqueue()
            [letter] = await site.died()
        assert runs == [1]
        assert letter["attempt"] == 1
        assert (letter["error"]["reason"], letter["error"]["message"]) == (
            "rejected", "no such customer"
        )  # fmt: skip

    async def test_only_what_is_named_is_tried_again(self, site: Site) -> None:
        runs: list[str] = []

        @site.app.task(
            max_attempts=3, backoff=AT_ONCE, retry_on=(OSError, KeyError), give_up_on=TimeoutError
        )
        def fails(name: str) -> None:
            runs.append(name)
            raise {
                "subclass": ConnectionError, "named": KeyError, "other": ValueError,
                "given up": TimeoutError,
            }[name](name)  # fmt: skip

        async with site.consumer(concurrency=1):
            for name in ("subclass", "named", "other", "given up"):
                await fails.aenqueue(name)
            letters = await site.died(4)
        assert {name: runs.count(name) for name in runs} == {
            "subclass": 3, "named": 3, "other": 1, "given up": 1
        }  # fmt: skip
        assert {letter["args"][0]: letter["error"]["reason"] for letter in letters} == {
            "subclass": "max_attempts", "named": "max_attempts",
            "other": "rejected", "given up": "rejected",
        }  # fmt: skip

    async def test_a_task_whose_own_enqueue_is_refused_has_failed_as_any_other(
        self, site: Site
    ) -> None:
        attempts: list[int] = []

        @site.app.task
        def other(n: int) -> None: ...

        @site.app.task(max_attempts=2, backoff=AT_ONCE)
        async def outer(ctx: Context) -> None:
            attempts.append(ctx.attempt)
            await other.aenqueue()  # type: ignore[call-arg]

        async with site.consumer():
            await site.app.aenqueue("outer")
            [letter] = await site.died()
        assert attempts == [1, 2]
        assert (letter["error"]["reason"], letter["error"]["type"]) == (
            "max_attempts", InvalidArguments.__name__
        )  # fmt: skip


class TestTimeouts:
    async def test_an_async_task_is_cancelled_and_tried_again(self, site: Site) -> None:
        ends: list[str] = []

        @site.app.task(timeout=0.05, max_attempts=2, backoff=AT_ONCE)
        async def slow(ctx: Context) -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                ends.append(f"{ctx.attempt} {ctx.stop_reason}")
                raise

        async with site.consumer():
            await site.app.aenqueue("slow")
            [letter] = await site.died()
        assert ends == ["1 timeout", "2 timeout"]
        assert (letter["attempt"], letter["error"]["reason"]) == (2, "timeout")
        assert letter["error"]["type"] == "TimeoutError"
        assert site.counters() == {"enqueued": 1, "retry": 1, "dead": 1}

    async def test_time_runs_out_also_for_who_lists_what_to_retry(self, site: Site) -> None:
        @site.app.task(timeout=0.05, max_attempts=2, backoff=AT_ONCE, retry_on=KeyError)
        async def slow() -> None:
            await asyncio.Event().wait()

        async with site.consumer():
            await slow.aenqueue()
            [letter] = await site.died()
        assert (letter["attempt"], letter["error"]["reason"]) == (2, "timeout")

    async def test_a_task_may_say_that_time_is_no_matter_of_trying_again(self, site: Site) -> None:
        @site.app.task(timeout=0.05, max_attempts=9, give_up_on=TimeoutError)
        async def slow() -> None:
            await asyncio.Event().wait()

        async with site.consumer():
            await slow.aenqueue()
            [letter] = await site.died()
        assert (letter["attempt"], letter["error"]["type"]) == (1, "TimeoutError")

    async def test_a_sync_task_is_told_and_is_done_when_it_ends_late(
        self, site: Site, caplog: pytest.LogCaptureFixture
    ) -> None:
        reasons: list[str | None] = []

        @site.app.task(timeout=0.05)
        def slow(ctx: Context) -> None:
            wait_until(lambda: ctx.stopping)
            reasons.append(ctx.stop_reason)

        async with site.consumer():
            await site.app.aenqueue("slow")
            await site.drained()
        assert reasons == ["timeout"]
        assert site.counters() == {"enqueued": 1, "done": 1}
        assert logged(caplog, "done, but late")


class TestDropping:
    async def test_a_task_without_dead_letters_leaves_them_in_the_log(
        self, site: Site, caplog: pytest.LogCaptureFixture
    ) -> None:
        @site.app.task(max_attempts=2, backoff=AT_ONCE, dead_letter=False)
        async def fails(what: str) -> None:
            raise LookupError("no luck")

        async with site.consumer():
            job = await fails.aenqueue("precious")
            await await_until(lambda: site.counters().get("drop"))
        assert not site.redis.exists(site.k.dead)
        assert site.counters() == {"enqueued": 1, "retry": 1, "drop": 1}
        [line] = logged(caplog, "dropped")
        assert "LookupError: no luck" in line
        again = wire.join(
            wire.Head(job.id, delivery=1, attempt=1), b',"task":"fails","args":["precious"]}'
        )
        assert repr(again) in line

    async def test_a_call_that_does_not_fit_is_dropped_too(
        self, site: Site, caplog: pytest.LogCaptureFixture
    ) -> None:
        @site.app.task(dead_letter=False)
        async def fussy(n: int) -> None: ...

        async with site.consumer():
            site.push({"task": "fussy", "args": [1, 2, 3]})
            await await_until(lambda: site.counters().get("drop"))
        assert not site.redis.exists(site.k.dead)
        assert '"args":[1, 2, 3]' in logged(caplog, "dropped")[0]


class TestComingBack:
    @WAYS_BACK
    async def test_a_dead_job_that_comes_back_runs_anew(self, site: Site, way: str) -> None:
        runs: list[tuple[str, int, int]] = []
        bad = True

        @site.app.task(max_attempts=2, backoff=AT_ONCE, result_ttl=60)
        async def fragile(what: str, ctx: Context) -> str:
            runs.append((ctx.job_id, ctx.attempt, ctx.delivery))
            if bad:
                raise OSError
            return what

        async with site.consumer():
            job = await site.app.aenqueue("fragile", "vase")
            await site.died()
            for _ in range(2):  # it may die and come back as often as anybody likes
                await bring_back(site, way)
                await await_until(lambda: len(runs) % 2 == 0 and site.redis.llen(site.k.dead))
            bad = False
            site.redis.delete(site.k.result(job.id))
            await bring_back(site, way)
            assert await job.aresult(WAIT_S) == "vase"
            await site.drained()
        assert {job_id for job_id, _, _ in runs} == {job.id}
        assert [attempt for _, attempt, _ in runs] == [1, 2, 1, 2, 1, 2, 1]
        deliveries = [delivery for _, _, delivery in runs]
        assert deliveries == [0, 1, 2, 3, 4, 5, 6]
        assert not site.letters()

    @WAYS_BACK
    async def test_what_comes_back_before_anybody_consumes_runs_anew_too(
        self, site: Site, way: str
    ) -> None:
        runs: list[tuple[str, int, int]] = []

        @site.app.task(max_attempts=3, backoff=AT_ONCE)
        def fragile(name: str, ctx: Context) -> None:
            runs.append((name, ctx.attempt, ctx.delivery))
            if ctx.delivery < 3:
                raise OSError

        async with site.consumer(concurrency=1):
            for name in "abc":
                await site.app.aenqueue("fragile", name)
            letters = await site.died(3)
        await bring_back(site, way)
        runs.clear()
        async with site.consumer(concurrency=1):
            await site.drained()
        expected = [(letter["args"][0], 1, 3) for letter in letters]
        # The oldest goes first when Headrace brings them back; by hand it is as the hand did it.
        assert runs == expected if way == "redrive" else sorted(runs) == sorted(expected)

    @WAYS_BACK
    async def test_a_priority_comes_back_with_its_job(self, site: Site, way: str) -> None:
        bad, runs = True, []

        @site.app.task(max_attempts=1)
        async def fragile(ctx: Context) -> None:
            if bad:
                raise OSError
            # What a plain client has brought back is adopted while its task begins.
            await await_until(lambda: b'"error"' not in site.state().processing[0])
            runs.append(json.loads(site.state().processing[0]))

        async with site.consumer():
            await fragile.options(priority=5).aenqueue()  # type: ignore[call-arg]
            await site.died()
            bad = False
            await bring_back(site, way)
            await await_until(lambda: runs)
            await site.drained()
        assert (runs[0]["priority"], runs[0]["delivery"]) == (5, 1)
        assert "error" not in runs[0]
        assert "attempt" not in runs[0]
