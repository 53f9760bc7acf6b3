"""Arguments and results by annotations, through a real Redis: foreign producers and misfits, too."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from headrace import InvalidArguments, JobFailed, NoResult, wire
from headrace.doctor import dead_letters
from headrace.wire import Head
from tests.integration.consumer import typed_tasks
from tests.integration.consumer.typed_tasks import Order, Parcel, aship, count, forget, ship
from tests.support.consuming import Site, a_store, lent
from tests.support.wait import WAIT_S

ID = UUID(int=7)
ORDER = Order(ID, Decimal("1.10"))
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
PLAIN = {"id": str(ID), "total": "1.10"}
WAYS_BACK = pytest.mark.parametrize("way", ["redrive", "LMOVE"])


@pytest.fixture
async def typed(site: Site) -> AsyncIterator[Site]:
    """Give the queue of the typed application, and forget it afterwards."""
    async with lent(site, typed_tasks.app):
        yield site


async def test_they_arrive_as_annotated_and_so_do_results(typed: Site) -> None:
    async with typed.consumer():
        job = await ship.aenqueue(ORDER, NOON, ORDER, late=timedelta(hours=1))
        assert await job.aresult(WAIT_S) == Parcel(order=ID, sent=NOON + timedelta(hours=1))
        parcels = await (await aship.aenqueue(ORDER, at=NOON)).aresult(WAIT_S)
        assert parcels == {ID: Parcel(order=ID, sent=NOON)}
        [many] = await typed.app.aenqueue_many([count.call([ORDER, ORDER])])
        assert await many.aresult(WAIT_S) == (2, Decimal("2.20"))
        by_name = await typed.app.aenqueue("count", [ORDER], NOON)
        assert await by_name.aresult(WAIT_S) == (1, Decimal("1.10"))


async def test_a_handle_by_id_gives_plain_json(typed: Site) -> None:
    async with typed.consumer():
        job = await aship.aenqueue(ORDER, NOON)
        await job.aresult(WAIT_S)
        plain = await typed.app.job(job.id).aresult(WAIT_S)
    assert plain == {str(ID): {"order": str(ID), "sent": "2026-01-01T12:00:00Z"}}


async def test_a_suspect_gets_them_in_its_own_process(typed: Site) -> None:
    for task in (ship, aship):
        call = task.call(ORDER, NOON)
        head, body = wire.split(call.job) or (Head(""), b"")
        typed.push(wire.join(Head(head.id, delivery=2, crashes=2), body))
        async with typed.consumer():
            end = await typed.app.job(head.id).aresult(WAIT_S)
        assert str(ID) in str(end)


async def test_any_producer_of_json_reaches_them(typed: Site) -> None:
    typed.push(
        {
            "id": "a",
            "task": "ship",
            "args": [PLAIN, "2026-01-01T12:00:00Z"],
            "kwargs": {"x": "PT1H"},
        },
        b'{"id":"b","task":"count","kwargs":{"orders":[{"id":"%b","total":2}]}}' % str(ID).encode(),
    )
    async with typed.consumer():
        shipped = await typed.app.job("a").aresult(WAIT_S)
        assert shipped == {"order": str(ID), "sent": "2026-01-01T13:00:00Z"}
        assert await typed.app.job("b").aresult(WAIT_S) == [1, "2"]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ({"task": "ship", "args": [PLAIN, "noon"]},
         "argument 'at' of 'ship': Invalid RFC3339 encoded datetime"),
        ({"task": "aship", "kwargs": {"order": {"id": 7}, "at": "2026-01-01T12:00:00Z"}},
         "argument 'order' of 'aship': Expected `uuid`, got `int` - at `order.id`"),
        ({"task": "count", "args": [[PLAIN, {"id": str(ID), "total": "much"}]]},
         "argument 'orders' of 'count': Invalid decimal string - at `orders[1].total`"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("crashes", [0, 2])
async def test_what_does_not_fit_is_dead_at_once_whole_and_named(
    typed: Site, call: dict[str, Any], said: str, crashes: int
) -> None:
    typed.push({"id": "x"} | ({"delivery": 2, "crashes": 2} if crashes else {}) | call)
    async with typed.consumer():
        [letter] = await typed.died()
        with pytest.raises(JobFailed, match="invalid_arguments"):
            await typed.app.job("x").aresult(WAIT_S)
    assert letter["error"]["reason"] == "invalid_arguments"
    assert letter["error"]["message"] == said
    assert letter["attempt"] == 1
    assert call.items() <= letter.items()


@WAYS_BACK
async def test_a_misfit_is_done_when_the_program_is_mended_and_it_is_redriven(
    typed: Site, way: str, site: Site
) -> None:
    typed.push({"id": "x", "task": "price", "args": [PLAIN]})

    def older(order: UUID) -> None: ...

    def newer(order: Order) -> Decimal:
        return order.total

    old, new = site.another_app(result_ttl=60), site.another_app(result_ttl=60)
    old.task(name="price")(older)
    new.task(name="price")(newer)
    async with typed.consumer(old):
        [letter] = await typed.died()
        assert (
            letter["error"]["message"]
            == "argument 'order' of 'price': Expected `uuid`, got `object`"
        )
    if way == "redrive":
        async with a_store(site.url) as store:
            assert await store.follow(dead_letters.redrive(site.k, lambda _: True, print)) == 1
    else:
        site.redis.lmove(site.k.dead, site.k.pending, "LEFT", "RIGHT")
    async with typed.consumer(new):
        await typed.drained()
        assert await new.job("x").aresult(WAIT_S) == "1.10"


async def test_a_task_that_calls_another_wrongly_is_tried_again_as_for_any_error(
    site: Site,
) -> None:
    @site.app.task(max_attempts=1)
    async def outer() -> None:
        ship.call("x", NOON)  # type: ignore[arg-type]

    async with site.consumer():
        await outer.aenqueue()
        [letter] = await site.died()
    assert letter["error"]["reason"] == "max_attempts"
    assert letter["error"]["type"] == InvalidArguments.__name__


async def test_a_result_that_does_not_fit_is_not_kept_and_the_job_is_done(typed: Site) -> None:
    async with typed.consumer():
        job = await forget.aenqueue(ORDER)
        with pytest.raises(NoResult, match=r"its result is not told: sent: Field required"):
            await job.aresult(WAIT_S)
    assert typed.counters()["done"] == 1


async def test_a_name_that_is_known_to_type_checkers_alone_is_warned_of_once(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[Any] = []

    def take(order: Nowhere, at: datetime) -> None:  # type: ignore[name-defined] # noqa: F821
        seen.append((order, at))

    task = site.app.task(take)
    site.push(*({"task": "take", "args": [PLAIN, "2026-01-01T12:00:00Z"]} for _ in range(3)))
    with caplog.at_level(logging.WARNING, "headrace.conversion"):
        async with site.consumer():
            await site.drained()
    assert seen == [(PLAIN, NOON)] * 3
    assert sum("'Nowhere' is not defined" in said for said in caplog.messages) == 1
    assert task.name == "take"
