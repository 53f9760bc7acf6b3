"""What becomes of a job that tells nobody: it is looked for where it may be."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as Disconnected

from headrace import Headrace, JobCancelled, JobFailed, NoResult, ResultTimeout, flows, job, wire
from headrace.ids import new_id
from headrace.keys import keys_of
from headrace.store import Store
from headrace.wire import Error, Head
from tests.support.wait import WAIT_S

K = keys_of("queue")
BODY = b',"task":"t"}'


def sent_by(redis: Redis) -> int:
    """Count the bytes that Redis has sent."""
    sent = redis.info("stats")["total_net_output_bytes"]
    assert isinstance(sent, int)
    return sent


@pytest.fixture
def app(url: str) -> Iterator[Headrace]:
    app = Headrace(url)
    yield app
    app.close()


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    store = Store(url, name="test")
    yield store
    store.close()


class TestResult:
    def test_a_job_that_was_cancelled_after_a_failure_is_cancelled(
        self, app: Headrace, redis: Redis
    ) -> None:
        job_id = new_id()
        redis.lpush(K.pending, wire.join(Head(job_id, delivery=1, attempt=1), BODY))
        job = app.job(job_id)
        assert job.cancel()
        with pytest.raises(JobCancelled):
            job.result(timeout=WAIT_S)

    def test_a_job_that_crashed_too_often_has_failed(self, app: Headrace, redis: Redis) -> None:
        job_id = new_id()
        redis.lpush(K.dead, wire.letter(Head("other"), BODY, Error("rejected")))
        redis.lpush(K.dead, wire.letter(Head(job_id), BODY, Error("crashed", message="no")))
        with pytest.raises(JobFailed, match=r"\(crashed\)"):
            app.job(job_id).result(timeout=WAIT_S)

    def test_a_job_that_waits_has_none_yet(self, app: Headrace) -> None:
        job = app.enqueue("t")
        with pytest.raises(ResultTimeout):
            job.result(timeout=0.05)
        assert job.cancel()

    def test_a_job_that_redis_never_had_has_none(self, app: Headrace) -> None:
        with pytest.raises(ResultTimeout):
            app.job(new_id()).result(timeout=0.05)

    def test_a_job_of_which_nothing_is_known_is_not_waited_for(
        self, app: Headrace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pytest.raises(NoResult, match="nothing is known of job nosuch"):
            app.job("nosuch").result()
        monkeypatch.setattr(job, "_WAIT_S", 0.01)
        with pytest.raises(NoResult, match="nothing is known of job"):
            app.job(new_id()).result()

    def test_a_job_that_is_done_and_kept_no_result_is_not_waited_for(
        self, app: Headrace, redis: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(job, "_WAIT_S", 0.01)
        enqueued = app.enqueue("t")
        redis.delete(K.pending)
        with pytest.raises(NoResult, match="keeps no results"):
            enqueued.result()

    def test_a_plain_clients_job_is_waited_for_under_its_own_id(
        self, app: Headrace, redis: Redis
    ) -> None:
        redis.lpush(K.pending, b'{"id":"mine","task":"t"}')
        with pytest.raises(ResultTimeout):
            app.job("mine").result(timeout=0.05)

    def test_who_waits_is_sent_no_dead_letters_but_its_own(
        self, app: Headrace, redis: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        error = Error("crashed", message="x" * 1_000, traceback="x" * 2_000)
        letters = [wire.letter(Head(new_id()), BODY, error) for _ in range(2_000)]
        redis.lpush(K.dead, *letters)
        monkeypatch.setattr(job, "_WAIT_S", 0.01)
        before = sent_by(redis)
        with pytest.raises(NoResult):
            app.job(new_id()).result()
        with pytest.raises(ResultTimeout):
            app.enqueue("t").result(timeout=0.2)
        parts = wire.split(letters[0])
        assert parts is not None
        with pytest.raises(JobFailed):
            app.job(parts[0].id).result()
        assert sent_by(redis) - before < 50_000  # the letters: 6 MB


class TestStatus:
    def test_a_job_that_never_was_is_unknown(self, app: Headrace) -> None:
        assert app.job("nosuch").status() == "unknown"
        assert app.job(new_id()).status() == "unknown"

    def test_an_enqueued_job_of_which_nothing_is_left_is_done(
        self, app: Headrace, redis: Redis
    ) -> None:
        enqueued = app.enqueue("t")
        assert enqueued.status() == "pending"
        redis.delete(K.pending)
        assert enqueued.status() == "done"
        assert app.job(enqueued.id).status() == "unknown"


class TestCancel:
    @pytest.mark.parametrize("place", ["delayed", "priority"])
    def test_a_job_that_has_changed_since_is_found(
        self, app: Headrace, redis: Redis, place: str
    ) -> None:
        job_id = new_id()
        retried = wire.join(Head(job_id, delivery=1, attempt=1), BODY)
        redis.zadd(getattr(K, place), {retried: 9_000_000_000_000})
        assert app.job(job_id).cancel()
        assert redis.zcard(getattr(K, place)) == 0

    def test_a_dead_one_is_over(self, app: Headrace, redis: Redis) -> None:
        job_id = new_id()
        redis.lpush(K.dead, wire.letter(Head(job_id), BODY, Error("crashed")))
        assert not app.job(job_id).cancel()


def test_the_connections_of_a_name_are_closed_and_no_others(
    url: str, store: Store, redis: Redis
) -> None:
    redis.ping()
    with Redis.from_url(url, client_name="headrace:gone", retry=None) as gone:
        held = gone.connection_pool.get_connection()
        store.follow(flows.disconnect("headrace:gone"))
        held.send_command("PING")
        with pytest.raises(Disconnected):
            held.read_response()
        gone.connection_pool.release(held)
        held.disconnect()
    assert redis.ping()
    store.follow(flows.disconnect("headrace:gone"))  # nothing of that name: nothing happens


def test_a_consumer_without_claims_has_none_to_forfeit(store: Store, redis: Redis) -> None:
    redis.hset(K.claims, mapping={f"id{i}": f"other:{i} {{}}" for i in range(600)})
    redis.hset(K.claims, "mine", "gone:7 {}")
    assert store.follow(flows.expire_leases(K, "nobody")) == 0
    assert store.follow(flows.expire_leases(K, "gone")) == 1
