"""Charts: scales that people can read, bars that do not lie, and the same in words."""

from __future__ import annotations

import pytest

from headrace.timings import tally
from headrace.timings.recent import Recent
from headrace.timings.tally import Tally
from headrace.web.filters import lasting
from headrace.web.pages import charts, statistics
from headrace.web.pages.charts import ABOVE, HEIGHT, Column, Part

MINUTE_MS = 60_000
NOON_MS = 1_800_000_000_000 // 86_400_000 * 86_400_000 + 12 * 60 * MINUTE_MS


def column(n: int, *parts: tuple[str, float]) -> Column:
    return Column(NOON_MS + n * MINUTE_MS, tuple(Part(*one) for one in parts), f"column {n}")


def counts(
    *, done: int = 0, dead: int = 0, retried: int = 0, waited_s: float | None = None
) -> Tally:
    found = tally.empty()
    found[tally.DONE], found[tally.DEAD], found[tally.RETRIED] = done, dead, retried
    found[tally.RUNS] = done + dead + retried
    if waited_s is not None:
        found[tally.WAITS + tally.bucket_of(waited_s)] = done
    return found


def recent(
    minutes: dict[int, Tally], *, asked: int = 60, now_ms: int = NOON_MS + 30_000, told: bool = True
) -> Recent:
    """Give the last minutes, of which those are not empty that are so many minutes ago."""
    starts = [NOON_MS - n * MINUTE_MS for n in reversed(range(asked))]
    found = {at: minutes.get((NOON_MS - at) // MINUTE_MS, tally.empty()) for at in starts}
    return Recent(now_ms, found, {}, starts[0], told)


class TestScales:
    @pytest.mark.parametrize(
        ("largest", "top"),
        [(0, 1), (1, 1), (2, 2), (3, 4), (5, 6), (7, 8), (9, 10), (10, 10), (11, 20), (41, 60), (99, 100), (101, 200)],
    )  # fmt: skip
    def test_of_counts_end_at_a_number_whose_half_is_whole(self, largest: int, top: int) -> None:
        assert charts.top_of_count(largest) == top

    @pytest.mark.parametrize("largest", [*range(1, 2_000, 7), 10**6 + 1, 10**9])
    def test_of_counts_hold_the_largest_and_use_most_of_the_room(self, largest: int) -> None:
        assert largest <= charts.top_of_count(largest) <= max(2, 2 * largest)

    @pytest.mark.parametrize(
        ("largest", "top"), [(0, 0.01), (0.015, 0.02), (0.5, 0.6), (61, 120), (7200, 7200), (1e9, 7200)]
    )  # fmt: skip
    def test_of_seconds_end_at_a_length_that_has_a_name(self, largest: float, top: float) -> None:
        assert charts.top_of_seconds(largest) == top

    def test_have_three_levels_and_one_of_a_single_job_two(self) -> None:
        plot = charts.counted([column(0, ("done", 35))], 1)
        assert [one.says for one in plot.levels] == ["0", "20", "40"]
        assert [one.at for one in plot.levels] == [ABOVE + HEIGHT, ABOVE + HEIGHT / 2, ABOVE]
        assert [one.says for one in charts.counted([column(0)], 1).levels] == ["0", "1"]

    @pytest.mark.parametrize(
        ("number", "says"),
        [(0, "0"), (1500, "1,500"), (20_000, "20k"), (400_000, "400k"), (2_000_000, "2M")],
    )
    def test_of_many_are_short(self, number: float, says: str) -> None:
        assert charts.short_count(number) == says

    def test_of_seconds_are_written_in_their_unit(self) -> None:
        plot = charts.lasting([column(0, ("half", 100.0))], 1)
        assert [one.says for one in plot.levels] == ["0", "1 min", "2 min"]


class TestBars:
    def test_are_as_tall_as_they_are_many(self) -> None:
        (drawn,) = charts.counted([column(0, ("done", 5)), column(1)], 1).columns
        assert drawn.bars == ((("done", round(ABOVE + HEIGHT / 6, 1), round(HEIGHT * 5 / 6, 1))),)

    def test_stand_upon_each_other(self) -> None:
        (drawn,) = charts.counted([column(0, ("dead", 3), ("retried", 1))], 1).columns
        dead, retried = drawn.bars
        assert dead.y + dead.height == ABOVE + HEIGHT
        assert retried.y + retried.height == dead.y
        assert retried.y == ABOVE

    def test_of_very_few_beside_very_many_are_seen(self) -> None:
        few, _ = charts.counted([column(0, ("done", 1)), column(1, ("done", 10**6))], 1).columns
        assert few.bars[0].height >= 1

    def test_of_empty_minutes_are_not_drawn_and_keep_their_place(self) -> None:
        plot = charts.counted([column(0, ("done", 1)), column(1), column(2, ("done", 1))], 1)
        first, last = plot.columns
        assert last.x - first.x == pytest.approx(200 / 3, abs=0.1)

    def test_fill_the_width_and_do_not_touch(self) -> None:
        drawn = charts.counted([column(n, ("done", 1)) for n in range(60)], 1).columns
        assert drawn[0].x > 0
        assert drawn[-1].x + drawn[-1].width <= 100
        assert all(
            one.x + one.width < next_.x for one, next_ in zip(drawn, drawn[1:], strict=False)
        )


class TestTimes:
    @pytest.mark.parametrize(
        ("minutes", "step", "says"),
        [
            (60, 1, ["11:15", "11:30", "11:45", "now"]),
            (360, 10, ["07:00", "08:00", "09:00", "10:00", "11:00", "now"]),
            (1440, 20, ["16:00", "20:00", "00:00", "04:00", "08:00", "now"]),
        ],
    )
    def test_are_whole_and_few_enough_for_a_phone(
        self, minutes: int, step: int, says: list[str]
    ) -> None:
        starts = [NOON_MS - n * MINUTE_MS for n in reversed(range(0, minutes, step))]
        marks = charts.times(starts, step)
        assert [one.says for one in marks] == says
        assert all(b.at - a.at > 9 for a, b in zip(marks, marks[1:], strict=False))

    def test_stand_below_the_minute_that_they_name(self) -> None:
        starts = [NOON_MS - n * MINUTE_MS for n in reversed(range(60))]
        mark = charts.times(starts, 1)[0]
        assert starts[round(mark.at / 100 * 60)] == NOON_MS - 45 * MINUTE_MS

    def test_of_nothing_are_none(self) -> None:
        assert charts.times([], 1) == ()


class TestLately:
    def test_each_minute_has_a_row_also_the_empty_ones(self) -> None:
        shown = statistics.shown(recent({0: counts(done=2), 30: counts(done=5)}), 60)
        assert [one.done for one in shown.slices].count(0) == 58
        assert len(shown.slices) == 60
        assert [one.is_whole for one in shown.slices] == [True] * 59 + [False]

    def test_steps_are_those_of_the_clock_and_only_whole_ones(self) -> None:
        last_ms = NOON_MS + 10 * MINUTE_MS
        tens = {last_ms - n * 10 * MINUTE_MS: counts(done=1) for n in reversed(range(143))}
        now_ms = last_ms + 30_000
        shown = statistics.shown(Recent(now_ms, tens, {}, 0, True), 1440)
        assert all(one.at_ms % (20 * MINUTE_MS) == 0 for one in shown.slices)
        assert {one.done for one in shown.slices} == {2}
        assert [one.is_whole for one in shown.slices] == [True] * 70 + [False]
        assert shown.slices[0].at_ms == min(tens) + 10 * MINUTE_MS

    def test_the_first_step_is_shown_if_it_is_the_only_one(self) -> None:
        found = Recent(NOON_MS, {NOON_MS: counts(done=1)}, {}, NOON_MS, True)
        assert [one.done for one in statistics.slices_of(found, 5)] == [1]

    def test_a_chart_says_what_it_shows(self) -> None:
        found = recent({3: counts(done=7, dead=2, retried=1, waited_s=0.2), 9: counts(done=1)})
        done, failed, waited = statistics.shown(found, 60).charts
        assert done.says == "Jobs done, by the minute: 8 in all; most at 11:57 UTC, 7."
        assert failed.says == (
            "Failures, by the minute: 2 for good, 1 to be tried again; most at 11:57 UTC, 3."
        )
        assert "by the minute: half within 170 ms, 95 % within 240 ms." in waited.says
        (column,) = failed.plot.columns
        assert column.says == "11:57: 2 failed for good, 1 to be tried again"

    def test_of_minutes_without_waits_none_is_drawn(self) -> None:
        waited = statistics.shown(recent({3: counts(dead=2)}), 60).charts[2]
        assert waited.plot.columns == ()
        assert waited.says.endswith("nothing was measured.")

    def test_tasks_are_the_busiest_first_and_of_nothing_measured_is_nothing_said(self) -> None:
        tasks = {"a": counts(done=1), "b": counts(done=9, waited_s=3.0), "c": counts(done=1)}
        rows = statistics.shown(Recent(NOON_MS, {NOON_MS: tally.empty()}, tasks, 0, True), 60).tasks
        assert [row.task for row in rows] == ["b", "a", "c"]
        assert rows[0].wait is not None
        assert rows[1].wait is None


class TestRanges:
    def test_are_on_a_scale_of_powers_of_ten(self) -> None:
        assert statistics.place_of(0) == statistics.place_of(0.001) == 0
        assert statistics.place_of(7200) == statistics.place_of(1e9) == 100
        tenth, one, ten = (statistics.place_of(at_s) for at_s in (0.1, 1, 10))
        assert one - tenth == pytest.approx(ten - one, abs=0.2)

    @pytest.mark.parametrize(
        ("seconds", "says"),
        [
            (0.0001, "5 ms"), (0.0123, "12 ms"), (0.999, "1 s"), (0.46, "460 ms"), (1.54, "1.5 s"), (12.6, "13 s"),
            (99.0, "1.6 min"), (59.4, "59 s"), (59.9, "1 min"), (5400, "1.5 h"), (7200, "over 2 h"),
        ],
    )  # fmt: skip
    def test_are_as_exact_as_the_buckets(self, seconds: float, says: str) -> None:
        assert lasting(seconds) == says
