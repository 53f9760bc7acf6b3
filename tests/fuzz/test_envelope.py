"""The envelope under bytes of any kind: nothing raises, no byte is lost, Lua and Python agree."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from redis import Redis

from headrace import wire
from headrace.cli.dead_letters import as_json, lines
from headrace.doctor import dead_letters
from headrace.scripts import script
from headrace.wire import Head
from tests.fuzz.__main__ import CORPUS
from tests.fuzz.extent import bounded
from tests.fuzz.oracle import judge, judge_claimed, same_fields
from tests.fuzz.seeds import FIELDS, JOBS, VALUES
from tests.fuzz.strategies import cut, mutants, objects, raws


class TestAnyBytes:
    @bounded(300)
    @given(raws)
    def test_are_read_judged_and_kept(self, raw: bytes) -> None:
        judge(raw)

    @pytest.mark.parametrize("field", FIELDS)
    def test_a_field_of_any_type_loses_nothing(self, field: str) -> None:
        for value in VALUES:
            judge(b'{"id":"a","%b":%b,"task":"t"}' % (field.encode(), value))
            judge(b'{"%b":%b,"task":"t","id":"a"}' % (field.encode(), value))
            judge(b'{"task":"t","%b":%b,"%b":1}' % (field.encode(), value, field.encode()))

    @pytest.mark.parametrize("job", JOBS, ids=range(len(JOBS)))
    def test_a_job_cut_anywhere_loses_nothing(self, job: bytes) -> None:
        for stop in range(len(job)):
            judge(job[:stop])

    def test_of_the_corpus_are_judged(self) -> None:
        found = [path.read_bytes() for path in CORPUS.iterdir()]
        assert found
        for raw in found:
            judge(raw)

    @bounded(60)
    @given(raws, st.integers(1, 4))
    def test_letters_of_letters_come_back_one_by_one(self, raw: bytes, times: int) -> None:
        letter = raw
        for _ in range(times):
            letter = wire.malformed_letter(letter, wire.Error("malformed"))
        judge(letter)
        for _ in range(times):
            letter = wire.redriven(letter)
        assert letter == raw

    @bounded(60)
    @given(raws)
    def test_a_letter_put_back_by_hand_dies_again_as_the_same_bytes(self, raw: bytes) -> None:
        first = judge_claimed(raw, moved=True)
        if first.unrunnable == "malformed":
            letter = wire.malformed_letter(first.body, wire.Error("malformed"))
            again = judge_claimed(letter, moved=True)
            # A field that is there twice is read once, the last time, when it has been rewritten.
            assert again.body == first.body or same_fields(first.body, again.job)


@pytest.mark.parametrize("raw", [b"\xff", b'{"id":"a","task":5}'])
def test_a_malformed_job_under_another_id_still_has_its_id_in_front(raw: bytes) -> None:
    claimed = judge_claimed(raw, moved=True)
    claimed.renamed()
    parts = wire.split(claimed.job)
    assert parts is not None
    assert parts[0].id == claimed.head.id


def test_an_error_under_an_escaped_name_is_forgotten_once() -> None:
    claimed = judge_claimed(rb'{"id":"a","attempt":2,"task":"t","\u0065rror":{}}', moved=False)
    assert claimed.head.attempt == 0
    again = judge_claimed(wire.join(claimed.head._replace(attempt=1), claimed.body), moved=False)
    assert again.head.attempt == 1


# What wire.split and the head's functions in Lua see of the same bytes, many in one call.
HEADS = (
    "\n".join(line for line in script("promote").source.splitlines()[1:] if line)
    .partition("local pending,")[0]
    .replace("local function now_ms", "local function unused_now_ms")
    + """
local seen = {}
for i, job in ipairs(ARGV) do
  local id = id_of(job)
  seen[i] = id and {id, number(priority_of(job)), (returned(job, 0)), (returned(job, 1))} or ''
end
return seen
"""
)


class TestLuaAndPython:
    @bounded(60)
    @given(st.lists(raws | mutants | objects() | cut, min_size=1, max_size=30))
    def test_agree_on_the_head(self, redis: Redis, raws: list[bytes]) -> None:
        self.compare(redis, raws)

    @pytest.mark.parametrize("field", FIELDS)
    def test_agree_on_a_field_of_any_type(self, redis: Redis, field: str) -> None:
        short = [value for value in VALUES if len(value) < 10_000]
        self.compare(redis, [b'{"id":"a","%b":%b,"task":"t"}' % (field.encode(), v) for v in short])
        self.compare(
            redis, [b'{"id":"a","priority":1,"%b":%b}' % (field.encode(), v) for v in short]
        )

    @pytest.mark.parametrize("field", ["priority", "delivery", "crashes"])
    def test_agree_on_a_number_of_many_zeros(self, redis: Redis, field: str) -> None:
        self.compare(redis, [b'{"id":"a","%b":0000000000001 }' % field.encode()])
        raw = b'{"id":"a","%b":0000000000001}' % field.encode()
        parts = wire.split(raw)
        assert parts is not None
        ((_, priority, released, _),) = redis.eval(HEADS, 0, raw)
        assert (int(priority), wire.split(released)) == (
            parts[0].priority,
            (Head("a", delivery=1), parts[1]),
        )

    def compare(self, redis: Redis, raws: list[bytes]) -> None:
        answers: Any = redis.eval(HEADS, 0, *raws)
        for raw, answer in zip(raws, answers, strict=True):
            parts = wire.split(raw)
            if parts is None:
                assert answer == b"", raw
                continue
            head, body = parts
            if 999_999_999 in {head.delivery, head.crashes}:
                continue  # where a counter ends
            job_id, priority, released, crashed = answer
            assert (job_id, int(priority)) == (head.id.encode(), head.priority), raw
            for job, crash in ((released, 0), (crashed, 1)):
                again = wire.split(job)
                assert again is not None, (raw, job)
                assert again[0].id == head.id
                assert again[0].priority == head.priority, (raw, job)
                assert again[0].delivery == head.delivery + 1, (raw, job)
                assert again[0].crashes == head.crashes + crash, (raw, job)
                assert (again[0].attempt, again[1]) == (head.attempt, body), (raw, job)


class TestShown:
    @bounded(100)
    @given(raws)
    @example(b'{"id":"a","task":"t","args":[%b],"error":{"reason":"x"}}' % (b"9" * 30))
    def test_any_dead_letter_is_shown_to_a_person(self, raw: bytes) -> None:
        self.show(raw)

    def test_so_is_one_that_died_in_another_age(self) -> None:
        self.show(b'{"id":"a","task":"t","error":{"reason":"x","failed_at":9223372036854775807}}')

    def show(self, raw: bytes) -> None:
        letter = dead_letters.read("queue", raw)
        assert "".join(lines(letter))
        assert as_json(letter)["queue"] == "queue"
