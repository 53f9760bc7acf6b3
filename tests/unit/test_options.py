"""Options are checked where they are written, and say what would do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import InvalidJob, InvalidSetting
from headrace.options import Placement, TaskOptions, placement, seconds, types


def placed(**options: Any) -> Placement:
    return placement(options)  # type: ignore[arg-type]


class TestSeconds:
    @pytest.mark.parametrize(
        ("value", "read"), [(0, 0), (1.5, 1.5), (60, 60), (timedelta(minutes=2), 120)]
    )
    def test_a_number_or_a_timedelta_will_do(self, value: Any, read: float) -> None:
        assert seconds("delay", value) == read

    @pytest.mark.parametrize(
        "value",
        [-1, timedelta(seconds=-1), True, "5", None, float("nan"), float("inf"), 1e12, [1]],
    )
    def test_what_is_no_time_is_refused_by_its_name(self, value: Any) -> None:
        with pytest.raises(InvalidSetting, match="delay=.* must be a number of seconds"):
            seconds("delay", value)

    def test_0_is_refused_where_it_has_no_meaning(self) -> None:
        with pytest.raises(InvalidSetting, match="timeout=0 must be more than 0"):
            seconds("timeout", 0, zero=False)


class TestDue:
    def test_without_a_time_a_job_is_due_now(self) -> None:
        assert placed() == Placement()

    @pytest.mark.parametrize(
        ("delay", "due"),
        [(0, ""), (1.5, "+1500"), (timedelta(hours=1), "+3600000"), (0.0001, "+1")],
    )
    def test_a_delay_is_from_now(self, delay: Any, due: str) -> None:
        assert placed(delay=delay).due == due

    @pytest.mark.parametrize(
        "at",
        [
            1_700_000_000,
            datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC),
            datetime(2023, 11, 15, 0, 13, 20, tzinfo=timezone(timedelta(hours=2))),
        ],
    )
    def test_an_instant_is_an_aware_datetime_or_seconds(self, at: Any) -> None:
        assert placed(at=at).due == "@1700000000000"

    @given(st.datetimes(datetime(1970, 1, 2), datetime(9999, 1, 1), timezones=st.just(UTC)))
    def test_an_instant_is_exact_to_the_millisecond_and_never_early(self, at: datetime) -> None:
        due = timedelta(milliseconds=int(placed(at=at).due[1:]))
        early = (at - datetime(1970, 1, 1, tzinfo=UTC)) - due
        assert timedelta(milliseconds=-1) < early <= timedelta(0)

    def test_a_datetime_without_a_zone_is_refused_with_what_to_do(self) -> None:
        with pytest.raises(InvalidJob, match="no time zone: use datetime.now"):
            placed(at=datetime(2030, 1, 1))

    @pytest.mark.parametrize("at", ["tomorrow", -1, True, None, float("nan"), 1e14])
    def test_what_is_no_instant_is_refused(self, at: Any) -> None:
        with pytest.raises(InvalidJob, match="must be an aware datetime or seconds since 1970"):
            placed(at=at)

    def test_both_are_too_many(self) -> None:
        with pytest.raises(InvalidJob, match="either delay= or at="):
            placed(delay=1, at=1)


class TestJobOptions:
    def test_what_is_of_the_body_is_written_there(self) -> None:
        options = placed(timeout=timedelta(seconds=5), max_attempts=7, result_ttl=60)
        assert options.fields == {"timeout": 5.0, "result_ttl": 60.0, "max_attempts": 7}

    def test_what_is_of_the_place_is_not(self) -> None:
        options = placed(queue="q", priority=-3, key="k", key_ttl=1.5)
        assert options == Placement(queue="q", priority=-3, key="k", key_ttl_ms=1_500)

    def test_a_key_lives_until_its_job_ends_unless_a_time_is_asked_for(self) -> None:
        assert placed(key="k").key_ttl_ms == 0
        assert placed(key="k", key_ttl=60).key_ttl_ms == 60_000
        assert placed(key="k", key_ttl=0.0001).key_ttl_ms == 1

    @pytest.mark.parametrize("priority", [-100, 0, 100])
    def test_a_priority_is_from_minus_100_to_100(self, priority: int) -> None:
        assert placed(priority=priority).priority == priority

    @pytest.mark.parametrize("priority", [-101, 101, 1.0, "1", True, None])
    def test_another_is_refused(self, priority: Any) -> None:
        with pytest.raises(InvalidJob, match="priority=.* whole number from -100 to 100"):
            placed(priority=priority)

    @pytest.mark.parametrize(
        ("option", "value"),
        [
            *(("max_attempts", 0), ("max_attempts", 1.5), ("max_attempts", True)),
            *(("timeout", 0), ("timeout", -1), ("result_ttl", 0), ("result_ttl", "1")),
            *(("key", ""), ("key", "k" * 513), ("key", b"k"), ("key_ttl", 0), ("delay", -1)),
        ],
    )
    def test_a_value_without_meaning_is_refused_by_its_name(self, option: str, value: Any) -> None:
        with pytest.raises(InvalidJob, match=f"{option}="):
            placed(**{option: value})

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({"if_exists": "skip"}, "if_exists='skip' must be one of keep, reject, replace"),
            ({"key_until": "done"}, "key_until='done' must be one of end, start"),
            ({"if_exists": "replace", "key": None}, "are about a key: give key="),
            ({"key_until": "start", "key": None}, "are about a key: give key="),
            ({"if_exists": "throttle"}, "throttle needs key_ttl="),
            ({"if_exists": "debounce"}, "debounce needs delay= or at="),
            ({"if_exists": "debounce", "delay": 1, "key_ttl": 1}, "leave it out with replace"),
            ({"key_until": "start", "key_ttl": 1}, "leave it out with replace"),
        ],
    )
    def test_what_a_key_cannot_do_is_refused(self, options: dict[str, Any], says: str) -> None:
        with pytest.raises(InvalidJob, match=says):
            placed(**{"key": "k", **options})

    def test_an_unknown_option_is_refused_with_those_that_are_known(self) -> None:
        with pytest.raises(InvalidJob, match=r"unknown option prioriti: .*delay.*priority.*queue"):
            placed(prioriti=1)


class TestTaskOptions:
    def test_the_defaults(self) -> None:
        options = TaskOptions("q")
        assert (options.max_attempts, options.timeout_s, options.result_ttl_s) == (3, None, None)
        assert options.dead_letter

    @pytest.mark.parametrize("attempts", [0, -1, True])
    def test_a_task_is_tried_once_or_more(self, attempts: int) -> None:
        with pytest.raises(InvalidSetting, match="max_attempts=.* must be 1 or more"):
            TaskOptions("q", max_attempts=attempts)

    def test_one_exception_class_or_several_will_do(self) -> None:
        assert types("retry_on", ValueError) == (ValueError,)
        assert types("retry_on", [ValueError, OSError]) == (ValueError, OSError)
        assert types("retry_on", ()) == ()

    @pytest.mark.parametrize("value", ["ValueError", ValueError("no"), int, [ValueError, 1], None])
    def test_what_is_none_is_refused_by_its_name(self, value: Any) -> None:
        with pytest.raises(InvalidSetting, match="retry_on=.* must be exception classes"):
            types("retry_on", value)
