"""The arithmetic of timings: buckets, percentiles, what is counted of a job that has ended."""

from __future__ import annotations

import uuid
import weakref
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace import wire
from headrace.clock import monotonic, now_ms
from headrace.ids import LENGTH, new_id
from headrace.keys import Keys, keys_of
from headrace.operations import Verb
from headrace.timings import Recorder, recorder, tally
from headrace.timings.recorder import OTHERS, ready_at_ms
from headrace.timings.tally import BOUNDS_S, Histogram, bucket_of
from headrace.wire import Body, Head


@dataclass
class Ended:
    """A job that has ended, as the recorder sees one."""

    head: Head
    started: float = 0.0
    decoded: Body | None = None
    k: Keys = keys_of("queue")
    task: Any = None


def test_a_bound_belongs_to_the_bucket_below_it() -> None:
    assert [bucket_of(bound) for bound in BOUNDS_S] == list(range(len(BOUNDS_S)))
    assert bucket_of(0.0) == 0
    assert bucket_of(BOUNDS_S[-1] + 1) == len(BOUNDS_S)


@given(st.lists(st.floats(0, 10_000), min_size=1), st.sampled_from([0.5, 0.95, 0.99, 1.0]))
def test_a_quantile_is_in_the_bucket_of_the_true_one(seconds: list[float], share: float) -> None:
    counts = [0] * (len(BOUNDS_S) + 1)
    for one in seconds:
        counts[bucket_of(one)] += 1
    found = Histogram(counts, sum(seconds)).quantile(share)
    assert found is not None
    true = sorted(seconds)[max(0, -(-int(share * len(seconds) * 1e9) // 10**9) - 1)]
    at = bucket_of(true)
    low = BOUNDS_S[at - 1] if 0 < at else 0.0
    high = BOUNDS_S[min(at, len(BOUNDS_S) - 1)]
    assert low <= found + 1e-9
    assert found <= high + 1e-9 or (share < 1.0 and bucket_of(found) <= at + 1)


def test_of_nothing_there_is_no_quantile() -> None:
    assert Histogram([0] * (len(BOUNDS_S) + 1), 0.0).quantile(0.5) is None


def test_cumulated_counts_rise_to_the_count() -> None:
    histogram = Histogram([1, 2] + [0] * (len(BOUNDS_S) - 2) + [4], 1.5)
    found = histogram.cumulated()
    assert found[0] == (0.005, 1)
    assert found[-1] == (float("inf"), 7)
    assert histogram.count == 7
    assert [count for _, count in found] == sorted(count for _, count in found)


def test_a_tally_is_read_as_it_was_written_also_by_another_version() -> None:
    one = [*range(len(tally.empty()))]
    assert tally.read(tally.write(one).encode()) == one
    assert tally.read(b"1 2") == [1, 2, *tally.empty()[2:]]
    assert tally.read((tally.write(one) + " 7 8").encode()) == one
    assert tally.read(b"not ours") == tally.empty()


def test_tallies_with_a_number_before_are_read_in_bulk_and_what_is_not_ours_is_of_no_time() -> None:
    one = [*range(len(tally.empty()))]
    ours = [b"7 " + tally.write(one).encode(), None, b"8 1 2", b"9 " + b"1 " * 60 + b"1"]
    found = tally.read_dated(ours)
    assert found[0] == [7, *one]
    assert found[1][0] == -1
    assert found[2] == [8, 1, 2, *tally.empty()[2:]]
    assert found[3] == [9, *[1] * len(one)]
    for broken in (
        b"not ours",
        b"8 -1",
        b"1],[2",
        b"",
        b"1 ] 2",
        b"[1]",
        b"1e3",
        b"\xff",
    ):
        mixed = tally.read_dated([ours[0], broken, ours[2]])
        assert (mixed[0], mixed[2]) == (found[0], found[2])
        assert mixed[1][0] == -1
    assert tally.read_dated([]) == []


@given(st.lists(st.lists(st.integers(0, 2**60), min_size=41, max_size=41), max_size=5))
def test_tallies_added_in_bulk_are_the_sum_of_each(rows: list[list[int]]) -> None:
    into = [*range(len(tally.empty()))]
    tally.add_dated(into, [[7, *row] for row in rows])
    assert into == tally.total([[*range(len(tally.empty()))], *rows])


def test_tallies_add_up() -> None:
    assert tally.total([]) == tally.empty()
    one = [*range(len(tally.empty()))]
    assert tally.total([one, one]) == [2 * n for n in one]


def test_a_job_is_ready_when_it_was_enqueued_or_is_due() -> None:
    job_id = new_id()
    made_ms = ready_at_ms(job_id, b"")
    assert made_ms is not None
    assert abs(made_ms - now_ms()) < 60_000
    assert ready_at_ms(job_id, b'"+500"') == made_ms + 500
    assert ready_at_ms(job_id, b'"@%d"' % (made_ms + 9)) == made_ms + 9
    assert ready_at_ms(job_id, b'"@1"') == made_ms  # it was due before: at once
    assert ready_at_ms("order-17", b'"+500"') is None


FOREIGN_DUES = (
    *("null", "5", "-1", "1e999", "9" * 400, "true", "[]", '{"at":5}', '""', '"tomorrow"', '"+"'),
    *(f'"+{"9" * 400}"', f'"@{"9" * 5_000}"', '"+1234567890123456"', '"+٣"', '"+5\\n"'),
)


@pytest.mark.parametrize("due", FOREIGN_DUES)
def test_when_a_job_was_due_that_is_not_in_our_form_counts_as_not_told(due: str) -> None:
    body = wire.read_body(b'{"id":"x","task":"pay","due":%b}' % due.encode())
    assert ready_at_ms(job_id := new_id(), bytes(body.due)) == ready_at_ms(job_id, b"")
    found = counted((Ended(Head(new_id()), monotonic(), body), "done"))[OTHERS]
    assert tally.waits(found).count == 1


def counted(*jobs: tuple[Ended, Verb], now: int | None = None) -> dict[str, list[int]]:
    record = Recorder(lambda: now_ms() if now is None else now)
    for job, verb in jobs:
        record.note(job, verb)
    return {task: [*counts] for task, counts in record.take().get("queue", {}).items()}


def test_a_run_counts_with_its_end_its_wait_and_its_time() -> None:
    task, start = SimpleNamespace(name="pay"), monotonic() - 0.2
    made_ms = ready_at_ms(job_id := new_id(), b"")
    assert made_ms is not None
    found = counted((Ended(Head(job_id), start, task=task), "done"), now=made_ms + 3_200)["pay"]
    assert (found[tally.RUNS], found[tally.DONE], found[tally.DEAD]) == (1, 1, 0)
    assert tally.waits(found).count == tally.run_times(found).count == 1
    assert tally.run_times(found).sum_s == pytest.approx(0.2, abs=60)
    assert tally.run_times(found).sum_s >= 0.2
    assert 0 <= tally.waits(found).sum_s <= 3.0


def test_no_wait_is_negative_when_a_producers_clock_is_ahead() -> None:
    found = counted((Ended(Head(new_id()), monotonic()), "done"), now=now_ms() - 3_600_000)[OTHERS]
    assert (tally.waits(found).sum_s, tally.waits(found).counts[0]) == (0, 1)


def test_the_wait_of_a_job_in_a_partition_is_known() -> None:
    found = counted((Ended(Head(f"{new_id()}@3"), monotonic()), "done"))[OTHERS]
    assert tally.waits(found).count == 1


def test_a_delayed_job_waits_from_when_it_is_due() -> None:
    body = wire.read_body(b'{"id":"x","task":"pay","due":"+60000"}')
    found = counted((Ended(Head(new_id()), monotonic(), body), "done"))[OTHERS]
    assert tally.waits(found).counts[0] == 1


FOREIGN_IDS = ("17", "w" * LENGTH, "+" + new_id()[1:], uuid.UUID(int=2**127).hex)


@pytest.mark.parametrize(
    "head",
    [Head(new_id(), attempt=1), Head(new_id(), crashes=1), *map(Head, FOREIGN_IDS)],
)
def test_since_when_a_job_waits_that_has_failed_or_is_foreign_nobody_knows(head: Head) -> None:
    found = counted((Ended(head, monotonic()), "retry"))[OTHERS]
    assert (found[tally.RUNS], found[tally.RETRIED], tally.waits(found).count) == (1, 1, 0)


def test_jobs_of_many_tasks_are_added_up_as_often_as_those_of_one() -> None:
    record, at_once = Recorder(now_ms), recorder._AT_ONCE
    for n in range(at_once):
        assert sum(map(len, record._rows.values())) == n
        record.note(Ended(Head(new_id()), task=SimpleNamespace(name=f"task {n % 100}")), "done")
    assert not record._rows
    assert sum(counts[tally.DONE] for counts in record.take()["queue"].values()) == at_once


def test_what_is_given_back_or_put_off_has_not_ended() -> None:
    record = Recorder(now_ms)
    for verb in ("release", "park"):
        record.note(Ended(Head(new_id()), monotonic()), verb)
    assert record.take() == {}
    assert record.ends == {"release": 1, "park": 1}


def test_what_ended_without_a_run_counts_as_that() -> None:
    found = counted((Ended(Head(new_id())), "dead"), (Ended(Head(new_id())), "drop"))[OTHERS]
    assert (found[tally.DEAD], found[tally.RUNS], tally.waits(found).count) == (2, 0, 0)


@given(st.lists(st.floats(-10, 10_000), max_size=50))
def test_durations_counted_together_count_as_one_by_one(seconds: list[float]) -> None:
    together = tally.empty()
    tally.add_waits(together, seconds)
    one_by_one = tally.empty()
    for each in seconds:
        one_by_one[tally.WAITS + bucket_of(each)] += 1
    assert tally.waits(together).counts == tally.waits(one_by_one).counts
    assert tally.waits(together).sum_s == pytest.approx(
        sum(each for each in seconds if each > 0), abs=1e-6 * (len(seconds) + 1)
    )


def test_of_thousands_of_jobs_of_many_tasks_each_is_counted_once() -> None:
    record, queues = Recorder(now_ms), (keys_of("queue"), keys_of("other"))
    jobs = [
        Ended(Head(new_id()), monotonic() - number % 7, k=queues[number % 2], task=task)
        for number, task in enumerate([SimpleNamespace(name=name) for name in "abc"] * 700)
    ]
    for job in jobs:
        record.note(job, "done")
    taken = record.take()
    assert {
        (queue, task): counts[tally.DONE]
        for queue in taken
        for task, counts in taken[queue].items()
    } == {(queue, task): 350 for queue in ("queue", "other") for task in "abc"}
    runs = [tally.run_times(counts) for found in taken.values() for counts in found.values()]
    assert sum(run.count for run in runs) == len(jobs)
    assert sum(run.sum_s for run in runs) >= sum(number % 7 for number in range(len(jobs)))


def test_what_ended_is_not_kept_until_it_is_told() -> None:
    record, job = Recorder(now_ms), Ended(Head(new_id()), monotonic())
    gone = weakref.ref(job)
    record.note(job, "done")
    del job
    assert gone() is None


def test_what_is_put_back_is_told_with_what_came_since() -> None:
    record = recorder.Recorder(now_ms)
    record.note(Ended(Head(new_id())), "dead")
    taken = record.take()
    record.note(Ended(Head(new_id())), "dead")
    record.put_back("queue", taken["queue"])
    assert record.take()["queue"][OTHERS][tally.DEAD] == 2
    assert record.take() == {}
