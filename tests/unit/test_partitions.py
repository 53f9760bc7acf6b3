"""Which partition a key belongs to, and which partitions are whose."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from headrace import Headrace, InvalidJob, InvalidSetting
from headrace.ids import new_id, time_ms_of
from headrace.lanes.declared import By, declared
from headrace.operations import Snapshot
from headrace.partitions.declared import Partitions
from headrace.partitions.names import (
    ByQueue,
    beside,
    jump,
    name_of,
    names_of,
    number_for,
    place_of,
    split,
)
from headrace.partitions.requests import Count, Share, own_of
from headrace.partitions.view import expanded, folded, joined, parts_of

KEYS = [f"user-{n}" for n in range(20_000)]


def placed(by: By = None, *calls: Any, partitions: int = 16, **where: Any) -> list[str]:
    queues = Partitions()
    queues.declare("emails", partitions, by, None)
    return [queues.place("emails", args, {}, names=("user",), **where) for args in calls]


def test_a_key_has_the_same_partition_on_every_machine_and_in_every_release() -> None:
    # Whoever changes these moves jobs of one key apart while two releases run beside one another.
    assert [number_for(key, 16) for key in ("a", "b", "user-1", "ü", "")] == [11, 13, 4, 2, 5]


def test_the_hash_is_the_published_one() -> None:
    # As other implementations test theirs.
    known = {(1, 1): 0, (42, 57): 43, (0xDEAD10CC, 1): 0, (0xDEAD10CC, 666): 361, (256, 1024): 520}
    assert {pair: jump(*pair) for pair in known} == known


def test_keys_are_spread_evenly() -> None:
    counts = Counter(number_for(key, 16) for key in KEYS)
    assert len(counts) == 16
    assert all(abs(count - 1_250) < 200 for count in counts.values()), counts


def test_more_partitions_move_only_what_the_new_ones_get() -> None:
    moved = [key for key in KEYS if number_for(key, 16) != number_for(key, 20)]
    assert all(number_for(key, 20) >= 16 for key in moved)
    assert abs(len(moved) / len(KEYS) - 4 / 20) < 0.02


def test_the_first_partition_is_called_as_the_queue() -> None:
    assert names_of("emails", 3) == ["emails", "emails@1", "emails@2"]
    assert [split(name) for name in names_of("emails", 3)] == [("emails", n) for n in range(3)]
    assert split("news@latest") == ("news@latest", 0)
    assert split("news@007") == ("news@007", 0)
    assert beside("a", ["a@10", "a@9", "a", "b@1", "a@x"]) == ["a@9", "a@10"]


def test_an_id_says_where_its_job_went() -> None:
    job_id = f"{new_id()}@7"
    assert time_ms_of(job_id) == time_ms_of(job_id[:26])
    assert place_of(job_id, "emails") == place_of(job_id, "emails@7") == "emails@7"
    assert place_of(new_id(), "emails") == "emails"


def test_what_is_said_of_a_queue_holds_for_its_partitions() -> None:
    said = ByQueue[int]()
    assert said.get("emails@3") is None
    said["emails"] = 1
    assert said.get("emails@3") == said.get("emails") == 1
    assert "emails@3" in said
    assert "images" not in said
    said["emails@3"] = 2
    assert said.get("emails@3") == 2


@pytest.mark.parametrize("count", [1, 2, 3, 16])
@pytest.mark.parametrize("members", [1, 2, 3, 5, 16, 40])
def test_every_partition_is_somebodys_and_everybody_has_one(count: int, members: int) -> None:
    own = [own_of(count, Share(rank, members)) for rank in range(members)]
    assert {number for some in own for number in some} == set(range(count))
    assert all(own)
    assert max(map(len, own)) - min(map(len, own)) <= 1


def test_jobs_without_a_key_go_to_all_partitions_in_turn() -> None:
    counts = Counter(placed(None, *[("u",)] * 3_200))
    assert set(counts) == set(names_of("emails", 16))
    assert set(counts.values()) == {200}


def test_jobs_of_one_key_go_to_one_partition() -> None:
    by_name = placed("user", *[(f"user-{n}", k) for k in range(3) for n in range(50)])
    assert by_name[:50] == by_name[50:100] == by_name[100:]
    by_function = placed(lambda user, *_: user, *[(f"user-{n}",) for n in range(50)])
    assert by_function == by_name[:50]
    assert len(set(placed(None, ("a",), ("b",), ("c",), key="k"))) == 1
    assert len(set(placed(None, ("a",), ("b",), ("c",), lane="*/k"))) == 1


def test_the_number_that_redis_says_counts() -> None:
    queues = Partitions()
    queues.declare("emails", 16, "user", None)
    queues.said({"emails": Count(2, 16)})
    assert {queues.place("emails", (f"u{n}",), {}, names=("user",)) for n in range(50)} == {
        "emails",
        "emails@1",
    }


def test_other_queues_are_left_alone() -> None:
    queues = Partitions()
    queues.declare("emails", 16, None, None)
    assert queues.place("images", (), {}) == "images"
    assert queues.place("emails@3", (), {}) == "emails@3"


@pytest.mark.parametrize("count", [0, -1, 1_001, True, 2.0, "2"])
def test_a_number_that_means_nothing_is_refused(count: Any) -> None:
    with pytest.raises(InvalidSetting, match="partitions="):
        Headrace().partition_queue("emails", count)


def test_a_partition_is_not_divided_again() -> None:
    with pytest.raises(InvalidSetting, match="divide 'emails'"):
        Headrace().partition_queue("emails@3", 2)


def test_a_schedule_is_the_same_whoever_declares_it_and_fires_into_the_first_partition() -> None:
    app = Headrace(queue="emails")
    app.partition_queue("emails", 16, by="user")

    @app.task
    def remind(user: str) -> None: ...

    remind.every(60, args=("ada",))
    app.task(name="sweep")(lambda: None).every(60)
    assert remind.call("ada").queue != "emails"
    assert {one.queue for one in app.declared_schedules().values()} == {"emails"}
    assert app.partitions.whole("images@3") == "images@3"


def test_a_queue_has_a_slot_at_least_for_each_partition() -> None:
    app = Headrace()
    app.partition_queue("emails", 4)
    with pytest.raises(InvalidSetting, match="concurrency_limit=3 is too few"):
        app.limit_queue("emails", concurrency_limit=3)
    app.limit_queue("emails", rate_limit="1/s", concurrency_limit=4)
    app.limit_queue("images", concurrency_limit=3)
    with pytest.raises(InvalidSetting, match="concurrency_limit=3 is too few"):
        app.partition_queue("images", 4)


def test_a_limit_is_shared_among_as_many_partitions_as_jobs_may_be_in() -> None:
    queues = Partitions()
    queues.declare("emails", 4, None, None)
    assert queues.part("emails@3") == (3, 4)
    queues.said({"emails": Count(4, 8)})  # becomes more, or fewer
    assert queues.part("emails") == (0, 8)
    queues.said({"emails": Count(1, 2)})  # is divided no more
    assert queues.part("emails") == (0, 1)
    assert queues.part("images") is None


def test_who_knows_of_no_partitions_says_nothing_of_shares() -> None:
    app = Headrace()
    app.limit_queue("emails", rate_limit="8/s")
    assert "*part" not in declared(app, "emails")
    app.partition_queue("emails", 4)
    for queue, part in (("emails", "0 4"), ("emails@3", "3 4")):
        assert declared(app, queue)["*part"] == part


def test_jobs_that_one_limit_bounds_are_in_one_partition() -> None:
    app = Headrace(queue="emails")
    app.partition_queue("emails", 16)

    @app.task(rate_limit="1/s")
    def report() -> None: ...

    @app.task(concurrency_limit=1, limit_by="user")
    def send(user: str) -> None: ...

    assert len({report.call().queue for _ in range(1_000)}) == 1
    of_users = {user: {send.call(user).queue for _ in range(9)} for user in map(str, range(100))}
    assert {len(places) for places in of_users.values()} == {1}
    assert len(set().union(*of_users.values())) > 10
    assert app.call("send", "7").queue == send.call(user="7").queue


def test_a_limit_goes_by_the_key_that_its_queue_is_divided_by_or_is_refused() -> None:
    app = Headrace(queue="emails")
    app.partition_queue("emails", 16, by="user")

    @app.task(rate_limit="1/s", limit_by="user")
    def send(user: str | None, account: str) -> None: ...

    @app.task(rate_limit="1/s", limit_by="account")
    def bill(user: str | None, account: str) -> None: ...

    @app.task(rate_limit="1/s")
    def report(user: str | None) -> None: ...

    @app.task
    def note(user: str) -> None: ...

    assert send.call("a/da", "x").queue == note.call("a/da").queue
    with pytest.raises(InvalidJob, match="limit_by= name the same key"):
        bill.call("ada", "x")
    with pytest.raises(InvalidJob, match="limit_by= name the same key"):
        report.call("ada")
    assert (
        len({report.call(None).queue for _ in range(300)}) == 1
    )  # it has no key: its limit says where
    assert len({bill.call(None, "x").queue for _ in range(300)}) == 1
    with pytest.raises(InvalidJob, match="limit_by= name the same key"):
        send.options(lane="bob").call("ada", "x")
    assert report.options(queue="slow").call("ada").queue == "slow"


def snapshot(queue: str, **counts: Any) -> Snapshot:
    places: dict[str, Any] = {
        "pending": 0,
        "priority": 0,
        "delayed": 0,
        "processing": 0,
        "dead": 0,
        "leases": 0,
    }
    rest: dict[str, Any] = {
        "claims": 0,
        "paused": False,
        "oldest": b"",
        "first_priority": b"",
        "due_at_ms": None,
    }
    return Snapshot(queue, **({"now_ms": 1} | places | rest | {"counters": {}} | counts))


def test_the_counts_of_a_queue_are_the_sums_of_its_partitions() -> None:
    young, old = (f'{{"id":"{new_id()}","task":"t"}}'.encode() for _ in range(2))
    parts = {"emails": parts_of("emails", Count(2, 2), ["emails@7", "x@1", "emails"])}
    assert parts == {"emails": ["emails", "emails@1", "emails@7"]}
    assert folded(["a@1", *parts["emails"]], parts) == ["a@1", "emails"]
    assert expanded(["x", "emails"], parts) == ["x", *parts["emails"]]
    whole, other = joined(
        [
            snapshot("emails", pending=1, counters={"done": 2}, now_ms=5, oldest=young),
            snapshot("a@1", pending=9),
            snapshot("emails@1", pending=2, dead=1, counters={"done": 3, "dead": 1}, paused=True),
            snapshot("emails@7", due_at_ms=7, pending=1, oldest=old),
        ],
        parts,
    )
    assert (whole.queue, whole.pending, whole.dead, whole.now_ms) == ("emails", 4, 1, 5)
    assert whole.counters == {"done": 5, "dead": 1}
    assert whole.paused
    assert whole.due_at_ms == 7
    assert other == snapshot("a@1", pending=9)
    assert name_of("emails", 0) == "emails"
