"""What both stores promise of answers: one, many, and those of a flow."""

from __future__ import annotations

import dataclasses
import threading
from typing import Any

import pytest
from redis import Redis

from headrace import operations as op
from headrace.errors import ReplyLost, StoreError, StoreRefused, StoreUnavailable
from headrace.flows import Flow
from headrace.operations import Operation, command
from headrace.store import Store
from tests.integration.store.stores import A, B, C, K, Open, OpenStore, client_id, echo, insist
from tests.support.clusters import also_on_a_cluster
from tests.support.invariants import check
from tests.support.proxy import Proxy
from tests.support.wait import WAIT_S, bound, wait_until


@also_on_a_cluster
class TestAnswers:
    def test_an_operation_is_run_and_its_answer_parsed(self, store: OpenStore) -> None:
        assert store.run(op.enqueue(K, [A])) == op.Enqueued("ok")
        claimed = store.run(op.claim(K, 1, lease_ms=60_000, consumer="c", first=1))
        assert claimed.jobs == [A]

    def test_operations_of_one_trip_are_answered_in_their_order(self, store: OpenStore) -> None:
        answers = store.run_all([echo("1"), op.enqueue(K, [A]), echo("2"), op.snapshot(K)])
        assert answers[:3] == [b"1", op.Enqueued("ok"), b"2"]
        assert answers[3].pending == 1

    def test_a_large_answer_and_a_large_request_come_through(self, store: OpenStore) -> None:
        large = "x" * 3_000_000
        assert store.run_all([echo(large), echo("1")]) == [large.encode(), b"1"]

    def test_an_error_is_raised(self, store: OpenStore, redis: Redis) -> None:
        redis.set(K.pending, "no list")
        with pytest.raises(StoreRefused, match=r"Redis refused snapshot: .*WRONGTYPE") as caught:
            store.run(op.snapshot(K))
        assert not caught.value.may_have_happened
        assert caught.value.__cause__ is not None

    def test_an_error_of_many_stands_in_its_place(self, store: OpenStore, redis: Redis) -> None:
        redis.set(K.dead, "no list")
        answers = store.run_all([echo("1"), op.snapshot(K), op.enqueue(K, [A]), echo("2")])
        assert isinstance(answers[1], StoreRefused)
        assert [answers[0], *answers[2:]] == [b"1", op.Enqueued("ok"), b"2"]


class TestConnections:
    def test_a_connection_is_used_again_after_an_error(self, store: OpenStore) -> None:
        before = store.run(client_id())
        with pytest.raises(StoreRefused):
            store.run(command("NO-SUCH-COMMAND", parse=bool))
        assert store.run(client_id()) == before

    def test_connections_bear_the_stores_name(
        self, url: str, redis: Redis, open_store: Open
    ) -> None:
        open_store(url, name="headrace:test").run(echo("1"))
        assert "headrace:test" in {client["name"] for client in redis.client_list()}

    def test_a_closed_store_can_be_used_again(self, url: str) -> None:
        store = Store(url)
        assert store.run(echo("1")) == b"1"
        store.close()
        assert store.run(echo("2")) == b"2"
        store.close()


@also_on_a_cluster
class TestScripts:
    def test_a_script_that_the_server_does_not_know_is_loaded(
        self, store: OpenStore, redis: Redis
    ) -> None:
        redis.script_flush()
        assert store.run(op.enqueue(K, [A])) == op.Enqueued("ok")
        assert check(redis).pending == [A]

    def test_in_a_pipeline_only_what_was_not_run_is_sent_again(
        self, store: OpenStore, redis: Redis
    ) -> None:
        redis.script_flush()
        redis.script_load(op.enqueue(K, []).script.source)  # type: ignore[union-attr]
        answers = store.run_all(
            [
                *(op.enqueue(K, [A]), op.pause(K, paused=True), echo("1")),
                *(op.enqueue(K, [B]), op.pause(K, paused=True), op.snapshot(K)),
            ]
        )
        assert answers[:5] == [op.Enqueued("ok"), True, b"1", op.Enqueued("ok"), False]
        assert answers[5].pending == 2
        assert check(redis).pending == [B, A]

    def test_a_flush_between_two_calls_is_not_noticed(self, store: OpenStore, redis: Redis) -> None:
        for job in (A, B, C):
            store.run(op.enqueue(K, [job]))
            redis.script_flush()
        assert check(redis).pending == [C, B, A]

    def test_scripts_that_are_flushed_as_soon_as_they_are_loaded_do_not_end_a_program(
        self, store: OpenStore
    ) -> None:
        known = op.snapshot(K)
        assert known.script is not None
        # Redis gives a script another SHA-1 than this: so it is unknown, although it was loaded.
        flushed = known._replace(script=dataclasses.replace(known.script, sha="0" * 40))
        (answer,) = store.run_all([flushed])
        assert isinstance(answer, StoreRefused)
        assert not answer.lasting

    def test_a_script_that_fails_after_it_was_loaded_is_an_error(
        self, store: OpenStore, redis: Redis
    ) -> None:
        redis.set(K.dead, "no list")
        redis.script_flush()
        first, second = store.run_all([op.snapshot(K), op.enqueue(K, [A])])
        assert isinstance(first, StoreRefused)
        assert second == op.Enqueued("ok")


class TestBlocking:
    def test_redis_may_block_for_longer_than_an_answer_may_take(
        self, url: str, open_store: Open
    ) -> None:
        # An idle server looks at its clock ten times a second: an answer may come 0.1 s late.
        store, wait_s = open_store(url, timeout_s=bound(0.2)), bound(0.25)
        requests: list[Operation[Any]] = [echo("1"), op.await_nudge([K.nudge], wait_s)]
        assert store.run(op.blocking_move(K, wait_s)) is None
        assert store.run_all(requests) == [b"1", False]  # the longest of a trip decides

    def test_the_next_call_has_the_usual_timeout_again(
        self, proxy: Proxy, open_store: Open
    ) -> None:
        store = open_store(proxy.url, timeout_s=bound(0.1))
        insist(store, op.blocking_move(K, 0.01))
        proxy.fail_next("hold")
        with pytest.raises(ReplyLost):
            store.run(echo("1"))

    def test_what_comes_meanwhile_is_answered(
        self, store: OpenStore, redis: Redis, url: str
    ) -> None:
        def push() -> None:
            with Redis.from_url(url) as pusher:
                wait_until(lambda: pusher.info("clients")["blocked_clients"] == 1)
                pusher.lpush(K.pending, A)

        pushing = threading.Thread(target=push, name="pusher")
        pushing.start()
        assert store.run(op.blocking_move(K, WAIT_S)) == A
        pushing.join()
        check(redis, foreign=1, bare=1)


class TestFlows:
    def test_a_flow_is_driven_to_its_end(self, store: OpenStore) -> None:
        def flow() -> Flow[list[Any]]:
            one = yield echo("1")
            two, three = yield [echo("2"), echo("3")]
            return [one, two, three]

        assert store.follow(flow()) == [b"1", b"2", b"3"]

    def test_a_flow_without_a_step_ends(self, store: OpenStore) -> None:
        def flow() -> Flow[str]:
            yield from ()
            return "end"

        assert store.follow(flow()) == "end"

    def test_failures_are_raised_inside_it(self, store: OpenStore) -> None:
        def flow() -> Flow[bytes]:
            try:
                yield command("NO-SUCH-COMMAND", parse=bool)
            except StoreRefused:
                answer: bytes = yield echo("recovered")
                return answer
            raise AssertionError("it was not refused")

        assert store.follow(flow()) == b"recovered"

    def test_failures_of_many_stand_in_their_places(self, store: OpenStore) -> None:
        def flow() -> Flow[list[Any]]:
            answers: list[Any] = yield [command("NO-SUCH-COMMAND", parse=bool), echo("1")]
            return answers

        refused, answer = store.follow(flow())
        assert isinstance(refused, StoreRefused)
        assert answer == b"1"

    def test_a_lost_connection_is_raised_inside_a_step_of_many_too(
        self, closed_url: str, open_store: Open
    ) -> None:
        def flow() -> Flow[str]:
            try:
                yield [echo("1")]
            except StoreUnavailable:
                return "caught"
            raise AssertionError("it was available")

        assert open_store(closed_url).follow(flow()) == "caught"

    def test_failures_that_it_does_not_catch_come_out(self, store: OpenStore) -> None:
        def flow() -> Flow[None]:
            yield command("NO-SUCH-COMMAND", parse=bool)

        with pytest.raises(StoreError):
            store.follow(flow())
