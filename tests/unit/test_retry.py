"""Backoff grows to its bound, and jitter takes a random part of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import InvalidSetting
from headrace.retry import Backoff


def delays(backoff: Backoff, count: int = 6) -> list[float]:
    return [backoff.delay_s(failures) for failures in range(1, count + 1)]


def test_it_doubles_from_its_base() -> None:
    assert delays(Backoff(jitter=False)) == [2, 4, 8, 16, 32, 64]


def test_it_is_bounded() -> None:
    assert delays(Backoff(base_s=1, factor=10, max_s=50, jitter=False)) == [1, 10, 50, 50, 50, 50]


def test_a_factor_of_1_keeps_it_even() -> None:
    assert delays(Backoff(base_s=3, factor=1, jitter=False)) == [3] * 6


@pytest.mark.parametrize("nothing", [{"base_s": 0}, {"max_s": 0}])
def test_a_base_or_a_bound_of_0_waits_for_nothing(nothing: dict[str, float]) -> None:
    assert delays(Backoff(**nothing)) == [0] * 6  # type: ignore[arg-type]


def test_jitter_takes_the_part_that_chance_says() -> None:
    backoff = Backoff(base_s=8, factor=2)
    assert backoff.delay_s(2, lambda: 0.0) == 0
    assert backoff.delay_s(2, lambda: 0.25) == 4


@given(st.integers(1, 10**9))
def test_however_many_failures_it_stays_within_its_bound(failures: int) -> None:
    assert 0 <= Backoff().delay_s(failures) <= 600
    assert Backoff(jitter=False).delay_s(failures) <= 600


@pytest.mark.parametrize("wrong", [{"base_s": -1}, {"factor": 0.5}, {"max_s": -1}])
def test_what_has_no_meaning_is_refused_with_what_would_do(wrong: dict[str, float]) -> None:
    with pytest.raises(
        InvalidSetting, match="^a backoff needs base_s >= 0, factor >= 1 and max_s >= 0$"
    ):
        Backoff(**wrong)  # type: ignore[arg-type]
