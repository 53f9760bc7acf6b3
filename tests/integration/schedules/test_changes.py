"""Schedules are created, changed, paused and removed while everything runs; code declares them."""

from __future__ import annotations

import asyncio

import pytest

from headrace import Headrace, Tasks
from headrace.errors import InvalidArguments, InvalidSetting
from headrace.keys import SCHEDULE_STATE, SCHEDULES
from headrace.schedules import changes, keep_declared
from headrace.schedules.timing import Every, cron
from headrace.store import AsyncStore
from tests.integration.schedules.conftest import HOUR_MS, Bench
from tests.support.wait import await_until


def test_schedules_are_added_listed_paused_resumed_and_removed(url: str) -> None:
    app = Headrace(url)
    assert (
        app.schedules.add("s", app.call("tick", 1), cron="30 2 * * *", timezone="Asia/Tokyo")
        is False
    )
    (found,) = app.schedules.list()
    assert (found.name, found.task, found.queue) == ("s", "tick", "queue")
    assert found.when == "cron 30 2 * * * in Asia/Tokyo"
    assert found.next_at is not None
    assert [at.hour for at in found.ticks(3)] == [17, 17, 17]
    assert app.schedules.pause("s")
    assert not app.schedules.pause("s")
    (paused,) = app.schedules.list()
    assert paused.paused
    assert paused.next_at is None
    assert not paused.broken
    assert app.schedules.resume("s")
    assert not app.schedules.resume("s")
    assert app.schedules.list() == [found]
    assert app.schedules.remove("s")
    assert not app.schedules.remove("s")
    assert app.schedules.list() == []
    app.close()


async def test_each_has_an_awaited_twin(url: str) -> None:
    app = Headrace(url)
    assert not await app.schedules.aadd("s", app.call("tick"), every=30)
    assert await app.schedules.aadd("s", app.call("tick"), every=60, replace=True)
    assert await app.schedules.apause("s")
    assert await app.schedules.aresume("s")
    (found,) = await app.schedules.alist()
    assert found.when == "every 60 s"
    assert await app.schedules.aremove("s")
    await app.aclose()


def test_what_has_no_meaning_is_refused(url: str) -> None:
    app = Headrace(url)
    call = app.call("tick")
    app.schedules.add("s", call, every=30)
    with pytest.raises(InvalidSetting, match="already"):
        app.schedules.add("s", call, every=30)
    with pytest.raises(InvalidSetting, match="either"):
        app.schedules.add("t", call)
    with pytest.raises(InvalidSetting, match="white space"):
        app.schedules.add("a b", call, every=30)
    with pytest.raises(InvalidSetting, match="missed"):
        app.schedules.add("t", call, every=30, missed="some")  # type: ignore[arg-type]
    for option in ("delay", "expires"):
        wrong = app.call_with("tick", (), {}, {option: 5})  # type: ignore[misc]
        with pytest.raises(InvalidSetting, match="leave out"):
            app.schedules.add("t", wrong, every=30)
    with pytest.raises(InvalidSetting, match="limit"):
        app.schedules.add("t", app.call("tick", "x" * 70_000), every=30)
    with pytest.raises(InvalidSetting, match="no schedule"):
        app.schedules.pause("t")
    with pytest.raises(InvalidSetting, match="no schedule"):
        app.schedules.resume("t")
    app.close()


async def test_a_change_that_leaves_the_time_leaves_the_next_tick(bench: Bench) -> None:
    await bench.add()
    (due,) = await bench.time_passes(HOUR_MS)
    await bench.add(missed="all")
    assert bench.next_ms() == due
    await bench.add(cron("@yearly"))
    assert bench.next_ms() != due


async def test_ticks_while_it_is_paused_are_not_missed(bench: Bench) -> None:
    await bench.add(Every(100), missed="all")
    await bench.store.follow(changes.pause("s"))
    assert not await bench.turn()
    before = await bench.now_ms()
    await bench.store.follow(changes.resume("s"))
    assert (bench.next_ms() or 0) > before
    assert "missed" not in bench.state()


async def test_two_who_change_one_at_a_time_both_succeed(bench: Bench) -> None:
    adds = [
        bench.store.follow(changes.add("s", bench.definition(Every(n * 1000)), replace=True))
        for n in range(1, 4)
    ]
    await asyncio.gather(*adds)
    (found,) = await bench.store.follow(changes.all_schedules())
    assert not found.broken


async def declare(bench: Bench, app: Headrace, *, replace: bool = True) -> None:
    await bench.store.follow(changes.declare(app.declared_schedules(), replace=replace))


def declaring(bench: Bench, period: float) -> Headrace:
    app = Headrace(bench.store.url)

    @app.every(period)
    @app.task
    def beat() -> None: ...

    return app


async def test_code_wins_over_what_is_stored_when_its_application_starts(bench: Bench) -> None:
    await declare(bench, declaring(bench, 60))
    await bench.store.follow(changes.pause("beat"))
    await declare(bench, declaring(bench, 90))
    (found,) = await bench.store.follow(changes.all_schedules())
    assert found.when == "every 90 s"
    assert found.paused  # an operator has said so


async def test_two_versions_side_by_side_do_not_take_turns(bench: Bench) -> None:
    old, new = declaring(bench, 60), declaring(bench, 90)
    await declare(bench, old)
    await declare(bench, new)
    for app in (old, new, old):
        await declare(bench, app, replace=False)  # what a running one says every half a minute
    (found,) = await bench.store.follow(changes.all_schedules())
    assert found.when == "every 90 s"


async def test_what_is_gone_is_put_back_by_a_running_application(bench: Bench) -> None:
    app = declaring(bench, 60)
    await declare(bench, app)
    bench.redis.flushall()
    await declare(bench, app, replace=False)
    (found,) = await bench.store.follow(changes.all_schedules())
    assert found.when == "every 60 s"


async def test_one_that_no_application_declares_any_more_is_told(bench: Bench) -> None:
    await declare(bench, declaring(bench, 60))
    (found,) = await bench.store.follow(changes.all_schedules())
    assert found.declared
    assert not found.undeclared
    bench.redis.hset(SCHEDULE_STATE, "beat", b'{"declared_at":1}')
    (found,) = await bench.store.follow(changes.all_schedules())
    assert found.undeclared


async def test_a_consumer_makes_known_what_its_application_declares(bench: Bench) -> None:
    app = declaring(bench, 60)
    store = AsyncStore(bench.store.url)
    keeping = asyncio.create_task(keep_declared(store, app.declared_schedules()))
    await await_until(lambda: "declared_at" in bench.state("beat"), what="it is declared")
    keeping.cancel()
    await asyncio.wait([keeping])
    await store.close()
    assert bench.redis.hget(SCHEDULES, "beat") == (
        b'{"queue":"queue","job":{"task":"beat"},"every_ms":60000,"declared":true}'
    )


def test_tasks_of_a_library_bring_their_schedules() -> None:
    library = Tasks()

    @library.cron("@daily", timezone="Europe/Berlin")
    async def clean() -> None: ...

    app = Headrace(queue="shop")
    other = Headrace(queue="other")
    app.include(library)
    other.include(library)
    assert app.declared_schedules()["clean"].queue == "shop"
    assert other.declared_schedules()["clean"].queue == "other"


def test_a_wrong_declaration_is_refused_where_it_stands() -> None:
    app = Headrace()

    @app.task
    def greet(name: str) -> None: ...

    with pytest.raises(InvalidArguments):
        app.every(30)(greet)
    with pytest.raises(InvalidSetting, match="cron expression"):
        app.cron("every day")(greet)
    greet.every(30, args=("Ada",))
    with pytest.raises(InvalidSetting, match="give this one name="):
        greet.every(60, args=("Ada",))
    greet.options(priority=5, queue="vip").cron("@daily", kwargs={"name": "Bo"}, name="bo")
    declared = app.declared_schedules()
    assert (declared["bo"].priority, declared["bo"].queue) == (5, "vip")
    assert b'"priority":5' in declared["bo"].job_of("bo", 1)

    @app.task
    def other() -> None: ...

    other.every(5, name="bo")
    with pytest.raises(InvalidSetting, match="two schedules"):
        app.declared_schedules()
