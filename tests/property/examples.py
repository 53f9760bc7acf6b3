"""What the machine's examples are made of: few ids, few payloads, hours.

Equal bytes and equal ids are the rule here, not the exception.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from hypothesis import strategies as st

from headrace import operations as op
from headrace import wire
from headrace.keys import keys_of

T = TypeVar("T")

HOUR = 3_600_000
LEASE, BARE_LEASE, GRACE = 2 * HOUR, 3 * HOUR, HOUR
MAX_CRASHES = 2
K = keys_of("queue")
FAILURE = wire.Error("max_attempts", type="ValueError", message="no", failed_at=1, consumer="A")

JOBS = [
    wire.assemble(job_id, b',"task":"t"}', priority)
    for job_id, priority in [("x", 0), ("y", 0), ("x", 7), ("y", -7)]
]
FOREIGN = [
    b'{"task":"t"}',
    b'{"task":"t","id":"x"}',
    b'{"id":"x","task":"t"}',  # equal to one of ours
    b'{"id":"x.1","task":"t"}',  # an id that a renamed job would get
    b'{"id":"x","priority":7,"task":"t"}',
    b'{"id":"x","key":"k1","task":"t"}',  # has the key that a job of ours may have
    b'{"id":"x","priority":1.5,"task":"t"}',  # no priority, and no head beyond its id
    b'{"id":"y","crashes":1,"task":"t","more":[1e400,null]}\n',
    b'{"id":"~x","priority":7,"task"',  # looks as if it had a head
    b'{"id":"y",oops}',
    b"\xff oops",
]

NAMES = ["pending", "processing", "dead", "delayed", "priority"]
KEYS = ("k1", "k2")
UNIQUE = tuple(K.unique(key) for key in KEYS)

indexes = st.integers(0, 5)
names = st.sampled_from("AB")
lost_one_in_three = st.sampled_from([False, False, True])
verbs: st.SearchStrategy[op.Verb] = st.sampled_from(
    ["done", "retry", "park", "release", "dead", "dead", "drop", "cancel"]
)
several_verbs = st.lists(st.tuples(indexes, verbs), min_size=1, max_size=3)
OPERATIONS = ["pause", "resume", "resume", "look", "look", "forget the scripts", "save", "save"]
delays = st.sampled_from([0, 0, HOUR, 5 * HOUR])
jobs = st.sampled_from(JOBS)
foreign = st.sampled_from(FOREIGN)


def pick(items: Sequence[T], index: int) -> T:
    return items[index % len(items)]


def split(job: bytes) -> tuple[wire.Head, bytes]:
    parts = wire.split(job)
    assert parts, job
    return parts
