"""A workflow at the scripts: whatever becomes of its members, and in whatever order, what follows follows once."""

from __future__ import annotations

import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace import operations as op
from headrace import results, wire
from headrace.errors import StoreRefused
from headrace.producer import Call
from headrace.wire import Error
from headrace.workflows.commit import commit_of
from headrace.workflows.duty import _of_letter
from headrace.workflows.keys import WorkflowKeys, workflow_keys
from headrace.workflows.member import MemberHandOff, hand_off_of, job_id_of
from headrace.workflows.node import Node
from headrace.workflows.starting import Plan, fill, options, planned, start, started
from headrace.workflows.steps import RESULT
from headrace.workflows.workflow import WorkflowStatus, status_of
from tests.integration.transitions.driver import ME, OTHER, Driver, id_of, job

MEMBERS = 4


def node(queue: Driver, number: int, *args: Any, **more: Any) -> Node:
    body = wire.encode_call("t", args, {})
    return Node(Call(queue.k.queue, str(number), job(str(number), body), producer=_nobody), **more)


def _nobody() -> Any:
    return SimpleNamespace(joins_queues=True)


class Play:
    """A chord whose members end in all ways."""

    def __init__(self, queue: Driver, on_failure: str, members: int = MEMBERS) -> None:
        self.queue, self.on_failure = queue, on_failure
        everybody = list(range(members))
        nodes = [node(queue, n, n) for n in everybody]
        nodes.append(node(queue, members, RESULT, after=everybody, result=everybody))
        self.plan: Plan = planned(nodes, [members], many=False)[1]
        self.members = members
        queue.store.follow(started(self.plan, options(on_failure, 60.0, 3), 0))
        self.held: list[tuple[str, bytes]] = []

    @property
    def keys(self) -> WorkflowKeys:
        return workflow_keys(self.queue.k, self.plan.id)

    def status(self) -> WorkflowStatus:
        return self.queue.store.follow(status_of(self.queue.k, self.plan.id))

    def claim(self, consumer: str = ME) -> bool:
        jobs = self.queue.claim(1, consumer=consumer)
        for one in jobs:
            self.held.append((consumer, one))
            if id_of(one) == job_id_of(self.plan.id, self.members):
                (values,) = wire.read_body(one).args
                assert len(values) == self.members and None not in values, "all have ended"
        return bool(jobs)

    def end(self, n: int, verb: op.Verb, *, times: int = 1) -> list[list[str]]:
        """End what is held, as its consumer does; more than once: an answer was lost."""
        consumer, held = self.held.pop(n)
        hand_off = hand_off_of(bytes(wire.read_body(held).workflow))
        assert isinstance(hand_off, MemberHandOff)
        error = Error("rejected", failed_at=1)
        head, body = wire.split(held) or pytest.fail("no job")
        end = results.encode_value(head.id) if verb == "done" else results.encode_error(error)
        letter = wire.letter(head._replace(delivery=head.delivery + 1), body, error)
        commit = commit_of(hand_off, verb, end, self.queue.k.queue)
        assert commit is not None
        outcome = self.queue.outcome(held, verb, job=letter if verb == "dead" else b"")
        request = commit.operation(self.queue.k, consumer, outcome)
        return [self.queue.store.run(request) for _ in range(times)]

    def lose_all(self, max_crashes: int) -> None:
        """Let all consumers be lost; they may come back, and end what they had."""
        names = {id_of(one): 1 for _, one in self.held}
        if names:
            self.queue.redis.zadd(self.queue.k.leases, names, xx=True)
        self.queue.reclaim(max_crashes=max_crashes)

    def note(self) -> None:
        """Look at all letters, as the leader does."""
        letters: list[Any] = self.queue.redis.lrange(self.queue.k.dead, 0, -1)
        for letter in letters:
            if (request := _of_letter(self.queue.k, letter)) is not None:
                self.queue.store.run(request)

    def redrive(self) -> None:
        letters: list[Any] = self.queue.redis.lrange(self.queue.k.dead, 0, -1)
        if letters:
            self.queue.store.run(
                op.redrive(self.queue.k, [(one, wire.redriven(one)) for one in letters])
            )

    def to_the_end(self) -> None:
        """Let everything go well from now on."""
        for _ in range(10 * self.members):
            self.note()
            if self.on_failure == "stop":  # else nobody has to
                self.redrive()
            while self.claim():
                pass
            while self.held:
                self.end(0, "done")
            if self.status().state == "done":
                return
        raise AssertionError(f"it never ends: {self.status()}")


def played(queue: Driver, seed: int, on_failure: str) -> Play:
    """Play at random, then well; each member, and what follows, was accepted once, and is done."""
    chance, play = random.Random(seed), Play(queue, on_failure)
    moves: list[Callable[[], Any]] = [
        lambda: play.claim(chance.choice((ME, OTHER))),
        lambda: play.held and play.end(chance.randrange(len(play.held)), "done", times=2),
        lambda: play.held and play.end(chance.randrange(len(play.held)), "done"),
        lambda: play.held and play.end(chance.randrange(len(play.held)), "dead", times=2),
        lambda: play.lose_all(chance.choice((1, 50))),
        play.note,
        play.redrive,
    ]
    for _ in range(chance.randrange(25)):
        chance.choice(moves)()
    play.to_the_end()
    play.redrive()  # of one that was counted as dead
    while play.claim():
        play.end(0, "done")
    state = queue.check()
    assert not any(state.places.values())
    assert state.counters["enqueued"] == MEMBERS + 1, "each is accepted once"
    return play


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1 << 32), on_failure=st.sampled_from(["stop", "continue"]))
def test_whatever_happens_what_follows_follows_once(
    queue: Driver, seed: int, on_failure: str
) -> None:
    queue.redis.flushdb()
    queue.numbers.clear()
    played(queue, seed, on_failure)


def test_many_plays_end_well(queue: Driver) -> None:
    """The same, of seeds that are always the same ones."""
    for seed in range(20):
        queue.redis.flushdb()
        played(queue, seed, ("stop", "continue")[seed % 2])


def test_what_follows_gets_the_results_in_order(queue: Driver) -> None:
    play = Play(queue, "stop")
    for _ in range(MEMBERS):
        play.claim()
        play.end(len(play.held) - 1, "done")
    (last,) = queue.claim()
    ids = [job_id_of(play.plan.id, n) for n in range(MEMBERS)]
    assert wire.read_body(last).args == [ids]


def test_only_a_window_is_open_and_all_come_in_turn(queue: Driver) -> None:
    play = Play(queue, "stop", members=10)
    assert queue.redis.llen(queue.k.pending) == 3
    for _ in range(10):
        assert play.status().running <= 3
        play.claim()
        play.end(0, "done")
    assert play.status().ended == 10 and queue.redis.llen(queue.k.pending) == 1


def test_a_workflow_starts_once_and_only_whole(queue: Driver) -> None:
    play, chosen = Play(queue, "stop"), options("stop", 60.0, 3)
    before = queue.state()
    assert queue.store.run(start(play.plan, chosen, 0)) == [b"exists"]
    other = planned([node(queue, 0), node(queue, 1)], [0, 1], many=True)[1]
    assert queue.store.run(fill(other, 0, other.rest[:1])) == 1
    assert queue.store.run(start(other, chosen, 0)) == [b"incomplete"]
    assert queue.store.run(fill(other, 0, other.rest[:1])) == 1  # again: an answer was lost
    assert queue.store.run(fill(other, 1, other.rest[1:])) == 2
    assert queue.state() == before
    assert queue.store.run(start(other, chosen, 1)) == [b"full", 3]
    assert queue.store.run(start(other, chosen, 0)) == [b"ok"]


@pytest.mark.parametrize("name", ["hash", "ended", "results", "rest", "unfinished"])
def test_a_key_of_a_wrong_type_fails_before_the_first_write(queue: Driver, name: str) -> None:
    play = Play(queue, "stop")
    play.claim()
    before = queue.state()
    queue.redis.delete(getattr(play.keys, name))
    if name == "ended":
        queue.redis.lpush(play.keys.ended, "an element")
    else:
        queue.redis.set(getattr(play.keys, name), "a string")
    with pytest.raises(StoreRefused):
        play.end(0, "done")
    assert queue.state() == before


def test_what_waits_begins_before_it_expires(queue: Driver) -> None:
    play = Play(queue, "stop")
    assert queue.redis.pttl(play.keys.rest) in (-1, -2)
    assert queue.redis.pttl(play.keys.hash) == -1
    play.to_the_end()
    assert 0 < queue.redis.pttl(play.keys.hash) <= 60_000
    assert not queue.redis.exists(play.keys.rest, play.keys.unfinished)
