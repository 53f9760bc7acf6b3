"""A queue moves to another Redis: each job once, to the place where it was, whoever dies on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from headrace import lanes, moving
from headrace import operations as op
from headrace.embedded import EmbeddedServer
from headrace.errors import HeadraceError, InvalidSetting, ReplyLost, StoreError, StoreUnavailable
from headrace.keys import WORKFLOWS
from headrace.lanes import lane_keys
from headrace.lanes.limit import Limit
from headrace.moving import Move, requests
from headrace.operations import Unique
from headrace.store import Store
from tests.integration.transitions.driver import Driver, again, job
from tests.support.clusters import Cluster

A, B, C, D, E, F = map(job, "abcdef")
URGENT = job("urgent", priority=5)
FAR_MS = 1 << 42  # in the year 2109


pytestmark = pytest.mark.parametrize(
    ("url", "there"),
    [("server", "server"), ("server", "cluster"), ("cluster", "server")],
    indirect=True,
)


@contextmanager
def elsewhere(url: str, client: Redis) -> Iterator[Driver]:
    """Give the queue on another Redis."""
    with closing(client), closing(Store(url, name="test")) as store:
        yield Driver(store, client)


@contextmanager
def another_database(url: str) -> Iterator[Driver]:
    """Give the queue in another database of the same server, which is another Redis for all that we do."""
    other = f"{url.removesuffix('/0')}/1"
    with elsewhere(other, Redis.from_url(other)) as driver:
        yield driver


@pytest.fixture
def there(request: pytest.FixtureRequest, server: EmbeddedServer) -> Iterator[Driver]:
    if request.param == "server":
        with another_database(server.url) as driver:
            yield driver
    else:
        cluster: Cluster = request.getfixturevalue("cluster")
        with elsewhere(cluster.url, cluster.placed_client_of("queue")) as driver:
            yield driver


def fill(queue: Driver) -> None:
    """Put jobs into every place where they wait, and one with a consumer."""
    queue.enqueue(job("running"))
    queue.claim()
    queue.enqueue(A, B, C)
    queue.enqueue(URGENT)
    queue.enqueue(D, due=f"@{FAR_MS}")
    queue.store.run(lanes.operations.enqueue(queue.k, [("send/x", E), ("send/y", F)]))
    queue.redis.lpush(queue.k.dead, job("older"), job("newer"))
    queue.foreign += 2


WAITING = {"pending": 3, "priority": 1, "delayed": 1, "limited": 2, "dead": 2}


def carry_out(one: Move) -> Counter[str]:
    one.prepare()
    while one.step():
        pass
    return one.moved


def move_all(queue: Driver, there: Driver) -> Counter[str]:
    queue.store.run(op.register(queue.k.queue))
    return carry_out(Move("queue", queue.store, there.store))


def empty(*queues: Driver) -> None:
    for one in queues:
        one.redis.flushdb()
        one.foreign = 0


def wire_id(job: bytes) -> str:
    return job.split(b'"', 4)[3].decode()


def claimed(queue: Driver) -> list[bytes]:
    return queue.claim(100)


def test_every_place_moves_and_keeps_its_order(queue: Driver, there: Driver) -> None:
    fill(queue)
    assert move_all(queue, there) == WAITING
    left = queue.check()
    assert {place: len(jobs) for place, jobs in left.places.items() if jobs} == {"processing": 1}
    came = there.check()
    assert came.dead == [job("newer"), job("older")]
    assert came.delayed == [(D, FAR_MS)]
    taken = claimed(there)
    assert taken[0] == URGENT
    assert [one for one in taken if one in (A, B, C)] == [A, B, C]
    assert {wire_id(one) for one in taken} == {"urgent", "a", "b", "c", "e", "f"}


def test_both_sums_are_right(queue: Driver, there: Driver) -> None:
    fill(queue)
    move_all(queue, there)
    here, away = queue.snapshot(), there.snapshot()
    assert (here.counters["moved"], here.foreign) == (9, 2)
    assert (away.counters["enqueued"], away.foreign) == (9, 0)


def test_jobs_let_out_of_a_lane_wait_in_it_there_and_free_their_slots_here(
    queue: Driver, there: Driver
) -> None:
    one = {"send": str(Limit(concurrency=1))}
    for operation in lanes.operations.declaration(queue.k, one):
        queue.store.run(operation)
    queue.store.run(lanes.operations.enqueue(queue.k, [("send/", A), ("send/", B), ("send/", C)]))
    own = lane_keys(queue.k)
    assert queue.redis.zcard(own.slots) == 1
    assert move_all(queue, there) == {"limited": 3}
    assert not queue.redis.exists(own.slots, own.admitted, own.lanes)
    assert there.store.run(lanes.operations.limits(there.k)) == one
    (first,) = claimed(there)  # one at once, there too
    assert wire_id(first) == "a"


def test_a_limit_that_is_set_there_stays(queue: Driver, there: Driver) -> None:
    here, set_there = str(Limit(concurrency=1)), str(Limit(concurrency=7))
    queue.store.run(lanes.operations.declare(queue.k, {"send": here, "tidy": here}))
    there.store.run(lanes.operations.declare(there.k, {"send": set_there}))
    move_all(queue, there)
    found = there.store.run(lanes.operations.limits(there.k))
    assert found == {"send": set_there, "tidy": here}


def test_a_paused_queue_arrives_paused(queue: Driver, there: Driver) -> None:
    queue.enqueue(A)
    queue.pause()
    move_all(queue, there)
    assert claimed(there) == []
    assert there.snapshot().paused


def test_a_key_goes_with_its_job(queue: Driver, there: Driver) -> None:
    keyed = job("a", key="k")
    queue.enqueue(keyed, unique=Unique("k", "a", 0))
    move_all(queue, there)
    assert not queue.redis.exists(queue.k.unique("k"))
    assert there.enqueue(job("b", key="k"), unique=Unique("k", "b", 0)).existing_id == "a"
    there.claim()
    there.settle(keyed, "done")
    assert there.enqueue(job("b", key="k"), unique=Unique("k", "b", 0)).word == "ok"


def test_a_key_that_another_job_has_there_stays_its(queue: Driver, there: Driver) -> None:
    queue.enqueue(job("a", key="k"), unique=Unique("k", "a", 0))
    there.enqueue(job("b", key="k"), unique=Unique("k", "b", 0))
    move_all(queue, there)
    assert there.redis.get(there.k.unique("k")) == b"b"
    assert len(claimed(there)) == 2


def test_a_job_that_goes_back_from_its_consumer_is_moved_then(queue: Driver, there: Driver) -> None:
    (held,) = queue.hold(A)
    assert move_all(queue, there) == {}
    queue.settle(held, "retry", job=again(A))
    assert move_all(queue, there) == {"pending": 1}
    assert claimed(there) == [again(A)]


def test_a_delayed_job_that_is_due_by_now_waits_its_turn(queue: Driver, there: Driver) -> None:
    queue.redis.zadd(queue.k.delayed, {A: 1})
    move_all(queue, there)
    assert claimed(there) == [A]


def test_bytes_that_are_no_job_move_as_they_are(queue: Driver, there: Driver) -> None:
    odd = [b"", b" ", b"\xff\x00 \n", b'{"task":"t"}', b'{"task":"t"}', b'{"priority":3}']
    queue.push(*odd)
    queue.redis.zadd(queue.k.priority, {b"\xfe": 1})
    queue.redis.zadd(queue.k.delayed, {b"never": float("inf")})
    move_all(queue, there)
    state = there.state()
    assert Counter(state.pending) == Counter([*odd, b"\xfe"])
    assert state.delayed == [(b"never", 1 << 53)]


def test_what_a_thousand_jobs_are_goes_in_several_batches(queue: Driver, there: Driver) -> None:
    many = [job(f"j{n:05}") for n in range(2500)]
    for start in range(0, 2500, 500):
        queue.enqueue(*many[start : start + 500])
    one = Move("queue", queue.store, there.store)
    assert [one.step() for _ in range(4)] == [1000, 1000, 500, 0]
    assert there.check().pending == many[::-1]


def test_a_batch_is_of_about_a_mebibyte(queue: Driver, there: Driver) -> None:
    body = b',"task":"t","args":["' + b"x" * 300_000 + b'"]}'
    queue.enqueue(*(job(f"j{n}", body) for n in range(40)))
    one = Move("queue", queue.store, there.store)
    assert one.step() == 4  # of 300 kB
    while one.step():
        pass
    assert one.moved == {"pending": 40}


# Whoever moves may die anywhere.


class Dying:
    """A store whose n-th request is not sent, or is answered to nobody.

    Args:
        store: the store that it is.
        deaths: counts the requests of all stores that share it, down to the one that fails.
        sent: whether that one is sent.
    """

    def __init__(self, store: Store, deaths: list[int], *, sent: bool) -> None:
        self._store, self._deaths, self._sent = store, deaths, sent

    def _asked(self, ask: Any, what: Any) -> Any:
        self._deaths[0] -= 1
        if self._deaths[0] != 0:
            return ask(what)
        if not self._sent:
            raise StoreUnavailable("it is away")
        ask(what)
        raise ReplyLost("the answer never came")

    def run(self, operation: Any) -> Any:
        return self._asked(self._store.run, operation)

    def run_all(self, operations: Any) -> Any:
        return self._asked(self._store.run_all, operations)


@pytest.mark.parametrize("sent", [False, True], ids=["unsent", "unanswered"])
def test_whoever_dies_at_any_request_another_goes_on_and_each_job_moves_once(
    queue: Driver, there: Driver, *, sent: bool
) -> None:
    for death in range(1, 100):
        fill(queue)
        queue.enqueue(job("keyed", key="k"), unique=Unique("k", "keyed", 0))
        deaths = [death]
        stores: list[Any] = [Dying(one.store, deaths, sent=sent) for one in (queue, there)]
        try:
            carry_out(Move("queue", *stores))
        except StoreError:
            carry_out(Move("queue", queue.store, there.store))
        survived = deaths[0] > 0
        assert not queue.redis.exists(moving.moving_of(queue.k), queue.k.unique("k")), death
        assert there.redis.get(there.k.unique("k")) == b"keyed", death
        queue.check()
        places = there.check().places
        ids = Counter(wire_id(one) for jobs in places.values() for one in jobs)
        assert ids == Counter([*"abcdef", "urgent", "older", "newer", "keyed"]), death
        if survived:
            return
        empty(queue, there)
    raise AssertionError("it asks more than a hundred times")


def test_two_who_move_at_once_move_each_job_once(queue: Driver, there: Driver) -> None:
    fill(queue)
    first = queue.store.run(requests.take(queue.k, "first"))
    second = queue.store.run(requests.take(queue.k, "second"))
    assert first == second
    assert first is not None
    assert there.store.run(requests.arrive(there.k, first, ())) == "arrived"
    assert queue.store.run(requests.leave(queue.k, first, ()))
    queue.enqueue(job("late"))
    third = queue.store.run(requests.take(queue.k, "third"))
    # The second one is late with all that it does.
    assert there.store.run(requests.arrive(there.k, first, ())) == "before"
    assert not queue.store.run(requests.leave(queue.k, first, ()))
    assert queue.store.run(requests.take(queue.k, "fourth")) == third
    assert there.check().counters["enqueued"] == 9


def test_what_is_on_its_way_can_be_put_back(queue: Driver, there: Driver) -> None:
    fill(queue)
    queue.enqueue(job("keyed", key="k"), unique=Unique("k", "keyed", 0))
    before = queue.check().places
    taken = queue.store.run(requests.take(queue.k, "batch"))
    assert taken is not None
    one = Move("queue", queue.store, there.store)
    assert one.back() == 10
    assert one.back() == 0
    after = queue.check().places
    assert {place: sorted(map(wire_id, jobs)) for place, jobs in after.items()} == {
        place: sorted(map(wire_id, jobs)) for place, jobs in before.items()
    }
    assert queue.redis.get(queue.k.unique("k")) == b"keyed"
    assert not queue.redis.exists(moving.moving_of(queue.k))


def test_a_queue_does_not_move_to_where_it_is(queue: Driver, there: Driver) -> None:
    queue.enqueue(A, B)
    with pytest.raises(InvalidSetting, match="one server"):
        carry_out(Move("queue", queue.store, queue.store))
    assert queue.check().pending == [B, A]
    assert there.check().counters == {}


def test_a_queue_that_workflows_use_is_refused(queue: Driver, there: Driver) -> None:
    queue.enqueue(A)
    queue.redis.sadd(WORKFLOWS, queue.k.queue)
    with pytest.raises(HeadraceError, match="let them end, or cancel them"):
        move_all(queue, there)
    assert queue.check().pending == [A]


@pytest.mark.parametrize(
    "body",
    [
        b',"task":"t","workflow":{"id":"w","n":0}}',
        b',"task":"headrace.start","args":["w","elsewhere",2,"eJ"]}',  # it will begin here
    ],
)
def test_a_job_of_a_workflow_that_comes_meanwhile_is_put_back(
    queue: Driver, there: Driver, body: bytes
) -> None:
    member = job("m", body)
    queue.enqueue(member)
    with pytest.raises(HeadraceError, match="let them end, or cancel them"):
        move_all(queue, there)
    assert queue.check().pending == [member]


def test_a_server_that_is_full_refuses_a_batch_and_nothing_is_lost(
    queue: Driver, there: Driver
) -> None:
    fill(queue)
    memory = there.redis.config_get("maxmemory")["maxmemory"] or "0"
    there.redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(StoreError):
            carry_out(Move("queue", queue.store, there.store))
    finally:
        there.redis.config_set("maxmemory", memory)
    move_all(queue, there)
    queue.check()
    assert there.check().counters["enqueued"] == 9


@given(st.data())
@settings(
    max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
def test_moved_in_any_steps_while_consumers_work_each_job_is_done_once(
    queue: Driver, there: Driver, data: st.DataObject
) -> None:
    empty(queue, there)
    total = data.draw(st.integers(1, 12))
    queue.enqueue(*(job(f"j{n}", priority=n % 3) for n in range(total)))
    done: Counter[str] = Counter()
    names = iter(range(1000))
    batch: requests.Batch | None = None

    def work(side: Driver) -> None:
        for held in side.claim(2):
            assert side.settle(held, "done") == []
            done[wire_id(held)] += 1

    steps: dict[str, Callable[[], Any]] = {
        "take": lambda: queue.store.run(requests.take(queue.k, f"b{next(names)}", 3)),
        "arrive": lambda: batch and there.store.run(requests.arrive(there.k, batch, ())),
        "leave": lambda: None,
        "work here": lambda: work(queue),
        "work there": lambda: work(there),
    }
    arrived: set[str] = set()
    for step in data.draw(st.lists(st.sampled_from(sorted(steps)), max_size=30)):
        answer: Any = steps[step]()
        if step == "take":
            batch = answer
        elif step == "arrive" and batch:
            arrived.add(batch.name)
        elif step == "leave" and batch and batch.name in arrived:
            queue.store.run(requests.leave(queue.k, batch, ()))
    move_all(queue, there)
    while there.snapshot().waiting:
        work(there)
    assert done == Counter(f"j{n}" for n in range(total))
    queue.check()
    there.check()
