"""How often a consumer's process looks for garbage."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from headrace import garbage


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


@pytest.mark.parametrize("young", [700, 2_000])
def test_python_s_own_number_becomes_larger(young: int) -> None:
    gc.set_threshold(young, 10, 10)
    garbage.look_less_often()
    assert gc.get_threshold()[0] == garbage.YOUNG
    assert gc.get_freeze_count() > 0


@pytest.mark.parametrize("young", [0, 50_000])
def test_what_an_application_has_chosen_stays(young: int) -> None:
    gc.set_threshold(young, 10, 10)
    garbage.look_less_often()
    assert gc.get_threshold()[0] == young
