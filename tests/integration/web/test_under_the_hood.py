"""The page for learners tells the truth: its commands are those that the scripts run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from redis import Redis

from headrace import operations as op
from headrace.clock import now_ms
from headrace.store import AsyncStore
from tests.integration.web.client import K
from tests.support.pages import BROWSER

JOB = b'{"id":"a","task":"t"}'
CLAIM_MS = 60_000


class Heard(list[tuple[str, str]]):
    """Commands and their first keys, as the server ran them."""


@contextmanager
def listening(redis: Redis) -> Iterator[Heard]:
    """Hear each command that the server runs meanwhile."""
    heard = Heard()
    with redis.monitor() as monitor:  # type: ignore[no-untyped-call]
        yield heard
        redis.echo("the end")
        for said in monitor.listen():
            command, _, rest = said["command"].partition(" ")
            if command == "ECHO":
                return
            heard.append((command.upper(), rest.partition(" ")[0]))


async def told(api: httpx.AsyncClient, number: int) -> set[tuple[str, str]]:
    """Return the commands of a step with their first keys, as the page has them."""
    page = await api.get("/under-the-hood/queue", headers=BROWSER)
    step = re.findall(r"<pre[^>]*>(.*?)</pre>", page.text, re.DOTALL)[number - 1]
    lines = [line.split() for line in step.splitlines()]
    assert lines
    return {(command, key) for command, key, *_ in lines}


async def claim(store: AsyncStore, first: int) -> None:
    reply = await store.run(op.claim(K, 1, lease_ms=CLAIM_MS, consumer="c", first=first))
    assert len(reply.jobs) == 1


@pytest.fixture
async def known(store: AsyncStore, redis: Redis) -> Redis:
    await store.run(op.push(K, [JOB]))
    await store.run(op.register("queue"))
    return redis


async def test_enqueue(api: httpx.AsyncClient, store: AsyncStore, redis: Redis) -> None:
    with listening(redis) as heard:
        await store.run(op.push(K, [JOB]))
        await store.run(op.register("queue"))
    assert await told(api, 1) <= {*heard}


async def test_claim(api: httpx.AsyncClient, store: AsyncStore, known: Redis) -> None:
    with listening(known) as heard:
        await claim(store, 1)
    assert await told(api, 2) <= {*heard}


async def test_extend(api: httpx.AsyncClient, store: AsyncStore, known: Redis) -> None:
    await claim(store, 1)
    with listening(known) as heard:
        await store.run(op.extend(K, "c", [("a", 1)], lease_ms=CLAIM_MS))
    assert await told(api, 3) <= {*heard}


@pytest.mark.parametrize(
    ("number", "outcome"),
    [
        (4, op.Outcome("a", 1, "done")),
        (5, op.Outcome("a", 1, "retry", delay_ms=50, job=b'{"id":"a","attempt":1,"task":"t"}')),
        (6, op.Outcome("a", 1, "dead", job=b'{"id":"a","task":"t","error":{}}')),
    ],
    ids=["done", "retry", "dead"],
)
async def test_settle(
    api: httpx.AsyncClient, store: AsyncStore, known: Redis, number: int, outcome: op.Outcome
) -> None:
    await claim(store, 1)
    with listening(known) as heard:
        assert await store.run(op.settle(K, "c", [outcome])) == []
    assert await told(api, number) <= {*heard}


async def test_reclaim(api: httpx.AsyncClient, store: AsyncStore, known: Redis) -> None:
    await claim(store, 1)
    known.zadd(K.leases, {"a": now_ms() - 60_000})
    with listening(known) as heard:
        await store.run(op.reclaim(K, grace_ms=0, gap_ms=1 << 40, max_crashes=3))
    assert await told(api, 7) <= {*heard}
