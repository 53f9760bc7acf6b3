"""``headrace partition``, and that a divided queue is one queue to every other command."""

from __future__ import annotations

import pytest
from redis import Redis

from headrace import Headrace as Application
from headrace import operations as op
from headrace.embedded import EmbeddedServer
from headrace.keys import keys_of
from headrace.partitions import requests
from headrace.partitions.names import names_of
from headrace.store import Store
from tests.support.commands import Headrace
from tests.support.jobs import bury

NAMES = names_of("emails", 4)


@pytest.fixture
def divided(headrace: Headrace) -> Headrace:
    """Run commands where the queue emails has four partitions."""
    headrace("partition", "emails", "4", "--now")
    return headrace


def count(store: Store, name: str) -> int:
    return store.run(op.snapshot(keys_of(name))).waiting


def test_a_queue_is_divided_and_shown(headrace: Headrace, store: Store) -> None:
    ran = headrace("partition", "emails", "2", "--now", "--json")
    assert (ran.code, ran.err) == (0, "")
    assert ran.json["partitions"] == 2
    assert [one["partition"] for one in ran.json["each"]] == ["emails", "emails@1"]
    store.run(requests.attend("emails", "mary"))
    shown = headrace("partition", "emails")
    assert [line.split()[0] for line in shown.lines] == ["partition", "emails", "emails@1"]
    assert all(line.endswith("mary") for line in shown.lines[1:])


def test_it_is_one_queue_to_all_commands(divided: Headrace, store: Store) -> None:
    ids = divided("produce", "echo", "-n", "400", "-q", "emails").lines
    assert {count(store, name) for name in NAMES} == {100}
    assert [queue["waiting"] for queue in divided("info", "--json").json["queues"]] == [400, 0]
    (emails,) = divided("info", "emails", "--json").json["queues"]
    assert (emails["queue"], emails["waiting"], emails["enqueued"]) == ("emails", 400, 400)
    (one,) = divided("info", "emails@1", "--json").json["queues"]
    assert (one["queue"], one["waiting"]) == ("emails@1", 100)
    audit = divided("audit", "emails", "--json").json
    assert audit["adds_up"]
    assert [(one["queue"], one["pending"]) for one in audit["queues"]] == [("emails", 400)]
    for job_id in (ids[0], ids[-1]):
        (found,) = divided("explain", job_id, "emails", "--json").json
        assert found["state"] == "pending"
    assert divided("cancel", ids[-1], "-q", "emails").code == 0
    assert divided("pause", "emails").lines == ["emails is paused"]
    assert all(store.run(op.is_paused(keys_of(name))) for name in NAMES)
    assert divided("resume", "emails").lines == ["emails is not paused"]
    checked = divided("doctor", "emails").out
    assert all(name in checked for name in NAMES)


def test_dead_letters_of_all_partitions_are_one_list(divided: Headrace, store: Store) -> None:
    for name in NAMES:
        bury(store, name)
    assert len(divided("dlq", "list", "emails", "--json").json) == 4
    assert divided("dlq", "redrive", "--all", "-q", "emails").lines == ["4 dead letters redriven"]
    assert [count(store, name) for name in NAMES] == [1, 1, 1, 1]


def test_a_key_is_unique_whoever_brings_it(divided: Headrace, url: str) -> None:
    first = divided("produce", "echo", "-q", "emails", "--key", "once").lines
    app = Application(url, queue="emails")
    app.partition_queue("emails", 4)
    assert [app.enqueue_many([app.call_with("echo", (), {}, {"key": "once"})])[0].id] == first
    app.close()


def test_partitions_that_are_too_many_are_emptied_first(divided: Headrace, store: Store) -> None:
    divided("produce", "echo", "-n", "400", "-q", "emails")
    said = divided("partition", "emails", "2").lines[-1]
    assert said.startswith("200 jobs are still in partitions that are too many")
    divided("produce", "echo", "-n", "400", "-q", "emails")
    assert [count(store, name) for name in NAMES] == [300, 300, 100, 100]
    (emails,) = divided("info", "emails", "--json").json["queues"]
    assert emails["waiting"] == 800
    store.run(op.command("DEL", *NAMES[2:], parse=int))
    again = divided("partition", "emails", "2", "--json").json
    assert [one["partition"] for one in again["each"]] == NAMES[:2]


def test_a_divided_queue_moves_whole(divided: Headrace, server: EmbeddedServer) -> None:
    elsewhere = f"{server.url.removesuffix('/0')}/1"
    divided("produce", "echo", "-n", "400", "-q", "emails")
    ran = divided("move", "emails", "--to", elsewhere, "--json")
    assert ran.json["moved"] == {"pending": 400}
    there = Store(elsewhere)
    assert [count(there, name) for name in NAMES] == [100] * 4
    assert there.run(requests.counts(["emails"]))["emails"].filled == 4
    there.close()


def test_a_queue_that_was_divided_is_looked_after_still(divided: Headrace, store: Store) -> None:
    again = divided("partition", "emails", "1", "--json").json
    assert [one["filled"] for one in again["each"]] == [True, False]
    store.run_all([op.register("emails@3")])  # a producer that slept has brought a job
    assert [one["queue"] for one in divided("info", "--json").json["queues"]] == ["emails", "queue"]
    assert len(divided("partition", "emails", "--json").json["each"]) == 3


def test_a_queue_that_is_called_as_a_partition_is_left_alone(
    headrace: Headrace, store: Store
) -> None:
    headrace("produce", "echo", "-q", "emails@3")
    refused = headrace("partition", "emails", "2", "--now")
    assert refused.code == 2
    assert "there is a queue emails@3 already" in refused.err


def test_what_makes_no_sense_is_refused(divided: Headrace) -> None:
    assert "from 1 to 1,000" in divided("partition", "emails", "0").err
    assert "say emails" in divided("partition", "emails@1", "4").err
    refused = divided("limit", "emails", "--concurrency", "3")
    assert refused.code == 2
    assert "has 4 partitions" in refused.err


def test_an_operators_limits_hold_in_all_partitions_and_in_new_ones(
    divided: Headrace, redis: Redis
) -> None:
    divided("limit", "emails", "--rate", "100/s", "--concurrency", "6")
    divided("limit", "emails", "send", "--rate", "5/s")
    divided("partition", "emails", "6", "--now")
    assert divided("limit", "emails").lines == [
        "the queue: 100 jobs/s, 10 at once after a rest; 6 at once (set by an operator)",
        "send: 5 jobs/s, 1 at once after a rest (set by an operator)",
    ]
    for number, name in enumerate(names_of("emails", 6)):
        there = redis.hgetall(f"{name}:limits")
        assert there == {b"!*": b"100 10 6", b"!send": b"5 1 0", b"*part": b"%d 6" % number}
    divided("partition", "emails", "2")
    assert redis.hget("emails@1:limits", "*part") == b"1 2"
    divided("limit", "emails", "--clear")
    divided("limit", "emails", "send", "--clear")
    assert divided("limit", "emails").out == "emails has no limits\n"
