"""Keys are spelled in one place, as the seed spelled them."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import InvalidSetting
from headrace.keys import LEADER, QUEUES, keys_of

names = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters=":{}"), max_size=99)


def test_the_default_queue_has_the_seeds_three_keys() -> None:
    k = keys_of("queue")
    assert (k.pending, k.processing, k.dead) == ("queue", "queue:processing", "queue:dlq")


def test_another_queue_has_its_own() -> None:
    k = keys_of("emails")
    assert (k.pending, k.processing, k.dead) == ("emails", "emails:processing", "emails:dlq")
    assert k.result("a") == "emails:result:a"
    assert k.unique("user:1") == "emails:unique:user:1"


@given(names.map(lambda name: f"q{name}"))
def test_no_two_keys_of_a_queue_are_one(name: str) -> None:
    k = keys_of(name)
    used = [value for field, value in dataclasses.asdict(k).items() if field != "queue"]
    assert len(set(used)) == len(used)
    assert not {QUEUES, LEADER} & set(used)


@pytest.mark.parametrize(
    "name",
    ["", " ", "a b", "a:b", "a{b", "a}b", "a\n", "a\t", "a\x00", "a\u00a0b", "q" * 101],
)
def test_a_name_that_would_break_keys_is_refused_with_what_would_do(name: str) -> None:
    with pytest.raises(InvalidSetting, match="cannot be a queue's name: use 1 to 100"):
        keys_of(name)


@pytest.mark.parametrize("name", ["q", "q" * 100, "über-öl", "a.b/c-d_e", "0", "headrace"])
def test_any_other_name_will_do(name: str) -> None:
    assert keys_of(name).pending == name
