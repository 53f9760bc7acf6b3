"""Queues at rest are asked about in groups, and one that wakes takes with it when it was at rest."""

from __future__ import annotations

from headrace.maintenance.resting import Resting


def at_rest(count: int, time_ms: int = 1) -> Resting:
    resting = Resting()
    names = [f"q{n:05}" for n in range(count)]
    resting.keep(names)
    assert resting.astir == set(names)
    for name in names:
        resting.rest(name, time_ms)
    return resting


def test_a_thousand_queues_are_four_commands() -> None:
    resting = at_rest(1_000)
    assert [len(group.names) for group in resting.turn()] == [250] * 4
    assert not resting.astir
    assert sum(len(group.look().args) - 1 for group in resting.turn()) == 3 * 1_000


def test_of_very_many_some_are_asked_about_at_each_turn_and_all_in_turn() -> None:
    resting = at_rest(25_000)
    turns = [{name for group in resting.turn() for name in group.names} for _ in range(3)]
    assert [len(names) for names in turns] == [10_000, 10_000, 5_000]
    assert len(set.union(*turns)) == 25_000


def test_who_wakes_was_at_rest_when_its_group_was_last() -> None:
    resting = at_rest(2, time_ms=5)
    (group,) = resting.turn()
    before = group.look()
    group.rested_ms = 7
    resting.wake("q00001")
    assert (resting.astir, resting.rested_ms) == ({"q00001"}, {"q00001": 7})
    assert group.look() != before
    resting.rest("q00001", 6)
    assert group.rested_ms == 6  # nobody knows of a later instant at which both were
    assert (resting.astir, resting.rested_ms) == (set(), {})


def test_what_is_new_is_looked_at_by_itself_and_what_is_forgotten_no_more() -> None:
    resting = at_rest(3)
    resting.keep(["q00000", "new"])
    assert resting.astir == {"new"}
    assert resting.names == ["q00000"]
    assert resting.rested_ms == {}


def test_a_group_of_which_all_have_woken_is_not_asked_about() -> None:
    resting = at_rest(1)
    resting.wake("q00000")
    assert resting.turn() == []
