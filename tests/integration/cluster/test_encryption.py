"""Encrypted jobs on a cluster: run on every node, handed on between nodes, moved there and away, edited."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from redis import Redis

from headrace import (
    CURRENT,
    RESULT,
    Context,
    Encryption,
    Headrace,
    JobFailed,
    chain,
    group,
)
from headrace import operations as op
from headrace.keys import keys_of
from headrace.retry import Backoff
from headrace.store import AsyncStore
from headrace.supervisor.forward import know_forwarding
from tests.integration.consumer.test_encryption import everything
from tests.support.clusters import Cluster
from tests.support.consuming import consuming
from tests.support.processes import ROOT, clean_environment
from tests.support.serving import served
from tests.support.wait import WAIT_S, await_until

ALL = "emails,reports,images,billing"
SECRET = "4111-secret-1111"
KEY = Encryption.generate_key()
KEYS = Encryption([KEY])
FORM = {"sec-fetch-site": "same-origin"}


def seen_on(cluster: Cluster) -> bytes:
    """Give all that stands on the primaries."""
    text = b""
    for node in cluster.primaries():
        with Redis(port=node.port, protocol=2) as client:
            text += everything(client)
    return text


@pytest.fixture(name="sealed")
def _sealed(cluster: Cluster) -> Iterator[Headrace]:
    """Give an application with keys on a cluster, on which nothing of the secret stands in the end."""
    app = Headrace(cluster.url, queue="emails", encryption=KEYS)
    know_forwarding(app)
    yield app
    assert SECRET.encode() not in seen_on(cluster)


async def test_encrypted_jobs_run_on_every_node_and_hand_on_to_others(
    sealed: Headrace, cluster: Cluster
) -> None:
    ran, failed = dict[str, str](), list[int]()

    @sealed.task(result_ttl=60, max_attempts=2, backoff=Backoff(base_s=0))
    async def pay(card: str, where: str, ctx: Context = CURRENT) -> str:
        assert card == SECRET
        if not failed:
            failed.append(1)
            raise OSError(card)
        ran[ctx.job_id] = where
        if where == "first":
            for queue in ALL.split(","):
                ctx.enqueue(pay.options(queue=queue).call(card, queue))
        return f"paid {card}"

    first = await pay.aenqueue(SECRET, "first")
    later = await pay.options(queue="images", delay=0.1).aenqueue(SECRET, "later")
    urgent = await pay.options(queue="billing", priority=3).aenqueue(SECRET, "urgent")
    text = seen_on(cluster)
    assert text.count(b"$encrypted") >= 3
    assert SECRET.encode() not in text
    async with consuming(sealed, ALL):
        for job in (first, later, urgent):
            assert await job.aresult(timeout=WAIT_S) == f"paid {SECRET}"
        await await_until(lambda: len(ran) == 7, "all that was handed on has run")
        assert SECRET.encode() not in seen_on(cluster)
    assert sorted(ran.values()) == sorted([*ALL.split(","), "first", "later", "urgent"])
    await sealed.aclose()


async def test_encrypted_workflows_hand_results_on_between_nodes(
    sealed: Headrace, cluster: Cluster
) -> None:
    queues = ALL.split(",")

    @sealed.task
    async def pay(card: str, n: int) -> str:
        return f"{n} {card}"

    @sealed.task
    async def joined(texts: list[str], options: dict[str, str]) -> str:
        return ", ".join(texts) + str(options)

    @sealed.task(encrypted=False)
    async def length(text: str) -> int:
        return len(text)

    spread = [pay.options(queue=queues[n % 4]).call(SECRET, n) for n in range(8)]
    whole = ", ".join(f"{n} {SECRET}" for n in range(8)) + str({"card": SECRET})
    join = joined.options(queue="billing").call(RESULT, {"card": SECRET})
    async with consuming(sealed, ALL):
        flow = await chain(group(spread), join).aenqueue()
        assert await flow.aresult(timeout=WAIT_S) == whole
        measured = await chain(
            group([pay.options(queue=queues[n % 4]).call(SECRET, n) for n in range(8)]),
            joined.options(queue="reports").call(RESULT, {"card": SECRET}),
            length.options(queue="images").call(RESULT),
        ).aenqueue()
        assert await measured.aresult(timeout=WAIT_S) == len(whole)
        assert SECRET.encode() not in seen_on(cluster)
    await sealed.aclose()


@pytest.mark.parametrize("to", ["cluster", "server"])
async def test_encrypted_jobs_move_to_a_cluster_and_away_and_run_there(
    cluster: Cluster, url: str, to: str
) -> None:
    source, target = (url, cluster.url) if to == "cluster" else (cluster.url, url)

    async def pay(card: str) -> str:
        assert card == SECRET
        if not works:
            raise OSError(card)
        return f"paid {card}"

    works = list[int]()
    here, there = (Headrace(one, queue="emails", encryption=KEYS) for one in (source, target))
    for app in (here, there):
        app.task(name="pay", result_ttl=60, max_attempts=1)(pay)
    task = here.tasks["pay"]
    dead = await task.aenqueue(SECRET)
    async with consuming(here, "emails"):
        with pytest.raises(JobFailed):
            await dead.aresult(timeout=WAIT_S)
    jobs = [
        await task.aenqueue(SECRET),
        await task.options(priority=5).aenqueue(SECRET),
        await task.options(delay=0.5, key="one").aenqueue(SECRET),
    ]
    # Whoever moves a queue has no keys.
    moved = subprocess.run(
        [sys.executable, "-m", "headrace", "move", "emails", "--url", source, "--to", target],
        env=clean_environment(), cwd=ROOT, capture_output=True, text=True, timeout=WAIT_S,
    )  # fmt: skip
    assert (moved.returncode, moved.stderr) == (0, "")
    assert "4 jobs moved" in moved.stdout
    works.append(1)
    with Redis.from_url(url) as client:
        for text in (everything(client), seen_on(cluster)):
            assert SECRET.encode() not in text
    store = AsyncStore(target)
    (letter,) = await store.run(op.command("LRANGE", keys_of("emails").dead, 0, -1, parse=list))
    assert await store.run(op.redrive(keys_of("emails"), [(letter, letter)])) == 1
    async with consuming(there, "emails"):
        for job in (*jobs, dead):
            again = there.job(job.id)
            assert await again.aresult(timeout=WAIT_S) == f"paid {SECRET}"
    for closing in (store.close(), here.aclose(), there.aclose()):
        await closing


async def test_an_edited_dead_letter_on_a_cluster_is_encrypted_anew(
    sealed: Headrace, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    @sealed.task(result_ttl=60, max_attempts=1)
    async def pay(card: str) -> str:
        if card != SECRET:
            raise OSError(card)
        return f"paid {card}"

    job = await pay.aenqueue("4242")
    async with consuming(sealed, "emails"):
        with pytest.raises(JobFailed):
            await job.aresult(timeout=WAIT_S)
    monkeypatch.setenv("HEADRACE_ENCRYPTION_KEYS", KEY)
    async with served(cluster.url) as (client, _):
        path = f"/api/v1/dead-letters/{job.id}/redrive?queue=emails"
        answer = await client.post(path, json={"kwargs": {"card": SECRET}}, headers=FORM)
        assert answer.json()["count"] == 1, answer.text
    assert SECRET.encode() not in seen_on(cluster)
    async with consuming(sealed, "emails"):
        assert await sealed.job(job.id).aresult(timeout=WAIT_S) == f"paid {SECRET}"
    await sealed.aclose()
