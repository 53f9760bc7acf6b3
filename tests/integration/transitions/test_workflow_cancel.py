"""A workflow that is cancelled while its members wait in all places, and while they move."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from headrace import operations as op
from headrace.lanes import operations as lanes
from headrace.lanes.operations import Hold
from headrace.workflows.workflow import cancelled
from tests.integration.transitions.driver import ME, Driver, again, id_of, job
from tests.integration.transitions.test_workflow import Play

OTHER = job("other")
Move = Callable[[Driver, Play], Any]


def hold(queue: Driver, play: Play) -> None:
    """Put what is claimed into a lane, as its consumer does when a limit leaves no room."""
    _, one = play.held.pop()
    queue.store.run(Hold("t/").operation(queue.k, ME, queue.outcome(one, "release")))


def retry(queue: Driver, play: Play) -> None:
    """Let what is claimed fail, and wait for its next attempt."""
    _, one = play.held.pop()
    queue.settle(one, "retry", delay_ms=60_000, job=one)


@pytest.fixture
def play(queue: Driver) -> Play:
    queue.store.run(lanes.declare(queue.k, {"t": "0 0 1"}))
    queue.store.run(lanes.enqueue(queue.k, [("t/", OTHER)]))
    assert queue.claim(consumer="another")  # has the one slot
    return Play(queue, "stop", members=1)


def assert_is_cancelled(queue: Driver) -> None:
    state = queue.check()
    assert [id_of(one) for place in state.places.values() for one in place] == [id_of(OTHER)]
    assert state.counters["cancel"] == 1


def test_a_member_that_waits_in_its_lane_is_taken_out(queue: Driver, play: Play) -> None:
    play.claim()
    hold(queue, play)
    assert queue.redis.hlen(queue.k.limited) == 1
    assert queue.store.follow(cancelled(queue.k, play.plan.id))
    assert_is_cancelled(queue)


def test_a_member_that_was_moved_and_not_claimed_is_asked_to_stop(
    queue: Driver, play: Play
) -> None:
    item = queue.move()
    assert queue.store.follow(cancelled(queue.k, play.plan.id))
    assert queue.adopt(item, again(item)) == "cancelled"
    assert_is_cancelled(queue)


@pytest.mark.parametrize("move", [hold, retry])
@pytest.mark.parametrize("after", range(9))
def test_a_member_that_moves_back_meanwhile_is_found(
    queue: Driver, play: Play, move: Move, after: int
) -> None:
    """After so many requests of the cancel; some of them come when all is over."""
    play.claim()
    flow, answer, count = cancelled(queue.k, play.plan.id), None, 0
    try:
        while True:
            request = flow.send(answer)
            assert isinstance(request, op.Operation)
            answer = queue.store.run(request)
            if count == after:
                move(queue, play)
            count += 1
    except StopIteration as over:
        assert over.value is True
    if count <= after:
        move(queue, play)
    assert_is_cancelled(queue)
