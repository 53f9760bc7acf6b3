"""What consumers ask of Redis, as data: the keys, the arguments, and how the answers are read."""

from __future__ import annotations

from typing import Any

import pytest

from headrace import operations as op
from headrace.keys import keys_of
from headrace.operations import ClaimReply, Extended, Operation, Outcome
from headrace.scripts import MAX_ITEMS, script

K = keys_of("mail")


def asked(operation: Operation[Any], name: str, keys: list[str], *args: object) -> None:
    """Assert what is sent: a script by its hash, how many keys, the keys, the arguments."""
    assert operation.name == name
    assert operation.script == script(name)
    assert operation.wait_s == 0
    assert operation.keys == tuple(keys)
    assert operation.args == args
    assert operation.command() == ("EVALSHA", script(name).sha, len(keys), *keys, *args)


class TestClaim:
    KEYS = [
        *("mail", "mail:processing", "mail:priority", "mail:leases"),
        *("mail:claims", "mail:nudge", "mail:stats", "mail:meta"),
    ]

    def test_it_says_how_many_for_how_long_and_for_whom(self) -> None:
        operation = op.claim(K, 7, lease_ms=15_000, consumer="c", first=3)
        asked(operation, "claim", self.KEYS, 7, 15_000, "c", 3)

    def test_it_never_asks_for_more_than_a_script_may_take(self) -> None:
        for count, sent in ((MAX_ITEMS, 1_000), (MAX_ITEMS + 1, 1_000)):
            operation = op.claim(K, count, lease_ms=1, consumer="c", first=1)
            asked(operation, "claim", self.KEYS, sent, 1, "c", 1)

    @pytest.mark.parametrize(
        ("raw", "read"),
        [
            ([b"ok", 5], ClaimReply(False, 5, [])),
            ([b"paused", 5], ClaimReply(True, 5, [])),
            ([b"ok", 5, b"a", b"b"], ClaimReply(False, 5, [b"a", b"b"])),
        ],
    )
    def test_its_answer_is_read(self, raw: list[Any], read: ClaimReply) -> None:
        operation = op.claim(K, 7, lease_ms=15_000, consumer="c", first=3)
        assert operation.parse(raw) == read


def test_adopt_names_the_token_and_both_forms_of_the_bytes() -> None:
    operation = op.adopt(
        K, token="c:1", lease_ms=9, moved=b"bare", job_id="a", job=b"whole", begun=True
    )
    keys = [
        *("mail", "mail:processing", "mail:leases", "mail:claims", "mail:stats", "mail:meta"),
        "mail:cancelled",
    ]
    asked(operation, "adopt", keys, "c:1", 9, b"bare", "a", b"whole", 1)
    assert operation.parse(b"duplicate") == "duplicate"


def test_adopt_names_the_key_of_a_job_that_has_one() -> None:
    operation = op.adopt(
        K, token="c:1", lease_ms=9, moved=b"bare", job_id="a", job=b"whole", begun=False, key="x 7"
    )
    keys = [
        *("mail", "mail:processing", "mail:leases", "mail:claims", "mail:stats", "mail:meta"),
        *("mail:cancelled", "mail:unique:x 7"),
    ]
    asked(operation, "adopt", keys, "c:1", 9, b"bare", "a", b"whole", 0)


class TestSettle:
    KEYS = [
        *("mail", "mail:processing", "mail:priority", "mail:delayed", "mail:dlq", "mail:leases"),
        *("mail:claims", "mail:nudge", "mail:stats", "mail:cancelled"),
    ]

    def test_each_outcome_says_everything(self) -> None:
        one = Outcome("a", 3, "retry", delay_ms=50, job=b"again")
        two = Outcome("b", -4, "done", result_ttl_ms=60, result=b"value")
        asked(
            op.settle(K, "c", [one, two]),
            "settle",
            [*self.KEYS, "mail:result:b"],
            *("c", "a", 3, "retry", 50, b"again", 0, b""),
            *("b", -4, "done", 0, b"", 60, b"value"),
        )

    def test_the_keys_of_results_stand_in_the_order_of_their_outcomes(self) -> None:
        outcomes = [Outcome(name, 1, "done", result_ttl_ms=1) for name in "bxa"]
        outcomes.insert(1, Outcome("none", 1, "done"))
        assert op.settle(K, "c", outcomes).keys == (
            *self.KEYS,
            *(f"mail:result:{name}" for name in "bxa"),
        )

    def test_of_a_run_that_is_tried_again_its_history_is_told(self) -> None:
        again = Outcome("a", 1, "retry", job=b"again", result_ttl_ms=60, result=b"run")
        assert op.settle(K, "c", [again]).keys == (*self.KEYS, "mail:history:a")

    def test_the_keys_of_jobs_that_have_one_stand_after_those_of_results(self) -> None:
        one = Outcome("a", 1, "done", key="x")
        two = Outcome("b", 2, "done", result_ttl_ms=60, result=b"value", key="y 7")
        asked(
            op.settle(K, "c", [one, two]),
            "settle",
            [*self.KEYS, "mail:result:b", "mail:unique:x", "mail:unique:y 7"],
            *("c", "a", 1, "done", 0, b"", 0, b""),
            *("b", 2, "done", 0, b"", 60, b"value"),
        )

    def test_it_answers_the_ids_that_were_lost(self) -> None:
        assert op.settle(K, "c", []).parse([b"a", b"b"]) == ["a", "b"]

    def test_an_outcome_at_another_number_is_else_the_same(self) -> None:
        outcome = Outcome("a", 3, "retry", delay_ms=50, job=b"again")
        assert op.at_number(outcome, 3) is outcome
        assert op.at_number(outcome, -3) == Outcome("a", -3, "retry", delay_ms=50, job=b"again")


def test_extend_names_each_claim_and_tells_which_are_lost_and_which_to_cancel() -> None:
    operation = op.extend(K, "c", [("a", 1), ("b", 2)], lease_ms=9)
    asked(
        *(operation, "extend", ["mail:leases", "mail:claims", "mail:cancelled"]),
        *(9, "c", "a", 1, "b", 2),
    )
    assert operation.parse([[b"a"], [b"b"]]) == Extended(["a"], ["b"])


def test_a_blocking_move_takes_the_oldest_and_is_waited_for() -> None:
    operation = op.blocking_move(K, 2.5)
    assert (operation.name, operation.script, operation.wait_s) == ("BLMOVE", None, 2.5)
    assert operation.command() == ("BLMOVE", "mail", "mail:processing", "RIGHT", "LEFT", 2.5)
    assert (operation.parse(b"job"), operation.parse(None)) == (b"job", None)


def test_a_queue_is_paused_while_its_meta_says_so_whatever_it_says() -> None:
    operation = op.is_paused(K)
    assert (operation.name, operation.script, operation.wait_s) == ("HGET", None, 0)
    assert operation.command() == ("HGET", "mail:meta", "paused")
    assert operation.parse(b"1") is True
    assert operation.parse(b"") is True
    assert operation.parse(None) is False


def test_a_prioritised_job_in_any_queue_is_one() -> None:
    operation = op.are_prioritised([K, keys_of("b")])
    assert (operation.name, operation.script, operation.wait_s) == ("EXISTS", None, 0)
    assert operation.command() == ("EXISTS", "mail:priority", "b:priority")
    assert [operation.parse(number) for number in (0, 1, 2)] == [False, True, True]


def test_a_nudge_of_any_queue_is_waited_for() -> None:
    operation = op.await_nudge(["mail:nudge", "b:nudge"], 1.5)
    assert (operation.name, operation.script, operation.wait_s) == ("BLPOP", None, 1.5)
    assert operation.command() == ("BLPOP", "mail:nudge", "b:nudge", 1.5)
    assert operation.parse([b"mail:nudge", b""]) is True
    assert operation.parse(None) is False
