"""The memory of ``headrace.testing`` answers as a real server does: the same steps on both, compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from headrace import Headrace, Reject, Retry, wire
from headrace import operations as op
from headrace.consumer import outcomes
from headrace.consumer.claimed import ClaimedJob, adoption, read
from headrace.consumer.outcomes import OutcomePolicy
from headrace.consumer.run import End, failure, success
from headrace.job import Job
from headrace.keys import keys_of
from headrace.policy import LeasePolicy
from headrace.producer import Call, Producer
from headrace.store import Store
from headrace.testing.memory import Memory
from headrace.testing.recorded import Awaited
from headrace.testing.stand_in import MemoryProducer, StandIn
from tests.property.commands import AGE_SCRIPT, plain, raw

HOUR_MS = 3_600_000
ME = "me"
K = keys_of("queue")

app = Headrace(max_attempts=3, result_ttl=7200, max_pending=6)


@app.task
def work() -> None: ...


@app.task(dead_letter=False, result_ttl=None)
def forgetful() -> None: ...


def never_driven(_: Awaited) -> None:
    raise AssertionError("nobody waits here")


async def never_driven_either(_: Awaited) -> None:
    raise AssertionError("nobody waits here")


class Both:
    """A queue on a real server, and the same one in memory.

    ``sent``: the handles of each job, the real one and that in memory.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.memory = Memory(app.tasks, 6)
        self.real = Producer(store.url, max_pending=6)
        stand_in = StandIn(self.memory, never_driven, never_driven_either)
        self.virtual = MemoryProducer(store.url, stand_in, 6)
        self.policy = OutcomePolicy(ME, HOUR_MS, uniform=lambda: 1.0)
        self.sent: list[tuple[Job[Any], Job[Any]]] = []
        self.claims = 0

    def send(self, call: Call[Any]) -> None:
        answers = [self._ids(one, call) for one in (self.real, self.virtual)]
        assert answers[0] == answers[1]
        if answers[0] is not None:
            job_id = answers[0][0]
            job = call.job if job_id == call.job_id else b""
            handles: list[Job[Any]] = [
                Job(one, "queue", job_id, job=job, accepted=True, result_ttl_s=7200)
                for one in (self.real, self.virtual)
            ]
            self.sent.append((handles[0], handles[1]))

    def cancel(self, number: int) -> None:
        if self.sent:
            real, virtual = self.sent[number % len(self.sent)]
            assert real.cancel() == virtual.cancel()

    def run(self, end: Callable[[ClaimedJob], End] | None) -> None:
        """Claim a job, and end it so; None: its consumer is lost."""
        self.claims += 1
        claim = op.claim(K, 1, lease_ms=HOUR_MS * 100, consumer=ME, first=self.claims)
        jobs: Sequence[bytes] = self.store.run(claim).jobs
        record = self.memory.take(self.memory.now_ms)
        assert jobs == ([record.job] if record is not None else [])
        if record is None:
            return
        claimed = read(
            jobs[0], K, self.claims, tasks=app.tasks, leased_until=float("inf"), moved=False
        )
        if not claimed.owned:
            adopted = adoption(claimed, ME, LeasePolicy(lease_s=HOUR_MS), begun=False)
            assert self.store.run(adopted) == "ok"
        self.memory.adopted(record, claimed.job)
        if end is None:
            self.store.run(op.extend(K, ME, [(claimed.head.id, self.claims)], lease_ms=0))
            most = LeasePolicy().max_crashes
            self.store.run(op.reclaim(K, grace_ms=0, gap_ms=HOUR_MS, max_crashes=most))
            self.memory.crash(record)
            return
        outcome = outcomes.of_run(claimed, end(claimed), self.policy)
        assert self.store.run(op.settle(K, ME, [outcome])) == []
        self.memory.settle(record, outcome)

    def time_passes(self, ms: int) -> None:
        self.store.run(raw(AGE_SCRIPT, (), ms))
        self.store.run(op.promote(K))
        self.memory.advance(ms)

    def compare(self) -> None:
        for real, virtual in self.sent:
            assert real.status() == virtual.status()
            assert real._producer.store.run(op.find(K, real.id, real._job)).word in (
                "unknown",
                virtual._producer.store.run(op.find(K, virtual.id, b"")).word,
            )
        letters = self.store.run(op.peek(K.dead, 0, 99))
        dead = [job for job in self.memory.jobs if job.state == "dead"]
        assert {facts(letter) for letter in letters} == {facts(job.job) for job in dead}

    def _ids(self, producer: Producer, call: Call[Any]) -> list[str] | None:
        try:
            return producer.send([call])
        except Exception as error:
            assert type(error).__name__ == "QueueFull", error
            return None


def facts(letter: bytes) -> tuple[Any, ...]:
    """What of a dead letter is the same wherever it was written."""
    parts, error = wire.split(letter), wire.read_error(letter)
    assert parts is not None
    assert error is not None
    return parts[0], error.reason, error.type, error.message


def done(claimed: ClaimedJob) -> End:
    return success(claimed, {"answer": 42})


def fails(error: BaseException) -> Callable[[ClaimedJob], End]:
    return lambda claimed: failure(claimed, error)


ENDS = st.sampled_from(
    [done, None, fails(ValueError("no")), fails(Retry(in_=0)), fails(Retry(in_=3600)), fails(Reject("no"))]
)  # fmt: skip
KEYED: list[dict[str, Any]] = [
    *({}, {"key_ttl": 7200}, {"key_until": "start"}, {"if_exists": "reject"}),
    *({"if_exists": "replace"}, {"if_exists": "replace", "key_until": "start"}),
    *({"if_exists": "debounce", "delay": 3600}, {"if_exists": "throttle", "key_ttl": 7200}),
]
OPTIONS = st.builds(
    lambda place, key, keyed: place | ({"key": key} | keyed if key else {}),
    st.fixed_dictionaries(
        {},
        optional={
            "priority": st.sampled_from([-1, 1, 2]),
            "delay": st.sampled_from([0, 3600, 7200]),
        },
    ),
    st.sampled_from(["", "a", "b c"]),
    st.sampled_from(KEYED),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.sampled_from([work, forgetful]), OPTIONS),
        st.tuples(st.just("run"), ENDS),
        st.tuples(st.just("run"), ENDS),
        st.tuples(st.just("cancel"), st.integers(0, 5)),
        st.tuples(st.just("hours"), st.sampled_from([1, 3])),
    ),
    min_size=1,
    max_size=30,
)


FOUND: list[tuple[Any, ...]] = [
    ("send", work, {"key": "a", "key_ttl": 7200}),
    ("run", done),
    ("send", work, {"key": "a", "if_exists": "debounce", "delay": 3600}),
]
"""What this test has found: a job that is over, and has its key for a time, keeps no other from being put off."""


@pytest.mark.timeout(300)
def test_the_memory_answers_as_a_real_server_does(url: str) -> None:
    store = Store(url)

    @settings(
        deadline=None, max_examples=40, suppress_health_check=list(HealthCheck), print_blob=True
    )
    @given(STEPS)
    @example(FOUND)
    def agree(steps: list[tuple[Any, ...]]) -> None:
        store.run(plain("FLUSHALL"))
        both = Both(store)
        try:
            for verb, *how in steps:
                if verb == "send":
                    both.send(how[0].options(**how[1]).call())
                elif verb == "run":
                    both.run(how[0])
                elif verb == "cancel":
                    both.cancel(how[0])
                else:
                    both.time_passes(how[0] * HOUR_MS)
                # Two jobs of a millisecond would be in no order.
                both.time_passes(2)
                both.compare()
        finally:
            both.real.close()

    try:
        agree()
    finally:
        store.close()
