"""Managed servers forbid this and that: all of Headrace works with what the documents say that a user needs."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator

import pytest
from redis import Redis

from headrace import CURRENT, RESULT, Context, Headrace, chain, group
from headrace.doctor import check_up
from headrace.doctor.permissions import HELPFUL
from headrace.duties import DUTIES
from headrace.policy import LeasePolicy
from headrace.retry import Backoff
from headrace.schedules import keep_declared
from headrace.store import Store
from headrace.supervisor.forward import know_forwarding
from tests.support.clusters import Cluster, also_on_a_cluster
from tests.support.consuming import heard, sharing
from tests.support.processes import ROOT
from tests.support.wait import WAIT_S, await_until

pytestmark = also_on_a_cluster

HELPLESS = ("resetchannels", *("-" + name.lower().replace(" ", "|") for name in HELPFUL))


def documented() -> list[str]:
    """Return the rights that the documents say a user needs, of a queue with partitions and on a cluster."""
    operators = (ROOT / "docs" / "operators.md").read_text()
    (line,) = re.findall(r"^ACL SETUSER headrace (.*)$", operators, re.MULTILINE)
    found: list[str] = line.replace("PASSWORD", "secret").split()
    for page in ("cluster.md", "partitions.md"):
        text = (ROOT / "docs" / page).read_text()
        found += re.findall(r"`(~\{?(?:emails|headrace)\S*|\+cluster\|slots|\+asking)`", text)
    return found


@pytest.fixture(name="user_url", params=[(), HELPLESS], ids=["documented", "helpless"])
def _user_url(request: pytest.FixtureRequest, url: str) -> Iterator[str]:
    """Give the URL of a user who may do no more than this."""
    if url.startswith("redis+cluster"):
        cluster: Cluster = request.getfixturevalue("cluster")
        ports = [node.port for node in cluster.nodes]
    else:
        ports = [int(url.rpartition(":")[2].partition("/")[0])]
    for port in ports:
        with Redis(port=port) as redis:
            redis.execute_command("ACL", "SETUSER", "headrace", *documented(), *request.param)
    yield url.replace("//", "//headrace:secret@", 1)
    for port in ports:
        with Redis(port=port) as redis:
            redis.execute_command("ACL", "DELUSER", "headrace")


async def test_everything_works_with_the_rights_that_are_documented(user_url: str) -> None:
    app, ran = Headrace(user_url, queue="emails"), Counter[str]()
    app.partition_queue("emails", 2)
    know_forwarding(app)

    @app.task(result_ttl=60, max_attempts=3, backoff=Backoff(0.01))
    async def work(number: int) -> int:
        ran["work"] += 1
        if number == 1 and ran["once more"] == 0:
            ran["once more"] += 1
            raise ValueError("once more")
        return number

    @app.task(rate_limit="1000/s", concurrency_limit=2)
    async def limited() -> None:
        ran["limited"] += 1

    @app.task(result_ttl=60)
    async def stream(count: int) -> AsyncIterator[int]:
        for number in range(count):
            yield number

    @app.task
    async def hand_on(ctx: Context = CURRENT) -> None:
        ctx.enqueue(note.options(queue="emails@1").call("handed on"))
        ctx.enqueue(note.options(queue="emails").call("handed on"))

    @app.task
    async def note(what: str) -> None:
        ran[what] += 1

    @app.task(result_ttl=60)
    async def total(numbers: list[int]) -> int:
        return sum(numbers)

    @app.task
    async def held() -> None:
        ran["held"] += 1
        await asyncio.Event().wait()

    app.task(name="tick")(lambda: ran.update(["tick"])).every(0.2)
    known = asyncio.create_task(keep_declared(app.producer().astore(), app.declared_schedules()))
    async with sharing(app, "emails", duties=DUTIES):
        jobs = await app.aenqueue_many(work.call(number) for number in range(300))
        assert [await heard(job) for job in jobs[::50]] == list(range(0, 300, 50))
        assert await heard(jobs[1]) == 1  # at its second attempt
        await note.options(delay=0.01).aenqueue("delayed")
        await note.options(priority=5).aenqueue("prioritised")
        unique = [await note.options(key="one", delay=60).aenqueue("unique") for _ in range(2)]
        assert unique[0].id == unique[1].id
        assert await unique[0].acancel()
        await app.aenqueue_many(limited.call() for _ in range(20))
        assert [item async for item in (await stream.aenqueue(3)).stream()] == [0, 1, 2]
        await hand_on.aenqueue()
        flow = await chain(group([work.call(n) for n in range(10)]), total.call(RESULT)).aenqueue()
        assert await flow.aresult(WAIT_S) == 45
        running = await held.aenqueue()
        await await_until(lambda: ran["held"] == 1)
        assert await running.acancel()
        wanted = {"delayed": 1, "prioritised": 1, "limited": 20, "handed on": 2}
        await await_until(lambda: wanted.items() <= ran.items() and ran["tick"] > 1)

        async def cancelled() -> bool:
            return await running.astatus() == "cancelled"

        await await_until(cancelled, "the job that runs hears that it is cancelled")
    known.cancel()
    await app.aclose()


def test_the_doctor_names_what_is_forbidden(user_url: str, request: pytest.FixtureRequest) -> None:
    store = Store(user_url)
    found = store.follow(check_up(["emails"], LeasePolicy(), sample=10))
    store.close()
    assert found.server.refused == (tuple(HELPFUL) if "helpless" in request.node.name else ())
