"""Snapshot counts every place at one instant."""

from __future__ import annotations

from collections.abc import Callable

from headrace import operations as op
from tests.integration.transitions.driver import LONG_MS, Driver, again, job

A, B, C = job("a"), job("b"), job("c")


def test_an_empty_queue_is_all_zero(queue: Driver) -> None:
    before = queue.now_ms()
    seen = queue.snapshot()
    assert before <= seen.now_ms <= queue.now_ms()
    assert (seen.queue, seen.paused, seen.counters) == ("queue", False, {})
    assert (seen.oldest, seen.first_priority, seen.due_at_ms) == (b"", b"", None)
    places = (seen.pending, seen.priority, seen.delayed, seen.processing, seen.dead)
    assert (*places, seen.leases, seen.claims, seen.waiting, seen.foreign) == (0,) * 9
    assert queue.redis.keys("*") == []


def test_every_place_is_counted(queue: Driver) -> None:
    queue.enqueue(*(job(f"x{i}") for i in range(6)))
    queue.settle_all(*(queue.outcome(one, "dead", job=one) for one in queue.claim(2)))
    queue.claim(3)
    queue.enqueue(*(job(f"p{i}", priority=1) for i in range(4)))
    queue.enqueue(*(job(f"d{i}") for i in range(5)), due="+60000")
    queue.push(b"bare")
    queue.redis.rpoplpush(queue.k.pending, queue.k.processing)
    queue.pause()
    seen = queue.snapshot()
    assert (seen.pending, seen.priority, seen.delayed) == (1, 4, 5)
    assert (seen.processing, seen.dead, seen.leases, seen.claims) == (4, 2, 3, 3)
    assert (seen.waiting, seen.paused, seen.foreign) == (5, True, 1)
    assert seen.counters == {"enqueued": 15, "dead": 2}
    queue.check(bare=1)


def test_the_next_ones_are_shown_by_their_heads(queue: Driver) -> None:
    long = job("long", b',"x":"%b"}' % (b"x" * 1_000))
    queue.enqueue(long, A, job("p1", priority=1), job("p2", priority=2))
    queue.enqueue(B, due="@9000000000000")
    seen = queue.snapshot()
    assert seen.oldest == long[:200]
    assert seen.first_priority == job("p2", priority=2)
    assert seen.due_at_ms == 9_000_000_000_000


def test_what_plain_clients_brought_and_took_is_foreign(queue: Driver) -> None:
    queue.push(A, B)
    assert queue.snapshot().foreign == 2
    queue.move()
    queue.remove(A)
    assert queue.snapshot().foreign == 1
    queue.claim()
    queue.settle(B, "done")
    assert queue.snapshot().foreign == 1
    queue.enqueue(C)
    queue.move()
    queue.remove(C)
    assert queue.snapshot().foreign == 0
    queue.check()


def test_nothing_is_foreign_when_only_headrace_moves_jobs(queue: Driver) -> None:
    """Drive jobs through every transition; after each one the sum is right."""
    letter = job("h", b',"task":"t","error":{"reason":"rejected"}}')
    steps: list[Callable[[], object]] = [
        lambda: queue.enqueue(*map(job, "abcdefghij")),
        lambda: queue.enqueue(job("p", priority=1), job("q", priority=-1)),
        lambda: queue.enqueue(job("r"), job("s"), due="+1"),
        lambda: queue.claim(11, lease_ms=20_000),
        lambda: queue.until(queue.now_ms() + 2),
        lambda: queue.promote(),
        lambda: queue.cancel(job("r")),
        lambda: queue.cancel(job("b")),
        lambda: queue.settle(A, "done"),
        lambda: queue.settle(B, "release"),
        lambda: queue.settle(C, "retry", job=again(C, attempt=1)),
        lambda: queue.settle(job("d"), "park", delay_ms=LONG_MS, job=again(job("d"))),
        lambda: queue.settle(job("e"), "drop"),
        lambda: queue.settle(job("f"), "cancel"),
        lambda: queue.settle(job("g"), "dead", job=job("g")),
        lambda: queue.settle(job("h"), "dead", job=letter),
        lambda: queue.extend(job("i"), lease_ms=1),
        lambda: queue.expire(),
        lambda: queue.reclaim(),
        lambda: queue.store.run(op.redrive(queue.k, [(letter, job("h"))])),
        lambda: queue.store.run(op.purge(queue.k, [job("g")])),
        lambda: queue.cancel(again(job("d"))),
        lambda: queue.sweep(all_=True),
        lambda: queue.pause(),
        lambda: queue.pause(paused=False),
        lambda: queue.find(job("j")),
    ]
    for step in steps:
        step()
        assert queue.snapshot().foreign == 0
        queue.check()
    seen = queue.snapshot()
    ended = {"cancel": 4, "done": 1, "drop": 1, "purged": 1}
    moved = {"retry": 1, "park": 1, "dead": 2, "reclaimed": 1, "redriven": 1}
    assert seen.counters == {"enqueued": 14} | ended | moved
