"""The claims of a consumer: what is ours, what Redis has to be told, and in which order."""

from __future__ import annotations

from typing import get_args

import pytest

from headrace.consumer.claimed import NEXT, ClaimedJob, Phase
from headrace.consumer.claims import Batch, Claims
from headrace.keys import keys_of
from headrace.operations import Outcome, Verb
from headrace.wire import Head, join
from tests.support.phases import CheckedPhase

K = keys_of("queue")


@pytest.fixture(autouse=True)
def _phases_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ClaimedJob, "phase", CheckedPhase())


@pytest.fixture
def claims() -> Claims:
    return Claims([K])


def job(claims: Claims, job_id: str = "a", *, owned: bool = True) -> ClaimedJob:
    head, body = Head(job_id), b',"task":"note"}'
    job = join(head, body)
    return ClaimedJob(K, claims.numbers(1), head, body, job, job, 1e12, owned=owned)


def held(claims: Claims, job_id: str = "a", *, owned: bool = True) -> ClaimedJob:
    claimed = job(claims, job_id, owned=owned)
    assert claims.register(claimed) is None
    return claimed


def settle(claims: Claims, claimed: ClaimedJob, verb: Verb = "done") -> None:
    claims.settle(claimed, Outcome(claimed.head.id, claimed.number, verb))


def told(claims: Claims) -> list[tuple[str, int, str]]:
    """Take what the next call tells."""
    return [
        (outcome.job_id, outcome.claim, outcome.verb)
        for batch in claims.take()
        for _, outcome in batch.pairs
    ]


def test_every_phase_can_be_left_but_the_last_and_reached_but_the_first() -> None:
    assert NEXT.keys() == set(get_args(Phase))
    assert [phase for phase, later in NEXT.items() if not later] == ["gone"]
    assert set(get_args(Phase)) - set().union(*NEXT.values()) == {"arrived"}


def test_a_job_is_held_until_redis_has_taken_its_outcome(claims: Claims) -> None:
    claimed = held(claims)
    settle(claims, claimed)
    assert claims.of("queue") == {"a": claimed}
    [batch] = claims.take()
    assert claims.get("queue", "a") is None  # it may be claimed again by now
    assert claims.of("queue") == {"a": claimed}
    claims.settled(batch)
    assert (claims.of("queue"), claims.untold, claimed.phase) == ({}, False, "gone")


@pytest.mark.parametrize(("may_have_happened", "phase"), [(False, "ended"), (True, "settling")])
def test_an_outcome_that_was_not_taken_is_told_again_first(
    claims: Claims, may_have_happened: bool, phase: Phase
) -> None:
    first, second = held(claims, "a"), held(claims, "b")
    settle(claims, first)
    [batch] = claims.take()
    settle(claims, second)
    claims.put_back(batch, may_have_happened=may_have_happened)
    assert first.phase is phase
    assert told(claims) == [("a", 1, "done"), ("b", 2, "done")]


def test_releases_are_told_newest_first(claims: Claims) -> None:
    for job_id in "abc":
        settle(claims, held(claims, job_id), "release")
    assert told(claims) == [("c", 3, "release"), ("b", 2, "release"), ("a", 1, "release")]


def test_what_ends_before_redis_knows_it_as_ours_is_told_after_that(claims: Claims) -> None:
    claimed = held(claims, owned=False)
    claimed.phase = "ready"
    settle(claims, claimed)
    assert claims.untold  # its adoption
    assert claims.take() == []
    assert claims.adopted(claimed, "ok", 1e12) == "ours"
    assert not claims.unowned
    assert told(claims) == [("a", 1, "done")]


def test_it_is_told_under_the_id_that_it_got_meanwhile(claims: Claims) -> None:
    claimed = held(claims, owned=False)
    claimed.phase = "ready"
    settle(claims, claimed)
    assert claims.adopted(claimed, "duplicate", 1e12) == "again"
    assert list(claims.unowned) == [claimed]
    assert claimed.head.id != "a"
    assert claims.of("queue") == {claimed.head.id: claimed}
    assert claims.adopted(claimed, "ok", 1e12) == "ours"
    assert told(claims) == [(claimed.head.id, 1, "done")]


def test_a_second_job_of_one_id_gets_another(claims: Claims) -> None:
    first = held(claims)
    second = held(claims, owned=False)
    assert (first.head.id, second.head.id != "a") == ("a", True)
    assert set(claims.of("queue").values()) == {first, second}


@pytest.mark.parametrize("ended", [False, True])
def test_a_job_that_comes_back_to_a_process_that_stood_still_keeps_its_id(
    claims: Claims, ended: bool
) -> None:
    """It moved the job anew before it told, or knew, that its first claim was lost."""
    first, again = held(claims), job(claims, owned=False)
    if ended:
        settle(claims, first, "retry")
    again.head = again.head._replace(delivery=1)
    assert claims.register(again) is first
    first.phase = "gone"
    claims.lose(first)
    assert claims.of("queue") == {"a": again}


def test_an_id_that_redis_gives_away_again_makes_the_first_claim_lost(claims: Claims) -> None:
    first, second = held(claims), job(claims)
    assert claims.register(second) is first
    first.phase = "gone"
    claims.lose(first)
    assert claims.of("queue") == {"a": second}


def test_who_is_not_known_as_ours_makes_way_for_who_is(claims: Claims) -> None:
    moved = held(claims, owned=False)
    claimed = held(claims)
    assert claims.get("queue", "a") is claimed
    assert moved.head.id != "a"


def test_a_refusal_that_may_be_older_than_the_keepers_adoption_is_asked_again(
    claims: Claims,
) -> None:
    claimed = held(claims, owned=False)
    claimed.kept = True
    assert claims.adopted(claimed, "lost", 1e12) == "again"
    assert claims.adopted(claimed, "lost", 1e12) == "lost"


def test_the_lease_that_the_keeper_took_of_a_lost_job_is_given_back(claims: Claims) -> None:
    claimed = held(claims, owned=False)
    claimed.kept = True
    claimed.phase = "gone"
    claims.lose(claimed)
    assert not claims.unowned
    assert told(claims) == [("a", 1, "release")]


def test_a_lease_that_was_left_over_ends_no_claim_that_goes_on(claims: Claims) -> None:
    claimed = held(claims, owned=False)
    claimed.phase = "ready"
    claims.release(claimed, "an old id")
    [batch] = claims.take()
    claims.settled(batch)
    assert (claims.of("queue"), claimed.phase) == ({"a": claimed}, "ready")


def test_the_number_tells_from_which_end_of_processing_the_item_is_nearer(claims: Claims) -> None:
    jobs = [held(claims, f"j{n}") for n in range(10)]
    assert [claims.signed(claimed) for claimed in jobs] == [-1, -2, -3, -4, -5, -6, 7, 8, 9, 10]


def test_a_batch_is_of_one_queue() -> None:
    other = keys_of("other")
    claims = Claims([K, other])
    for k in (K, other, K):
        claimed = job(claims, f"j{claims.numbers(1)}")
        claimed.k = k
        claims.register(claimed)
        settle(claims, claimed)
    batches: list[Batch] = claims.take()
    assert [(batch.k.queue, len(batch.pairs)) for batch in batches] == [("queue", 2), ("other", 1)]
