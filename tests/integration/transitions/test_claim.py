"""Claim moves jobs to processing, leased and under a token, in the order in which they are to run."""

from __future__ import annotations

import pytest

from headrace import operations as op
from headrace.errors import StoreRefused
from tests.integration.transitions.driver import LONG_MS, ME, OTHER, Driver, id_of, job

A, B, C = job("a"), job("b"), job("c")
LONGEST = job("i" * 128)

BARE = {
    "no id": b'{"task":"t"}',
    "id not in front": b'{"task":"t","id":"a"}',
    "something before the object": b' {"id":"a","task":"t"}',
    "an object in a list": b'[{"id":"a","task":"t"}]',
    "white space before the id": b'{ "id":"a","task":"t"}',
    "white space after the colon": b'{"id": "a","task":"t"}',
    "white space after the id": b'{"id":"a" ,"task":"t"}',
    "an empty id": b'{"id":"","task":"t"}',
    "a space in the id": b'{"id":"a b","task":"t"}',
    "an escaped quote in the id": rb'{"id":"a\"b","task":"t"}',
    "a backslash in the id": rb'{"id":"a\\b","task":"t"}',
    "129 characters": b'{"id":"%b","task":"t"}' % (b"i" * 129),
    "an id like a bare item's lease": b'{"id":"~a:1","task":"t"}',
    "an id that is not ASCII": '{"id":"ä","task":"t"}'.encode(),
    "an id that is not UTF-8": b'{"id":"\xff","task":"t"}',
    "NUL in the id": b'{"id":"a\x00","task":"t"}',
    "DEL in the id": b'{"id":"a\x7f","task":"t"}',
    "an id that is a number": b'{"id":7,"task":"t"}',
    "no comma after the id": b'{"id":"a":"b"}',
    "nothing after the id": b'{"id":"a"',
    "no JSON": b"hello",
    "nothing": b"",
}


def test_who_asks_for_no_job_gets_none(queue: Driver) -> None:
    queue.enqueue(A)
    assert queue.claim(0) == []
    assert queue.check().pending == [A]


class TestOrder:
    def test_positive_priorities_then_pending_then_negative_ones(self, queue: Driver) -> None:
        queue.enqueue(
            *(job("n1", priority=-1), job("n9", priority=-9), A),
            *(job("p1", priority=1), B, job("p9", priority=9)),
        )
        assert [id_of(claimed) for claimed in queue.claim()] == ["p9", "p1", "a", "b", "n1", "n9"]
        queue.check()

    def test_within_one_priority_the_ids_decide(self, queue: Driver) -> None:
        for name in ("c", "a", "b"):
            queue.enqueue(job(name, priority=5))
        assert [id_of(claimed) for claimed in queue.claim()] == ["a", "b", "c"]

    def test_pending_jobs_come_first_in_first_out(self, queue: Driver) -> None:
        queue.enqueue(C, A)
        queue.push(B)
        assert queue.claim() == [C, A, B]

    def test_a_short_claim_takes_the_first_ones(self, queue: Driver) -> None:
        queue.enqueue(job("n", priority=-1), A, B, job("p", priority=1))
        assert queue.claim(2) == [job("p", priority=1), A]
        assert queue.claim(1) == [B]
        assert queue.claim(2) == [job("n", priority=-1)]
        queue.check()

    def test_the_newest_claim_stands_leftmost(self, queue: Driver) -> None:
        queue.hold(A, B)
        queue.hold(C)
        assert queue.check().processing == [C, B, A]

    def test_more_than_a_thousand_are_not_claimed_at_once(self, queue: Driver) -> None:
        queue.enqueue(*(job(f"{i:04}") for i in range(1_000)))
        queue.enqueue(A)
        assert len(queue.claim(5_000)) == 1_000
        assert queue.check().pending == [A]

    @pytest.mark.parametrize("priority", [999_999_999, -999_999_999, 1, -1])
    def test_a_priority_of_nine_digits_is_one(self, queue: Driver, priority: int) -> None:
        queue.enqueue(job("p", priority=priority))
        assert queue.check().priority == [(job("p", priority=priority), -priority)]

    @pytest.mark.parametrize(
        "body",
        [
            b',"priority":1234567890}',
            b',"priority":-1234567890}',
            b',"priority":1.5}',
            b',"priority":-}',
            b',"priority":}',
            b',"task":"t","priority":5}',
        ],
    )
    def test_what_is_none_is_of_the_body(self, queue: Driver, body: bytes) -> None:
        queue.enqueue(job("p", body))
        assert queue.check().pending == [job("p", body)]


class TestLease:
    def test_a_claim_has_a_token_and_the_jobs_bytes(self, queue: Driver) -> None:
        queue.enqueue(A, B)
        queue.claim(2, consumer="host-1-x")
        assert queue.check().claims == {"a": ("host-1-x:1", A), "b": ("host-1-x:2", B)}

    def test_a_bare_job_between_takes_a_claim_number_too(self, queue: Driver) -> None:
        queue.push(A, b"bare", B)
        queue.claim()
        assert queue.check(bare=1).claims == {"a": (f"{ME}:1", A), "b": (f"{ME}:3", B)}

    def test_the_deadline_counts_from_redis_own_clock(self, queue: Driver) -> None:
        queue.enqueue(A)
        answer = queue.claimed(lease_ms=5_000)
        assert queue.check().leases == {"a": answer.now_ms + 5_000}
        assert answer.now_ms <= queue.now_ms() <= answer.now_ms + 5_000

    def test_claim_numbers_beyond_2_to_the_53_are_not_needed_but_large_ones_are_exact(
        self, queue: Driver
    ) -> None:
        queue._next = 1_000_000_000_000_007
        queue.hold(A)
        assert queue.check().claims["a"][0] == f"{ME}:1000000000000007"
        assert queue.settle(A, "done") == []

    def test_its_answer_begins_with_a_word(self, queue: Driver) -> None:
        claim = op.claim(queue.k, 1, lease_ms=LONG_MS, consumer=ME, first=1)
        assert queue.raw(claim)[0] == b"ok"
        queue.enqueue(A)
        assert queue.raw(claim)[0] == b"ok"
        queue.pause()
        assert queue.raw(claim)[0] == b"paused"

    def test_an_empty_queue_gives_nothing_and_writes_nothing(self, queue: Driver) -> None:
        answer = queue.claimed()
        assert (answer.paused, answer.jobs) == (False, [])
        assert queue.redis.keys("*") == []

    def test_a_paused_queue_gives_nothing(self, queue: Driver) -> None:
        queue.enqueue(A, job("p", priority=1))
        queue.pause()
        answer = queue.claimed()
        assert (answer.paused, answer.jobs) == (True, [])
        queue.check()


class TestTwins:
    def test_two_jobs_of_one_id_are_claimed_under_two(self, queue: Driver) -> None:
        queue.push(A, A)
        assert queue.claim() == [A, job("a.1")]
        assert queue.check().claims.keys() == {"a", "a.1"}

    def test_a_job_whose_id_is_in_processing_gets_another(self, queue: Driver) -> None:
        queue.hold(A)
        queue.push(job("a", b',"task":"u","x":12345678901234567890}'))
        assert queue.claim(consumer=OTHER) == [job("a.1", b',"task":"u","x":12345678901234567890}')]
        assert queue.settle(A, "done", claim=1) == []
        queue.check()

    def test_a_new_id_does_not_meet_one_that_exists(self, queue: Driver) -> None:
        queue.push(A, job("a.1"), job("a.2"), A, A)
        claimed = [id_of(job) for job in queue.claim()]
        assert claimed[:3] == ["a", "a.1", "a.2"]
        assert len(set(claimed)) == 5
        queue.check()

    def test_a_new_id_in_a_batch_makes_the_bearer_of_that_id_give_way(self, queue: Driver) -> None:
        queue.push(A, A, job("a.1"))
        claimed = [id_of(job) for job in queue.claim()]
        assert claimed[:2] == ["a", "a.1"]
        assert len(set(claimed)) == 3
        queue.check()

    def test_a_job_of_an_id_that_only_a_bare_item_has_keeps_it(self, queue: Driver) -> None:
        queue.push(A, A)
        queue.move()
        assert queue.claim() == [A]
        queue.check(bare=1, twins={"a"})


class TestBare:
    @pytest.mark.parametrize("item", BARE.values(), ids=BARE.keys())
    def test_what_has_no_canonical_id_in_front_comes_without_a_lease(
        self, queue: Driver, item: bytes
    ) -> None:
        queue.push(item)
        assert queue.claim() == [item]
        state = queue.check(bare=1)
        assert (state.processing, state.leases) == ([item], {})

    def test_an_id_of_128_characters_is_one(self, queue: Driver) -> None:
        queue.push(LONGEST)
        assert queue.claim() == [LONGEST]
        assert queue.check().claims.keys() == {"i" * 128}

    @pytest.mark.parametrize("mark", [chr(c) for c in range(0x21, 0x7E) if chr(c) not in '"\\'])
    def test_every_printable_mark_may_stand_in_an_id(self, queue: Driver, mark: str) -> None:
        queue.push(job(f"{mark}a{mark}"))
        queue.claim()
        assert queue.check().claims.keys() == {f"{mark}a{mark}"}

    def test_a_tilde_may_stand_behind_the_first_character(self, queue: Driver) -> None:
        queue.push(job("a~"))
        queue.claim()
        assert queue.check().claims.keys() == {"a~"}

    def test_an_object_of_an_id_alone_has_one(self, queue: Driver) -> None:
        queue.push(b'{"id":"a"}')
        queue.claim()
        assert queue.check().claims.keys() == {"a"}


class TestBytes:
    def test_every_byte_is_kept(self, queue: Driver) -> None:
        jobs = [
            job("a", b',"args":[12345678901234567890123,9007199254740993,1e400],"task":"t"}'),
            job("b", b',"task":"\x00\xff"} \r\n'),
            job("c", b', "unknown" : {"a":[1 , 2]}, "task":"t"}'),
            job("d", b',"id":"again","priority":4}'),
        ]
        queue.push(*jobs)
        assert queue.claim() == jobs
        state = queue.check()
        assert [state.claims[i][1] for i in "abcd"] == jobs

    def test_large_jobs_end_a_claim_after_about_a_mebibyte(self, queue: Driver) -> None:
        large = [job(f"{i:03}", b',"x":"%b"}' % (b"x" * 200_000)) for i in range(100)]
        queue.push(*large)
        claimed = queue.claim(100)
        assert 1 << 20 <= sum(map(len, claimed)) < 2 << 20
        assert claimed == large[: len(claimed)]
        assert len(queue.check().pending) == 100 - len(claimed)

    def test_large_jobs_behind_many_small_ones_end_it_soon_after(self, queue: Driver) -> None:
        queue.push(*(job(f"s{i:03}") for i in range(504)))
        queue.push(*(job(f"l{i:03}", b',"x":"%b"}' % (b"x" * 100_000)) for i in range(100)))
        assert sum(map(len, queue.claim(1_000))) < 5 << 20
        queue.check()

    def test_large_prioritised_jobs_do_too(self, queue: Driver) -> None:
        for i in range(20):
            queue.enqueue(job(f"{i:03}", b',"x":"%b"}' % (b"x" * 200_000), priority=1))
        assert 1 << 20 <= sum(map(len, queue.claim(20))) < 2 << 20
        queue.check()

    def test_a_job_larger_than_that_is_claimed_all_the_same(self, queue: Driver) -> None:
        huge = job("h", b',"x":"%b"}' % (b"x" * 3_000_000))
        queue.push(huge)
        assert queue.claim(1) == [huge]


class TestNudges:
    def test_the_last_prioritised_job_takes_the_nudges_away(self, queue: Driver) -> None:
        queue.enqueue(*(job(f"p{i}", priority=1) for i in range(3)))
        queue.claim(2)
        assert queue.check().nudges == 3
        queue.claim(2)
        assert queue.check().nudges == 0

    def test_a_negative_priority_takes_them_away_too(self, queue: Driver) -> None:
        queue.enqueue(job("n", priority=-1))
        queue.claim()
        assert queue.check().nudges == 0

    def test_those_of_a_resume_stay_for_the_other_consumers(self, queue: Driver) -> None:
        queue.enqueue(A, B)
        queue.pause()
        queue.pause(paused=False)
        nudges = queue.check().nudges
        assert nudges > 1
        assert queue.claim(1) == [A]
        assert queue.check().nudges == nudges


@pytest.mark.parametrize("place", ["processing", "claims", "leases", "priority"])
def test_a_place_of_a_wrong_type_loses_no_job(queue: Driver, place: str) -> None:
    queue.enqueue(A, B)
    key = getattr(queue.k, place)
    queue.redis.set(key, "wrong")
    with pytest.raises(StoreRefused, match="WRONGTYPE"):
        queue.claim(lease_ms=LONG_MS)
    queue.redis.delete(key)
    assert queue.check().pending == [B, A]


@pytest.mark.parametrize(
    "wrong",
    [
        *(("1001", "1", ME, "1"), ("nan", "1", ME, "1"), ("-1", "1", ME, "1"), ("", "1", ME, "1")),
        *(("1", "0.5", ME, "1"), ("1", "inf", ME, "1"), ("1", "-1", ME, "1")),
        *(("1", "1", ME, "x"), ("1", "1", ME, "1.5"), ("1", "1", ME)),
    ],
)
def test_wrong_arguments_claim_nothing(queue: Driver, wrong: tuple[str, ...]) -> None:
    queue.enqueue(A, job("p", priority=1))
    before = queue.state()
    with pytest.raises(StoreRefused, match=r"\b(no whole number|too many jobs)\b"):
        queue.raw(op.claim(queue.k, 1, lease_ms=1, consumer=ME, first=1), *wrong)
    assert queue.state() == before
    queue.check()


def test_of_ten_thousand_priorities_the_highest_costs_no_more_commands(queue: Driver) -> None:
    jobs = {b'{"id":"p%05d","priority":1,"task":"t"}' % n: -n / 100 for n in range(1, 10_001)}
    queue.redis.zadd(queue.k.priority, dict(jobs))

    def calls() -> int:
        return sum(v["calls"] for k, v in queue.redis.info("commandstats").items() if "z" in k)

    before = calls()
    assert queue.claim(1) == [max(jobs, key=lambda one: -jobs[one])]
    assert calls() - before <= 8
    queue.foreign += len(jobs)
