"""What is asked of a cluster is taken apart by slot, and put together as one server would have answered."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from headrace import operations as op
from headrace.keys import CONSUMERS, LEADER, QUEUES, keys_of
from headrace.operations import Operation, command
from headrace.store.cluster import slots
from headrace.store.cluster.names import SLOTS, placed, slot_of, unplaced
from headrace.store.cluster.parts import take_apart
from headrace.store.guides import Host

NODES = (("a", 1), ("b", 2), ("c", 3))
names = st.text(
    st.characters(exclude_categories=["C", "Z"], exclude_characters=":{}"), min_size=1, max_size=99
)
EMAILS, IMAGES, REPORTS = (keys_of(queue) for queue in ("emails", "images", "reports"))


def raw(*words: Any) -> Operation[Any]:
    return command(*words, parse=lambda answer: answer)


@given(names)
def test_all_keys_of_a_queue_are_in_its_slot_as_redis_computes_it(queue: str) -> None:
    k = keys_of(queue)
    for key in (k.pending, k.dead, k.result("x"), k.unique("a:b{c}")):
        there, slot = placed(key)
        assert slot == slot_of(queue) == key_slot(there.encode())
        assert unplaced(there.encode()) == key.encode()


def test_what_is_no_queues_is_together_too() -> None:
    assert placed(LEADER) == ("{headrace}:leader", slot_of("headrace"))
    assert len({placed(key)[1] for key in (LEADER, QUEUES, CONSUMERS)}) == 1


def test_a_key_of_others_is_called_what_it_is_called() -> None:
    assert [unplaced(key) for key in (b"x", b"x}y", b"a{b}c", b"")] == [b"x", b"x}y", b"a{b}c", b""]


@pytest.mark.parametrize(
    ("words", "there"),
    [
        (("LRANGE", "q:dlq", 0, -1), ("LRANGE", "{q}:dlq", 0, -1)),
        (
            ("BLMOVE", "q", "q:processing", "RIGHT", "LEFT", 5.0),
            ("BLMOVE", "{q}", "{q}:processing", "RIGHT", "LEFT", 5.0),
        ),
        (("BLPOP", "q:nudge", 5.0), ("BLPOP", "{q}:nudge", 5.0)),
        (
            ("XREAD", "BLOCK", 5, "STREAMS", "q:s", "0"),
            ("XREAD", "BLOCK", 5, "STREAMS", "{q}:s", "0"),
        ),
        (("TYPE", b"q:x"), ("TYPE", "{q}:x")),
    ],
)
def test_the_keys_of_a_plain_command_are_found(words: Any, there: Any) -> None:
    (part,) = take_apart(raw(*words), NODES).parts
    assert (part.operation.args, part.slot) == (there, slot_of("q"))


def test_lists_come_back_in_the_order_that_was_asked_for() -> None:
    asked = ["emails:a", "images:b", "emails:c", "reports:d"]
    whole = take_apart(raw("MGET", *asked), NODES)
    values = {"{emails}:a": 1, "{images}:b": 2, "{emails}:c": 3, "{reports}:d": 4}
    answers = [[values[str(key)] for key in part.operation.args[1:]] for part in whole.parts]
    assert len(answers) == 3
    assert whole.join is not None
    assert whole.join(answers) == [1, 2, 3, 4]


def test_numbers_are_added() -> None:
    whole = take_apart(op.count_astir([EMAILS, IMAGES, REPORTS]), NODES)
    assert [len(part.operation.args) - 1 for part in whole.parts] == [3, 3, 3]
    assert whole.join is not None
    assert whole.join([1, 0, 2]) == 3


def test_all_nodes_are_asked_who_is_connected_and_what_time_it_is() -> None:
    whole = take_apart(op.clients(), NODES)
    assert [part.host for part in whole.parts] == [*NODES]
    whole = take_apart(op.time_ms(), NODES)
    assert whole.join is not None
    assert whole.join([[b"10", b"5"], [b"9", b"999999"], [b"10", b"4"]]) == [b"9", b"999999"]


def test_a_scan_goes_from_node_to_node() -> None:
    pages: dict[Host, dict[int, Any]] = {  # by node: what the cursors there lead to
        ("a", 1): {0: (7, [b"{q}:x"]), 7: (0, [b"other"])},
        ("b", 2): {0: (0, [])},
        ("c", 3): {0: (2, [b"{r}"]), 2: (0, [])},
    }
    cursor, found, looks = "0", list[bytes](), 0
    while looks == 0 or cursor != "0":
        (part,) = take_apart(raw("SCAN", cursor, "COUNT", 10), NODES).parts
        assert part.host is not None
        there, keys = pages[part.host][int(part.operation.args[1])]
        after, some = part.operation.parse([b"%d" % there, keys])
        cursor, found, looks = after.decode(), found + some, looks + 1
    assert (found, looks) == ([b"q:x", b"other", b"r"], 5)


def test_what_cannot_be_taken_apart_is_refused() -> None:
    with pytest.raises(ValueError, match="names keys of several queues"):
        take_apart(op.run("settle", (EMAILS.processing, IMAGES.processing), (), int), NODES)


def test_a_slot_map_is_read_with_its_gaps() -> None:
    answer = [
        [100, 200, [b"10.0.0.2", 7001, b"id2"], [b"10.0.0.4", 7003, b"id4"]],
        [0, 99, [b"10.0.0.1", 7000, b"id1"]],
        [300, SLOTS - 1, [b"", 7002, b"id3"]],  # it does not know its own address
    ]
    found = slots.read(answer, ("seed", 7000))
    assert found.primaries == (("10.0.0.1", 7000), ("10.0.0.2", 7001), ("seed", 7002))
    assert found.replicas == (("10.0.0.4", 7003),)
    assert [found.owner(slot) for slot in (0, 200, 250, 300)] == [
        ("10.0.0.1", 7000),
        ("10.0.0.2", 7001),
        None,
        ("seed", 7002),
    ]
    found.moved(250, ("new", 1))
    assert found.owner(250) == ("new", 1)
    assert found.primaries[-1] == ("new", 1)
