"""The registry of queues holds what anybody puts there: a name that is none stops nobody."""

from __future__ import annotations

import json
import logging

import pytest
from redis import Redis

from headrace import operations as op
from headrace.cli import main
from headrace.keys import QUEUES
from headrace.store import Store

BAD = ("", "a b", "a:b", "{a}", b"\xff", "x" * 101)


@pytest.fixture(autouse=True)
def logging_as_before() -> object:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before


@pytest.mark.parametrize(
    "command", [["info"], ["dlq", "list"], ["audit"], ["doctor"], ["explain", "0" * 26]]
)
def test_a_bad_name_in_the_registry_stops_no_command(
    command: list[str], url: str, redis: Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    redis.sadd(QUEUES, *BAD, "mail")
    code = main([*command, "--url", url, "--json"])
    said = capsys.readouterr()
    assert "headrace: " not in said.err
    assert json.loads(said.out) or command[0] == "dlq"
    assert code == (1 if command[0] == "explain" else 0)


def test_a_bad_name_is_passed_over_and_told_of_once(
    url: str, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    odd = f"no queue's name: {url}"  # new in this process
    redis.sadd(QUEUES, odd, "mail")
    store = Store(url)
    try:
        with caplog.at_level(logging.WARNING, "headrace"):
            assert store.run(op.queues()) == ["mail"]
            assert store.run(op.queues()) == ["mail"]
    finally:
        store.close()
    assert [record.args for record in caplog.records if "passed over" in record.getMessage()] == [
        (QUEUES, odd)
    ]
