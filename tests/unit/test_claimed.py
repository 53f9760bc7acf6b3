"""What a consumer reads of a claimed job before anything runs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headrace import Headrace, wire
from headrace.consumer.claimed import ClaimedJob, adoption, read
from headrace.ids import LENGTH
from headrace.keys import keys_of
from headrace.operations import KEY_UNTIL_START
from headrace.policy import LeasePolicy
from headrace.wire import Error, Head
from headrace.workflows.member import Member, MemberHandOff

K = keys_of("mail")
ERROR = Error("max_attempts", "ValueError", "no", failed_at=1, consumer="c")

app = Headrace("redis://127.0.0.1:1")


@app.task(max_attempts=7)
def known() -> None:
    """A task that is never run here."""


def taken(raw: bytes, *, moved: bool = False, max_bytes: int = 1_000_000) -> ClaimedJob:
    return read(raw, K, 5, tasks=app.tasks, leased_until=17.5, moved=moved, max_bytes=max_bytes)


def job(body: bytes = b',"task":"known"}', **head: Any) -> bytes:
    return wire.join(Head("a", **head), body)


class TestRunnable:
    def test_it_is_what_was_claimed_and_where(self) -> None:
        raw = job(b',"task":"known","args":[1]}', attempt=2, delivery=9)
        claimed = taken(raw)
        assert (claimed.k, claimed.number, claimed.leased_until) == (K, 5, 17.5)
        assert (claimed.head, claimed.body) == (
            Head("a", attempt=2, delivery=9),
            b',"task":"known","args":[1]}',
        )
        assert claimed.moved == claimed.job == raw
        assert (claimed.unrunnable, claimed.problem) == (None, None)
        assert claimed.task is app.tasks["known"]
        assert claimed.decoded is not None
        assert claimed.decoded.args == [1]

    def test_nothing_has_happened_to_it_yet(self) -> None:
        claimed = taken(job())
        assert (claimed.started, claimed.deadline, claimed.async_run) == (0.0, None, None)
        assert (claimed.phase, claimed.outcome) == ("arrived", None)
        assert not claimed.alone

    def test_the_context_says_what_a_task_may_know(self) -> None:
        context = taken(job(attempt=2, delivery=9)).context
        assert context is not None
        assert (context.job_id, context.queue, context.task) == ("a", "mail", "known")
        assert (context.attempt, context.delivery, context.max_attempts) == (3, 9, 7)
        assert context.stop_reason is None
        assert context.job == job(attempt=2, delivery=9)

    def test_a_jobs_own_bound_of_attempts_wins(self) -> None:
        context = taken(job(b',"task":"known","max_attempts":2}')).context
        assert context is not None
        assert context.max_attempts == 2

    def test_a_claim_is_owned_and_a_move_is_not(self) -> None:
        assert taken(job()).owned
        assert not taken(job(), moved=True).owned

    @pytest.mark.parametrize(("crashes", "suspect"), [(0, False), (1, False), (2, True), (3, True)])
    def test_two_lost_consumers_make_a_suspect(self, crashes: int, suspect: bool) -> None:
        assert taken(job(crashes=crashes)).suspect is suspect

    def test_what_cannot_run_is_no_suspect(self) -> None:
        assert not taken(job(b',"task":"unheard"}', crashes=9)).suspect


class TestKeyUntilStart:
    """A job whose key is free when it begins."""

    RAW = job(KEY_UNTIL_START + b',"task":"known"}', key="k", delivery=2)

    def test_it_is_a_job_without_a_key_which_redis_has_to_free_first(self) -> None:
        claimed = taken(self.RAW)
        assert claimed.freed_key == "k"
        assert (claimed.head, claimed.body) == (Head("a", delivery=2), b',"task":"known"}')
        assert claimed.job == job(delivery=2)
        assert (claimed.moved, claimed.owned) == (self.RAW, False)

    def test_one_that_is_free_already_is_as_any_other(self) -> None:
        claimed = taken(job(KEY_UNTIL_START + b',"task":"known"}'))
        assert (claimed.freed_key, claimed.owned) == ("", True)

    def test_one_that_is_held_until_the_end_stays(self) -> None:
        claimed = taken(job(key="k"))
        assert (claimed.freed_key, claimed.head.key, claimed.owned) == ("", "k", True)


class TestMember:
    """A job that belongs to a workflow."""

    @pytest.mark.parametrize(("keep", "wanted"), [(0, False), (1, True), (2, True)])
    def test_its_run_knows_of_that_and_whether_its_result_is_wanted(
        self, keep: int, wanted: bool
    ) -> None:
        field = b'{"id":"w","n":3,"queues":["mail"],"keep":%d}' % keep
        claimed = taken(job(b',"task":"known","workflow":%b}' % field))
        assert claimed.context is not None
        assert isinstance(claimed.context.hand_off, MemberHandOff)
        assert claimed.context.hand_off.member == Member("w", 3, ("mail",), keep)
        assert claimed.wanted is wanted

    @pytest.mark.parametrize("more", [b"", b',"workflow":7'])
    def test_what_belongs_to_none_begins_without(self, more: bytes) -> None:
        claimed = taken(job(b',"task":"known"%b}' % more))
        assert claimed.context is not None
        assert (claimed.context.hand_off, claimed.wanted) == (None, False)


class TestRenamed:
    def test_it_takes_another_id_and_keeps_its_body(self) -> None:
        claimed = taken(job(delivery=3))
        claimed.renamed()
        assert claimed.head.id != "a"
        assert len(claimed.head.id) == LENGTH
        assert claimed.job == wire.join(Head(claimed.head.id, delivery=3), b',"task":"known"}')
        assert claimed.moved == job(delivery=3)
        assert claimed.context is not None
        assert claimed.context.job_id == claimed.head.id

    def test_one_without_a_context_does_too(self) -> None:
        claimed = taken(job(b',"task":"unheard"}'))
        claimed.renamed()
        assert claimed.job == wire.join(Head(claimed.head.id), b',"task":"unheard"}')


class TestBare:
    def test_it_gets_an_id_and_has_to_be_adopted(self) -> None:
        raw = b'{"task":"known", "args":[1e5]}'
        claimed = taken(raw)
        assert claimed.moved == raw
        assert claimed.job == b'{"id":"%b","task":"known","args":[1e5]}' % claimed.head.id.encode()
        assert claimed.body == b',"task":"known","args":[1e5]}'
        assert (claimed.k, claimed.number, claimed.leased_until) == (K, 5, 17.5)
        assert (claimed.owned, claimed.unrunnable) == (False, None)
        assert claimed.context is not None
        assert claimed.context.job_id == claimed.head.id

    @pytest.mark.parametrize("raw", [b"", b"\xff\x00", b"[1]", b"{", b"[" * 100_000])
    def test_what_is_no_object_stands_in_processing_as_its_letter(self, raw: bytes) -> None:
        claimed = taken(raw)
        assert (claimed.unrunnable, claimed.body, claimed.moved) == ("malformed", raw, raw)
        assert isinstance(claimed.problem, Exception)
        assert (claimed.k, claimed.number) == (K, 5)
        assert (claimed.leased_until, claimed.owned) == (17.5, False)
        assert claimed.job.startswith(b'{"id":"%b",' % claimed.head.id.encode())
        assert wire.read_error(claimed.job) == Error(
            "malformed",
            payload=raw.decode() if raw != b"\xff\x00" else None,
            payload_base64="/wA=" if raw == b"\xff\x00" else None,
        )
        assert (claimed.decoded, claimed.task, claimed.context) == (None, None, None)


class TestFlaw:
    def test_an_unknown_task_is_one(self) -> None:
        claimed = taken(job(b',"task":"unheard"}'))
        assert (claimed.unrunnable, claimed.problem) == ("unknown_task", None)
        assert (claimed.task, claimed.context) == (None, None)
        assert claimed.decoded is not None
        assert claimed.decoded.task == "unheard"

    @pytest.mark.parametrize("body", [b"}", b',"task":1}', b',"task":"known","args":7}', b",x"])
    def test_what_cannot_be_read_is_malformed_with_its_exact_bytes(self, body: bytes) -> None:
        claimed = taken(job(body, delivery=1))
        assert claimed.unrunnable == "malformed"
        assert isinstance(claimed.problem, Exception)
        assert claimed.body == claimed.moved == claimed.job == job(body, delivery=1)
        assert (claimed.head, claimed.owned) == (Head("a", delivery=1), True)

    def test_a_job_may_be_as_large_as_the_limit_and_no_larger(self) -> None:
        raw = job(b',"task":"known","x":"%b"}' % (b"x" * 2_000))
        assert taken(raw, max_bytes=len(raw)).unrunnable is None
        claimed = taken(raw, max_bytes=len(raw) - 1)
        assert claimed.unrunnable == "too_large"
        assert isinstance(claimed.problem, ValueError)
        assert str(claimed.problem) == f"{len(raw):,} bytes; the limit is {len(raw) - 1:,}"

    def test_a_malformed_job_under_another_id_is_still_its_letter(self) -> None:
        claimed = taken(b"no job")
        _, letter = wire.split(claimed.job) or (None, b"")
        claimed.renamed()
        assert wire.split(claimed.job) == (claimed.head, letter)
        assert claimed.body == b"no job"

    def test_what_is_malformed_is_told_as_that_however_large(self) -> None:
        assert taken(job(b"}"), max_bytes=1).unrunnable == "malformed"
        assert taken(b"no job", max_bytes=1).unrunnable == "malformed"


class TestMovedBack:
    """Dead letters that somebody moved to pending with a plain LMOVE."""

    def test_its_failures_are_forgotten_and_its_deliveries_are_not(self) -> None:
        head = Head("a", priority=2, delivery=9, crashes=4, attempt=3, unknown_since=5)
        letter = wire.letter(head, b',"task":"known","args":[1e5]}', ERROR)
        claimed = taken(letter)
        again = Head("a", priority=2, delivery=9)
        assert (claimed.head, claimed.body) == (again, b',"task":"known","args":[1e5]}')
        assert claimed.job == wire.join(again, b',"task":"known","args":[1e5]}')
        assert claimed.moved == letter
        assert not claimed.owned  # until Redis holds these bytes
        assert claimed.context is not None
        assert claimed.context.attempt == 1
        assert not claimed.suspect

    def test_the_limit_does_not_count_its_error(self) -> None:
        letter = wire.letter(
            Head("a"), b',"task":"known"}', Error("crashed", traceback="x" * 5_000)
        )
        assert taken(letter, max_bytes=100).unrunnable is None

    def test_a_malformed_job_that_has_become_readable_runs_as_it_was(self) -> None:
        letter = wire.malformed_letter(b'{"task":"known","args":[1]}', Error("malformed"))
        parts = wire.split(letter)
        assert parts is not None
        raw = wire.join(Head(parts[0].id, delivery=2, crashes=3, attempt=1), parts[1])
        claimed = taken(raw)
        assert claimed.unrunnable is None
        assert claimed.head == Head(parts[0].id, delivery=2)
        assert claimed.body == b',"task":"known","args":[1]}'
        assert claimed.job == wire.join(claimed.head, claimed.body)
        assert not claimed.owned
        assert claimed.context is not None
        assert claimed.context.job_id == parts[0].id

    def test_one_of_an_unknown_task_is_found_out_all_the_same(self) -> None:
        letter = wire.malformed_letter(b'{"task":"unheard"}', Error("malformed"))
        assert taken(letter).unrunnable == "unknown_task"

    @pytest.mark.parametrize("payload", [b"no job", b"\xff", b'{"args":[]}', b"[]", b""])
    def test_one_that_is_malformed_still_is_wrapped_once(self, payload: bytes) -> None:
        letter = wire.malformed_letter(payload, Error("malformed"))
        claimed = taken(letter)
        assert (claimed.unrunnable, claimed.body) == ("malformed", payload)
        assert isinstance(claimed.problem, Exception)
        assert (claimed.moved, claimed.job, claimed.owned) == (letter, letter, True)

    def test_the_reason_is_what_reading_the_payload_raised(self) -> None:
        claimed = taken(wire.malformed_letter(b'{"args":[]}', Error("malformed")))
        assert "task" in str(claimed.problem)
        with pytest.raises(Exception) as raised:
            wire.read_body(b'{"id":"a","args":[]}')
        assert str(claimed.problem) == str(raised.value)

    def test_an_error_of_somebody_else_hides_nothing(self) -> None:
        claimed = taken(job(b',"task":1,"error":{"payload":7}}'))
        assert claimed.unrunnable == "malformed"
        assert json.loads(claimed.body)["error"] == {"payload": 7}


class TestAdoption:
    """What Redis is asked of a job that it does not know as ours."""

    KEYS = [
        *("mail", "mail:processing", "mail:leases", "mail:claims", "mail:stats", "mail:meta"),
        "mail:cancelled",
    ]

    def asked(self, claimed: ClaimedJob, *, begun: bool = False) -> tuple[list[str], list[Any]]:
        operation = adoption(claimed, "host-1-x", LeasePolicy(lease_s=2.5), begun=begun)
        assert operation.name == "adopt"
        assert operation.parse(b"lost") == "lost"
        return [*operation.keys], [*operation.args]

    def test_a_moved_job_is_leased_for_its_claim_token_with_the_bytes_that_it_has(self) -> None:
        asked = self.asked(taken(job(), moved=True))
        assert asked == (self.KEYS, ["host-1-x:5", 2_500, job(), "a", job(), 0])

    def test_it_may_have_begun(self) -> None:
        asked = self.asked(taken(job(), moved=True), begun=True)
        assert asked == (self.KEYS, ["host-1-x:5", 2_500, job(), "a", job(), 1])

    def test_a_letter_that_was_moved_back_gets_the_bytes_of_its_job(self) -> None:
        letter = wire.letter(Head("a", delivery=2), b',"task":"known"}', ERROR)
        asked = self.asked(taken(letter, moved=True))
        assert asked == (self.KEYS, ["host-1-x:5", 2_500, letter, "a", job(delivery=2), 0])

    def test_the_key_that_a_job_has_is_looked_at_too(self) -> None:
        raw = job(key="order 7")
        asked = self.asked(taken(raw, moved=True))
        assert asked == (
            [*self.KEYS, "mail:unique:order 7"],
            ["host-1-x:5", 2_500, raw, "a", raw, 0],
        )
