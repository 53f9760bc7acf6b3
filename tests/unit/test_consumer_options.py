"""What a consumer is told is checked before it connects."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.cli.queues import parse_queues
from headrace.consumer import ConsumerOptions
from headrace.consumer.options import QueueWeight
from headrace.errors import InvalidSetting

QUEUES = (QueueWeight("queue"),)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"queues": ()}, "at least one queue"),
        ({"concurrency": 0}, "concurrency=0 must be from 1 to 10000"),
        ({"concurrency": 10_001}, "concurrency=10001 must be from 1 to 10000"),
        ({"max_jobs": 0}, "max_jobs=0 must be 1 or more"),
        ({"grace_s": -0.1}, "0 seconds or more"),
        ({"unknown_task_ttl_s": -1}, "0 seconds or more"),
        *(({"name": name}, "cannot be a consumer's name") for name in ("", "a b", "a:1", "ä")),
        ({"name": "a" * 101}, "cannot be a consumer's name"),
    ],
)
def test_what_has_no_meaning_is_refused_with_what_would_do(
    wrong: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidSetting, match=said):
        ConsumerOptions(**({"queues": QUEUES} | wrong))


@pytest.mark.parametrize(
    "right",
    [
        *({"concurrency": number} for number in (None, 1, 10_000)),
        *({"max_jobs": number} for number in (None, 1)),
        {"grace_s": 0, "unknown_task_ttl_s": 0},
        *({"name": name} for name in (None, "a", "host-1.x", "a" * 100)),
    ],
)
def test_what_has_one_is_taken(right: dict[str, Any]) -> None:
    options = ConsumerOptions(QUEUES, **right)
    assert {name: getattr(options, name) for name in right} == right


class TestQueues:
    def test_they_are_taken_in_order_or_by_weight(self) -> None:
        assert parse_queues("a, b") == (QueueWeight("a"), QueueWeight("b"))
        assert parse_queues("a:3,b:1") == (QueueWeight("a", 3), QueueWeight("b", 1))

    @pytest.mark.parametrize("text", ["a:0", "a:-1", "a:x", "a:", "a:1.5", "a:٣", "a:1000001"])
    def test_a_weight_is_a_whole_number_from_1(self, text: str) -> None:
        with pytest.raises(InvalidSetting, match="must be a whole number from 1"):
            parse_queues(text)

    def test_none_is_named_twice(self) -> None:
        with pytest.raises(InvalidSetting, match="'a,b,a' names a queue twice"):
            parse_queues("a,b,a")

    def test_all_have_a_weight_or_none(self) -> None:
        with pytest.raises(InvalidSetting, match="give every queue a weight, or none"):
            parse_queues("a:1,b")

    @pytest.mark.parametrize("text", ["", "a,,b", "a{b}"])
    def test_a_name_has_to_be_one(self, text: str) -> None:
        with pytest.raises(InvalidSetting):
            parse_queues(text)
