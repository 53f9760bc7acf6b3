"""Which tasks have series of their own: bounded, and none moves to another series."""

from __future__ import annotations

from headrace.timings import tally
from headrace.timings.recorder import OTHERS
from headrace.web.histograms import MOST, Choice


def runs(count: int) -> tally.Tally:
    counts = tally.empty()
    counts[tally.RUNS] = count
    return counts


def test_few_tasks_all_have_series_of_their_own() -> None:
    shown = Choice().part({"q": {"a": runs(1), "b": runs(2)}, "r": {"a": runs(3)}})
    assert {pair: one[tally.RUNS] for pair, one in shown.items()} == {
        ("q", "a"): 1, ("q", "b"): 2, ("r", "a"): 3,
    }  # fmt: skip


def test_of_many_the_first_by_name_have_and_the_others_a_sum_for_each_queue() -> None:
    choice = Choice()
    found = {f"q{q}": {f"t{t:02}": runs(q * 50 + t + 1) for t in range(50)} for q in range(6)}
    shown = choice.part(found)
    own = [pair for pair in shown if pair[1] != OTHERS]
    assert len(own) == MOST
    assert {queue for queue, _ in own} == {"q0", "q1", "q2", "q3"}
    assert shown["q4", OTHERS][tally.RUNS] == sum(range(201, 251))


def test_two_processes_choose_the_same_whichever_is_busy_when_they_begin() -> None:
    tasks = [f"t{t:03}" for t in range(MOST + 10)]
    one = Choice().part({"q": {task: runs(n) for n, task in enumerate(tasks)}})
    other = Choice().part({"q": {task: runs(1_000 - n) for n, task in enumerate(tasks)}})
    assert one.keys() == other.keys()


def test_no_task_leaves_its_series_and_no_sum_falls() -> None:
    choice = Choice()
    tasks = {f"t{t:03}": runs(1_000 - t) for t in range(MOST + 10)}
    before = choice.part({"q": tasks})
    tasks["t205"] = runs(10**6)  # the busiest, meanwhile
    after = choice.part({"q": {**tasks, OTHERS: runs(5)}})
    assert after.keys() == before.keys()
    assert all(after[pair][tally.RUNS] >= one[tally.RUNS] for pair, one in before.items())
    assert ("q", "t205") not in after


def test_a_queue_that_is_forgotten_leaves_its_place_to_others() -> None:
    choice = Choice()
    choice.part({"q": {f"t{t}": runs(1) for t in range(MOST)}})
    assert choice.part({"r": {"new": runs(1)}}).keys() == {("r", "new")}
