"""On a cluster each request finds its node, also when a slot is elsewhere than it was."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from headrace import ClusterUnsupported, InvalidSetting, StoreRefused, StoreUnavailable
from headrace import operations as op
from headrace.doctor import permissions
from headrace.embedded.cluster import ClusterNode
from headrace.errors import StoreUnsuitable
from headrace.keys import keys_of
from headrace.settings import group_of, redis_url
from headrace.store import AsyncStore, Channel, Store, probe
from tests.integration.transitions.driver import job
from tests.support.clusters import Cluster, running_cluster
from tests.support.wait import WAIT_S, await_until

QUEUES = ("emails", "reports", "images", "billing", "search", "audit")
"""Some of these are on each of three primaries."""


@pytest.fixture
def store(cluster: Cluster) -> Iterator[Store]:
    store = Store(cluster.url)
    yield store
    store.close()


@pytest.fixture
async def astore(cluster: Cluster) -> AsyncIterator[AsyncStore]:
    store = AsyncStore(cluster.url)
    yield store
    await store.close()


def other_than(cluster: Cluster, queue: str) -> ClusterNode:
    return next(node for node in cluster.primaries() if node is not cluster.primary_of(queue))


async def test_the_queues_of_one_round_trip_are_on_several_nodes(
    cluster: Cluster, store: Store, astore: AsyncStore
) -> None:
    assert len({cluster.primary_of(queue).port for queue in QUEUES}) == 3
    ks = [keys_of(queue) for queue in QUEUES]
    store.run_all([op.enqueue(k, [job(k.queue)]) for k in ks])
    claims = [op.claim(k, 1, lease_ms=60_000, consumer="c", first=1) for k in ks]
    assert [reply.jobs for reply in await astore.run_all(claims)] == [[job(k.queue)] for k in ks]


def test_what_asks_about_many_queues_is_answered_in_their_order(store: Store) -> None:
    ks = [keys_of(queue) for queue in QUEUES]
    for n, k in enumerate(ks, 1):
        store.run(op.enqueue(k, [job(str(i)) for i in range(n)]))
        store.run(op.register(k.queue))
    ((snapshots,),) = [op.unfailed(store.run_all(op.snapshots(ks)))]
    assert [(one.queue, one.pending) for one in snapshots] == [
        (k.queue, n) for n, k in enumerate(ks, 1)
    ]
    assert store.run(op.queues()) == sorted(QUEUES)
    assert store.run(op.are_prioritised(ks)) is False
    assert store.run(op.count_astir(ks)) == 0
    store.run(op.enqueue(ks[-1], [job("p", priority=1)]))
    assert store.run(op.are_prioritised(ks)) is True


def test_the_connections_of_all_nodes_are_listed(cluster: Cluster) -> None:
    store = Store(cluster.url, name="headrace:somebody")
    store.run_all([op.register("x"), *(op.is_paused(keys_of(queue)) for queue in QUEUES)])
    names, count = store.run(op.connected())
    assert "somebody" in names
    assert count >= 3
    store.close()


def test_keys_stand_in_braces_there_as_redis_cli_would_name_them(
    cluster: Cluster, store: Store
) -> None:
    store.run(op.enqueue(keys_of("emails"), [job("a")]))
    with cluster.client_of("emails") as client:
        assert client.brpoplpush("{emails}", "{emails}:processing", 1) == job("a")
        assert client.lrem("{emails}:processing", 1, job("a").decode()) == 1
        assert set(client.keys("*emails*")) == {b"{emails}:stats"}


@pytest.mark.parametrize("look", ["once", "again"])
async def test_a_slot_that_has_moved_is_found(
    cluster: Cluster, store: Store, astore: AsyncStore, look: str
) -> None:
    k = keys_of("emails")
    for _ in range(3):
        store.run(op.enqueue(k, [job("a")]))
        await astore.run(op.enqueue(k, [job("b")]))
        cluster.move_slot("emails", other_than(cluster, "emails"))
        reply = store.run(op.claim(k, 2, lease_ms=60_000, consumer="c", first=1))
        assert reply.jobs == [job("a"), job("b")]
        outcomes = [op.Outcome(name, n, "done") for n, name in enumerate("ab", 1)]
        if look == "again":
            assert not await astore.run(op.is_paused(k))
        assert await astore.run(op.settle(k, "c", outcomes)) == []


async def test_a_slot_on_its_way_is_served_by_the_one_or_the_other(
    cluster: Cluster, store: Store, astore: AsyncStore
) -> None:
    k = keys_of("emails")
    store.run(op.push(k, [job("a")]))
    enqueued: list[op.Enqueued] = []

    def midway() -> None:
        # Its keys are there still, and new ones would be at the other node: a script that names both
        # is asked to try again, until all have moved.
        thread.start()
        while not thread.is_alive():
            pass

    def enqueue() -> None:
        own = Store(cluster.url)
        enqueued.append(own.run(op.enqueue(k, [job("b", priority=1)])))
        own.close()

    thread = threading.Thread(target=enqueue)
    to = other_than(cluster, "emails")
    await asyncio.to_thread(cluster.move_slot, "emails", to, midway=midway)
    await asyncio.to_thread(thread.join)
    assert [one.word for one in enqueued] == ["ok"]
    reply = await astore.run(op.claim(k, 9, lease_ms=60_000, consumer="c", first=1))
    assert reply.jobs == [job("b", priority=1), job("a")]


async def test_whoever_is_blocked_hears_that_its_slot_moves(
    cluster: Cluster, store: Store, astore: AsyncStore
) -> None:
    k = keys_of("emails")
    channel = Channel(astore, "test")
    moving = asyncio.create_task(channel.run(op.blocking_move(k, WAIT_S)))
    with cluster.client_of("emails") as client:
        await await_until(lambda: client.info("clients")["blocked_clients"] == 1)
    await asyncio.to_thread(cluster.move_slot, "emails", other_than(cluster, "emails"))
    with pytest.raises(StoreRefused, match="is at .* now"):
        await moving
    moving = asyncio.create_task(channel.run(op.blocking_move(k, WAIT_S)))
    store.run(op.enqueue(k, [job("a")]))
    assert await moving == job("a")
    await channel.close()


async def test_a_cluster_that_is_down_is_away_and_no_lasting_error(
    tmp_path: Path,
) -> None:
    k = keys_of("emails")
    with running_cluster(tmp_path, primaries=3, replicas=0) as cluster:
        store, astore = Store(cluster.url), AsyncStore(cluster.url)
        assert store.run(op.is_paused(k)) is False
        channel = Channel(astore, "test")
        assert await channel.run(op.is_paused(k)) is False
        next(
            node for node in cluster.primaries() if node is not cluster.primary_of("emails")
        ).kill()

        def down() -> bool:
            info = cluster.primary_of("emails").says("CLUSTER", "INFO")
            return info["cluster_state"].strip() == "fail"

        await await_until(down, "the others know that it is dead")
        with pytest.raises(StoreUnavailable, match="The cluster is down") as caught:
            store.run(op.is_paused(k))
        assert not caught.value.lasting
        with pytest.raises(StoreUnavailable, match="The cluster is down"):
            await channel.run(op.is_paused(k))
        await channel.close()
        await astore.close()
        store.close()


def test_keys_of_several_queues_in_one_step_are_refused(store: Store) -> None:
    both = op.run("register", (keys_of("emails").meta, keys_of("reports").meta), ("x",), int)
    answers = store.run_all([both, op.register("there")])
    assert isinstance(answers[0], ClusterUnsupported)
    assert answers[1] == 1


def test_a_user_with_the_least_rights_can_work(cluster: Cluster) -> None:
    page = (Path(__file__).parents[3] / "docs" / "operators.md").read_text("utf-8")
    (line,) = re.findall(r"^ACL SETUSER headrace on >PASSWORD (.*)$", page, re.MULTILINE)
    rights = line.replace("~emails ~emails:* ~headrace:*", "~{emails}* ~{headrace}*").split()
    for node in cluster.nodes:
        node.ask("ACL", "SETUSER", "least", "on", ">word", *rights, "+cluster|slots", "+asking")
    k, store = keys_of("emails"), Store(cluster.url.replace("//", "//least:word@"))
    try:
        store.run(op.enqueue(k, [job("a")]))
        store.run(op.register("emails"))
        cluster.move_slot("emails", other_than(cluster, "emails"))
        assert store.run(op.claim(k, 1, lease_ms=60_000, consumer="c", first=1)).jobs == [job("a")]
        assert store.follow(permissions.refused(k)) == ()
    finally:
        store.close()
        for node in cluster.nodes:
            node.ask("ACL", "DELUSER", "least")


def test_without_any_node_it_is_said_where_was_asked() -> None:
    url = "redis+cluster://user:s3cret@127.0.0.1:1,127.0.0.1:2"
    with pytest.raises(StoreUnavailable, match=r"127.0.0.1:1,127.0.0.1:2.*refused") as caught:
        Store(url).run(op.queues())
    assert "s3cret" not in str(caught.value)
    with pytest.raises(StoreUnavailable, match="refused"):
        probe(url)


def test_one_server_is_no_cluster(url: str) -> None:
    wrong = url.replace("redis://", "redis+cluster://")
    with pytest.raises(StoreUnsuitable, match="for one server redis://"):
        Store(wrong).run(op.queues())
    with pytest.raises(StoreUnsuitable, match="write redis://"):
        probe(wrong)


def test_a_node_is_no_server_and_it_is_said_what_to_write(cluster: Cluster) -> None:
    url = f"redis://127.0.0.1:{cluster.nodes[0].port}"
    with pytest.raises(ClusterUnsupported, match=r"redis\+cluster://"):
        probe(url)


@pytest.mark.parametrize(
    "url",
    [
        "redis+cluster://",
        "redis+cluster://host:x",
        "redis+cluster://host/1",
        "redis+cluster://a,,b",
    ],
)
def test_a_url_that_names_no_cluster_is_refused(url: str) -> None:
    with pytest.raises(InvalidSetting, match="redis\\+cluster://host1:6379|is not a URL"):
        redis_url(url)


def test_its_url_is_read() -> None:
    group = group_of("rediss+cluster://user:word@a,b:7000/?ssl_cert_reqs=none")
    assert group is not None
    assert (group.kind, group.hosts) == ("cluster", (("a", 6379), ("b", 7000)))
    assert group.server_url == "rediss://user:word@/?ssl_cert_reqs=none"
