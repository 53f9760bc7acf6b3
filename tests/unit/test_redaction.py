"""What is hidden: by names, at any depth, and in what an error says of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace import redaction
from headrace.redaction import MASK, VARIABLE, masked, shown


@pytest.fixture
def hide(monkeypatch: pytest.MonkeyPatch) -> Any:
    return lambda text: monkeypatch.setenv(VARIABLE, text)


def job(**fields: Any) -> bytes:
    return json.dumps({"id": "a", "task": "pay"} | fields).encode()


def test_nothing_is_hidden_that_nobody_asked_for() -> None:
    raw = job(kwargs={"password": "hunter2"})
    assert shown(raw) is raw
    assert masked("hunter2", raw) == "hunter2"


@pytest.mark.parametrize(
    ("rule", "fields", "expected"),
    [
        ("password", {"kwargs": {"password": "x", "n": 1}}, {"kwargs": {"password": MASK, "n": 1}}),
        ("PASSWORD", {"kwargs": {"Password": "x"}}, {"kwargs": {"Password": MASK}}),
        ("card_*", {"args": [{"card_no": 7, "b": 1}]}, {"args": [{"card_no": MASK, "b": 1}]}),
        ("card", {"args": [[{"card": {"no": 7}}]]}, {"args": [[{"card": {"no": MASK}}]]}),
        ("a, b", {"kwargs": {"a": 1, "b": [2, 3], "c": 4}}, {"kwargs": {"a": MASK, "b": [MASK, MASK], "c": 4}}),
        ("auth", {"headers": {"auth": "x"}}, {"headers": {"auth": MASK}}),
        ("pay()", {"args": [1, "x"], "kwargs": {"y": 2}}, {"args": [MASK, MASK], "kwargs": {"y": MASK}}),
        ("send()", {"args": [1, "x"]}, {"args": [1, "x"]}),
        ("id", {}, {}),
        ("x", {"task": "headrace.start", "args": ["w", "queue", 2, "eJ"]}, {"task": "headrace.start", "args": ["w", "queue", 2, MASK]}),
    ],
)  # fmt: skip
def test_what_is_called_so_is_hidden(
    hide: Any, rule: str, fields: dict[str, Any], expected: dict[str, Any]
) -> None:
    hide(rule)
    assert json.loads(shown(job(**fields))) == {"id": "a", "task": "pay"} | expected


def test_it_is_hidden_in_the_error_too(hide: Any) -> None:
    hide("password")
    error = {"reason": "max_attempts", "message": "hunter2 is wrong", "traceback": "x = 'hunter2'"}
    raw = job(kwargs={"password": "hunter2"}, error=error)
    told = json.loads(shown(raw))["error"]
    assert told == error | {"message": f"{MASK} is wrong", "traceback": f"x = '{MASK}'"}
    assert masked("no hunter2", raw) == f"no {MASK}"


def test_what_is_no_job_is_hidden_whole(hide: Any) -> None:
    hide("password")
    assert shown(b"password=hunter2") == MASK.encode()
    assert masked("hunter2", b"password=hunter2") == MASK
    letter = job(error={"reason": "malformed", "payload": "password=hunter2"})
    assert b"hunter2" not in shown(letter)


@given(st.recursive(st.text(min_size=3) | st.integers(1_000) | st.none(), st.lists, max_leaves=5))
def test_nothing_of_it_is_left(value: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, "secret")
        told = json.loads(shown(job(kwargs={"secret": value})))["kwargs"]["secret"]

    def leaves(part: Any) -> list[Any]:
        return [leaf for one in part for leaf in leaves(one)] if isinstance(part, list) else [part]

    assert set(leaves(told)) <= {MASK}


def test_the_rule_is_read_once_for_each_text(hide: Any) -> None:
    hide("a")
    assert redaction.rule() is redaction.rule()
