"""The invariants of the protocol, as one check of everything that a queue keeps in Redis."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from redis import Redis

from headrace import wire
from headrace.keys import Keys, keys_of
from headrace.lanes import lane_keys

MAX_NUDGES = 1_000


def ends(counters: dict[str, int]) -> dict[str, int]:
    """Return what has become of jobs, without what the machine's pace adds.

    What is claimed ahead is released when nothing has started for a tenth of a second, also because the
    machine stood still. A release that the lease keeper adds after a job's end comes after that, if that
    was in time, and is counted as lost.
    """
    return {name: n for name, n in counters.items() if name not in ("release", "lost")}


@dataclass(frozen=True, slots=True)
class State:
    """All that a queue keeps, read at one instant."""

    pending: list[bytes]
    processing: list[bytes]
    dead: list[bytes]
    priority: list[tuple[bytes, float]]
    delayed: list[tuple[bytes, float]]
    leases: dict[str, float]
    claims: dict[str, tuple[str, bytes]]  # name -> token, bytes
    counters: dict[str, int]
    nudges: int
    limited: dict[str, tuple[str, bytes]] = field(default_factory=dict)  # id -> lane, rank; bytes
    lanes: list[str] = field(default_factory=list)

    @property
    def places(self) -> dict[str, list[bytes]]:
        """The jobs of each place."""
        return {
            "pending": self.pending,
            "processing": self.processing,
            "dead": self.dead,
            "priority": [job for job, _ in self.priority],
            "delayed": [job for job, _ in self.delayed],
            "limited": [job for _, job in self.limited.values()],
        }

    @property
    def foreign(self) -> int:
        """The residual of I3: what plain clients brought, less what they took."""
        ends = ("done", "cancel", "drop", "purged", "moved")
        ended = sum(self.counters.get(name, 0) for name in ends)
        return sum(map(len, self.places.values())) + ended - self.counters.get("enqueued", 0)


def read(redis: Redis, queue: str = "queue") -> State:
    """Read everything in one MULTI/EXEC."""
    k = keys_of(queue)
    with redis.pipeline(transaction=True) as pipe:
        for key in (k.pending, k.processing, k.dead):
            pipe.lrange(key, 0, -1)
        for key in (k.priority, k.delayed, k.leases):
            pipe.zrange(key, 0, -1, withscores=True)
        pipe.hgetall(k.claims)
        pipe.hgetall(k.stats)
        pipe.llen(k.nudge)
        pipe.hgetall(k.limited)
        pipe.zrange(lane_keys(k).lanes, 0, -1)
        answers = pipe.execute()
    pending, processing, dead, priority, delayed, leases, claims, stats, nudges = answers[:9]
    limited = {name.decode(): value.split(b" ", 2) for name, value in answers[9].items()}
    held = {name: value.split(b" ", 1) for name, value in claims.items()}
    return State(
        pending,
        processing,
        dead,
        [(job, score) for job, score in priority],
        [(job, score) for job, score in delayed],
        {name.decode(): score for name, score in leases},
        {name.decode(): (token.decode(), job) for name, (token, job) in held.items()},
        {name.decode(): int(value) for name, value in stats.items()},
        nudges,
        {
            name: (f"{lane.decode()} {rank.decode()}", job)
            for name, (lane, rank, job) in limited.items()
        },
        [member.decode() for member in answers[10]],
    )


def merged(states: Sequence[State]) -> State:
    """Return the states of the partitions of a queue as one."""
    if len(states) == 1:
        return states[0]
    counters = sum((Counter(one.counters) for one in states), Counter[str]())
    return State(
        [job for one in states for job in one.pending],
        [job for one in states for job in one.processing],
        [job for one in states for job in one.dead],
        [pair for one in states for pair in one.priority],
        [pair for one in states for pair in one.delayed],
        {name: at for one in states for name, at in one.leases.items()},
        {name: held for one in states for name, held in one.claims.items()},
        dict(counters),
        sum(one.nudges for one in states),
        {name: pair for one in states for name, pair in one.limited.items()},
        [member for one in states for member in one.lanes],
    )


def check(
    redis: Redis,
    queue: str = "queue",
    *,
    foreign: int = 0,
    bare: int = 0,
    gone: int = 0,
    twins: Collection[str] = (),
) -> State:
    """Assert the invariants, and give what they were asserted on.

    Args:
        redis: a plain client.
        queue: the queue's name.
        foreign: how many jobs plain clients brought, less those that they took (I3).
        bare: how many items of processing have no lease: moved there, and not yet adopted or swept.
        gone: how many leases have no item any more: a plain LREM took it.
        twins: ids that were brought more than once, so that they may stand in several places.
    """
    state = read(redis, queue)
    _assert_one_place(state, twins)
    _assert_leases(state, bare, gone)
    turns = sorted(f"{turn}{name}" for name, (turn, _) in state.limited.items())
    assert sorted(state.lanes) == turns, f"jobs in lanes {turns}, but turns {state.lanes}"
    assert state.foreign == foreign, f"I3: {state.foreign} foreign, expected {foreign}: {state}"
    _assert_bounds(redis, keys_of(queue), state)
    return state


def _assert_one_place(state: State, twins: Collection[str]) -> None:
    places: dict[str, list[str]] = {}
    for place, jobs in state.places.items():
        for job in jobs:
            if (parts := wire.split(job)) is not None:
                places.setdefault(parts[0].id, []).append(place)
    several = {i: where for i, where in places.items() if len(where) > 1 and i not in twins}
    assert not several, f"I2: ids in several places: {several}"


def _assert_leases(state: State, bare: int, gone: int) -> None:
    assert state.leases.keys() == state.claims.keys(), (
        f"I2: leases {sorted(state.leases)}, but claims {sorted(state.claims)}"
    )
    items = Counter(state.processing)
    leased = Counter(job for _, job in state.claims.values())
    assert (items - leased).total() == bare, f"I2: without a lease: {items - leased}"
    assert (leased - items).total() == gone, f"I9: leases without an item: {leased - items}"
    for name, (token, job) in state.claims.items():
        if not name.startswith("~"):
            parts = wire.split(job)
            assert parts is not None and parts[0].id == name, f"{name} leases {job[:200]!r}"
            continue
        digest, _, ordinal = name[1:].partition(":")
        assert digest == hashlib.sha1(job).hexdigest(), f"{name} leases {job[:200]!r}"
        assert token == "-", f"{name} belongs to {token}"
        missing = [n for n in range(1, int(ordinal)) if f"~{digest}:{n}" not in state.claims]
        assert not missing, f"{name}, but not the ordinals {missing}"


def _assert_bounds(redis: Redis, k: Keys, state: State) -> None:
    assert state.nudges <= MAX_NUDGES, f"I12: {state.nudges} nudges"
    for key in (k.nudge, k.cancelled):
        ttl_ms = redis.pttl(key)
        assert ttl_ms != -1, f"I12: {key} never expires"
