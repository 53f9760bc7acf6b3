"""The limits of a run are checked where they are written, and say what would do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from headrace import Headrace, InvalidJob, InvalidSetting
from headrace.expiry import NEVER_MS
from headrace.options import placement
from headrace.run_limits import NO_LIMITS, RunLimits

app: Any = Headrace("redis://127.0.0.1:1")


def limits(**options: Any) -> RunLimits:
    found: RunLimits = app.task(name=str(options), **options)(lambda: None).config.limits
    return found


def test_a_task_that_asks_for_none_has_none() -> None:
    assert limits() is NO_LIMITS
    assert limits(soft_timeout=None, isolate=None) is NO_LIMITS


@pytest.mark.parametrize(
    ("memory", "size", "text"),
    [
        (100_000_000, 100_000_000, "95.37 MiB"),
        ("512M", 512 << 20, "512 MiB"),
        ("512 MiB", 512 << 20, "512 MiB"),
        ("1.5g", 3 << 29, "1,536 MiB"),
        ("2TB", 2 << 40, "2.097e+06 MiB"),
        ("65536K", 64 << 20, "64 MiB"),
    ],
)
def test_memory_is_bytes_or_text(memory: Any, size: int, text: str) -> None:
    found = limits(isolate="process", memory=memory)
    assert (found.memory_bytes, found.memory_text) == (size, text)


@pytest.mark.parametrize("memory", ["512X", "", "M", "-1G", "1M", 5, True, 1.5e9, [1], "9" * 30])
def test_memory_without_meaning_is_refused(memory: Any) -> None:
    with pytest.raises(InvalidSetting, match='must be bytes, or text as "512M"'):
        limits(isolate="process", memory=memory)


@pytest.mark.parametrize(("cpu", "seconds"), [(30, 30), (0.2, 1), (timedelta(minutes=1), 60)])
def test_processor_time_is_whole_seconds(cpu: Any, seconds: int) -> None:
    assert limits(isolate="process", cpu=cpu).cpu_s == seconds


@pytest.mark.parametrize("cap", [{"memory": "1G"}, {"cpu": 5}])
def test_a_cap_without_a_process_of_its_own_is_refused_and_it_says_what_to_do(
    cap: dict[str, Any],
) -> None:
    with pytest.raises(InvalidSetting, match='add isolate="process"'):
        limits(**cap)


@pytest.mark.parametrize(
    "options",
    [
        {"isolate": "thread"},
        {"isolate": True},
        {"soft_timeout": 0},
        {"soft_timeout": 10, "timeout": 10},
        {"isolate": "process", "cpu": -1},
    ],
)
def test_what_has_no_meaning_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidSetting):
        limits(**options)


class TestExpires:
    def test_an_instant_stands_in_the_job(self) -> None:
        place = placement({"expires": datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)})
        assert (place.fields, place.expires_ms) == ({"expires_at": 1_700_000_000_000}, 0)

    @pytest.mark.parametrize("expires", [60, timedelta(minutes=1)])
    def test_seconds_wait_for_redis_clock(self, expires: Any) -> None:
        place = placement({"expires": expires})
        assert (place.fields, place.expires_ms) == ({"expires_at": NEVER_MS}, 60_000)

    @pytest.mark.parametrize(
        ("options", "why"),
        [
            ({"expires": datetime(2023, 11, 14)}, "has no time zone"),  # noqa: DTZ001 - that is it
            ({"expires": 0}, "more than 0"),
            ({"expires": "soon"}, "number of seconds"),
        ],
    )
    def test_what_has_no_meaning_is_refused(self, options: Any, why: str) -> None:
        with pytest.raises(InvalidJob, match=why):
            placement(options)

    def test_without_it_there_is_nothing_of_it(self) -> None:
        assert placement({"expires": None}).fields == {}  # type: ignore[typeddict-item]
