"""A workflow whose members are on another node than its home: whatever is carried late, twice, or after a death."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace import forwarding, results, wire
from headrace import operations as op
from headrace.handoff import FORWARD, FollowUp
from headrace.operations import Operation
from headrace.producer import Call
from headrace.wire import Error
from headrace.workflows.commit import commit_of
from headrace.workflows.duty import _of_letter
from headrace.workflows.member import Member, MemberHandOff, failure_of, hand_off_of
from headrace.workflows.node import Node
from headrace.workflows.starting import options, planned, started
from headrace.workflows.steps import RESULT
from headrace.workflows.telling import hear, heard
from headrace.workflows.workflow import status_of
from tests.integration.transitions.driver import ME, Driver, job, on_one_server

pytestmark = on_one_server  # what runs where is shown on a cluster; here is what becomes of it
FAR = 3


def node(queue: str, n: int, *args: Any, **more: Any) -> Node:
    elsewhere = lambda: SimpleNamespace(joins_queues=False)
    body = wire.encode_call("t", args, {})
    return Node(Call(queue, str(n), job(str(n), body), producer=elsewhere), **more)  # type: ignore[arg-type]


def carried(one: bytes) -> Operation[Any] | None:
    """What a consumer does with a job that is carried to another node; None if it is none."""
    body = wire.read_body(one)
    if not body.task.startswith("headrace."):
        return None
    if body.task != FORWARD:
        return heard(*body.args)
    queue, due, key, key_ttl_ms, inner = body.args
    job = msgspec.json.encode(inner)
    return forwarding.arrive(FollowUp(queue, due, key, key_ttl_ms, inner["id"], job))


class Play:
    """A first member at home, three far away, and a last one far away that gets all results."""

    def __init__(self, home: Driver, on_failure: str) -> None:
        self.home, self.far = home, Driver(home.store, home.redis, "far")
        nodes = [node("queue", 0, 0)]
        nodes += [node("far", n, n, after=[0]) for n in range(1, 1 + FAR)]
        everybody = list(range(1, 1 + FAR))
        nodes.append(node("far", 1 + FAR, RESULT, after=everybody, result=everybody))
        self.plan = planned(nodes, [1 + FAR], many=False)[1]
        assert self.plan.places == ("queue",)
        home.store.follow(started(self.plan, options(on_failure, 60.0, 100), 0))
        self.held: list[tuple[Driver, bytes]] = []
        self.new: Counter[str] = Counter()  # how often each job came that had not been there

    @property
    def state(self) -> str:
        return self.home.store.follow(status_of(self.home.k, self.plan.id)).state

    def claim(self, side: Driver) -> bool:
        jobs = side.claim(1)
        for one in jobs:
            head = (wire.split(one) or pytest.fail("no job"))[0]
            self.new[head.id] += head.delivery == 0
            self.held.append((side, one))
        return bool(jobs)

    def end(self, n: int, verb: op.Verb = "done", *, times: int = 1) -> None:
        """End what is held; what is carried is carried so often, and perhaps not acked."""
        side, held = self.held.pop(n)
        if (request := carried(held)) is not None:
            for _ in range(times):
                side.store.run(request)
            if verb == "done":
                side.settle(held, "done")
            return
        hand_off = hand_off_of(bytes(wire.read_body(held).workflow))
        assert isinstance(hand_off, MemberHandOff)
        head, body = wire.split(held) or pytest.fail("no job")
        error = Error("rejected", failed_at=1)
        end = results.encode_value(head.id) if verb == "done" else results.encode_error(error)
        letter = wire.letter(head._replace(delivery=head.delivery + 1), body, error)
        commit = commit_of(hand_off, verb, end, side.k.queue)
        assert commit is not None
        outcome = side.outcome(held, verb, job=letter if verb == "dead" else b"")
        for _ in range(times):
            side.store.run(commit.operation(side.k, ME, outcome))

    def lose_all(self, max_crashes: int) -> None:
        for side in (self.home, self.far):
            leases: Any = side.redis.zrange(side.k.leases, 0, -1)
            if leases:
                side.redis.zadd(side.k.leases, dict.fromkeys(leases, 1))
            side.reclaim(max_crashes=max_crashes)

    def note(self) -> None:
        for side in (self.home, self.far):
            for letter in side.state().dead:
                if (request := _of_letter(side.k, letter)) is not None:
                    side.store.run(request)

    def redrive(self) -> None:
        for side in (self.home, self.far):
            if letters := side.state().dead:
                pairs = [(one, wire.redriven(one)) for one in letters]
                side.store.run(op.redrive(side.k, pairs))

    def to_the_end(self) -> None:
        """Let everything go well from now on."""
        for _ in range(20):
            self.lose_all(50)
            self.note()
            self.redrive()
            self.held.clear()
            while self.claim(self.home) or self.claim(self.far):
                self.end(0)
            if self.state == "done":
                return
        raise AssertionError(f"it never ends: {self.state}")


def played(home: Driver, seed: int, on_failure: str) -> None:
    """Play at random, then well; each member came once, and the workflow ends."""
    chance, play = random.Random(seed), Play(home, on_failure)

    def end(verb: op.Verb, times: int) -> None:
        if play.held:
            play.end(chance.randrange(len(play.held)), verb, times=times)

    moves: list[Callable[[], Any]] = [
        lambda: play.claim(play.home),
        lambda: play.claim(play.far),
        lambda: end("done", 2),
        lambda: end("done", 1),
        lambda: end("dead", 2),
        lambda: play.lose_all(chance.choice((1, 50))),
        play.note,
        play.redrive,
    ]
    for _ in range(chance.randrange(50)):
        chance.choice(moves)()
    play.to_the_end()
    for side in (play.home, play.far):
        play.redrive()
        while play.claim(play.home) or play.claim(play.far):
            play.end(0)
        assert not any(side.check().places.values())
    members = [f"{play.plan.id}-{n:06d}" for n in range(2 + FAR)]
    assert [play.new[one] for one in members] == [1] * len(members), "each came once"


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1 << 32), on_failure=st.sampled_from(["stop", "continue"]))
def test_whatever_is_carried_twice_or_late_what_follows_follows_once(
    queue: Driver, seed: int, on_failure: str
) -> None:
    queue.redis.flushdb()
    queue.numbers.clear()
    played(queue, seed, on_failure)


def test_what_follows_gets_the_results_in_order(queue: Driver) -> None:
    play = Play(queue, "stop")
    play.to_the_end()
    values = queue.redis.lindex(queue.k.result(play.plan.id), 0)
    assert isinstance(values, bytes)
    assert f"{play.plan.id}-{1 + FAR:06d}".encode() in values


def test_the_end_of_a_member_is_heard_once_and_a_late_word_of_its_death_is_not(
    queue: Driver,
) -> None:
    play = Play(queue, "stop")
    member = Member(play.plan.id, 1, ("queue",), 2)
    why = failure_of("crashed", "", "", member.job_id, "far")

    def ask(value: bytes, why: bytes) -> bool:
        return queue.store.run(hear(member, value, why)) == 1

    assert ask(b"", why)
    assert play.state == "failed"
    assert ask(b"", why)  # told again, it changes nothing
    assert ask(b"1", b"")
    assert play.state == "running"
    assert not ask(b"1", b"")
    assert not ask(b"", why)
    assert play.state == "running"
