"""Any transitions in any order: after each, Redis holds what the model holds, and the invariants hold.

The machine drives two consumers, plain clients, a leader and an operator against a real server. Leases
last hours, and ``time_passes`` ages what Redis holds, so that how fast the test runs decides nothing.
Few ids and few payloads: equal bytes and equal ids are the rule here, not the exception.

HYPOTHESIS_PROFILE: ``default`` explores anew each time, ``ci`` takes the same examples each time,
``deep`` takes its time.
"""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha1
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from headrace import flows, wire
from headrace import operations as op
from headrace.keys import keys_of
from headrace.operations import Operation
from headrace.scripts import Script
from headrace.store import Store
from tests.property.model import ENDED, KEY_TTL, Model, id_of

T = TypeVar("T")

PROFILE = os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "default")
BASE = settings(
    deadline=None,
    print_blob=True,
    stateful_step_count=60,
    suppress_health_check=list(HealthCheck),
)
# How many rounds, and each one's settings. Hypothesis varies what it has seen: many short rounds see
# more than a long one, but for examples that are the same each time there is only one. Not registered
# with Hypothesis: these are not for other tests.
PROFILES = {
    "default": (4, settings(BASE, max_examples=40)),
    "ci": (1, settings(BASE, max_examples=160, derandomize=True, database=None)),
    "deep": (125, settings(BASE, max_examples=40)),
}

HOUR = 3_600_000
LEASE, BARE_LEASE, GRACE = 2 * HOUR, 3 * HOUR, HOUR
MAX_CRASHES = 2
K = keys_of("queue")
FORGOTTEN = rb'"failed_at":0,"consumer":"\1"}}'
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

# Reads a queue, and puts each instant on a whole hour, as the model has it: what it takes to run an
# example is rounded away. ARGV: the instant of the example's start, an hour.
READ = """#!lua
local base, hour = tonumber(ARGV[1]), tonumber(ARGV[2])
local function rounded(ms) return base + math.floor((ms - base) / hour + 0.5) * hour end
local read = {}
for i, key in ipairs(KEYS) do
  local kind = redis.call('TYPE', key).ok
  if kind == 'list' then read[i] = redis.call('LRANGE', key, 0, -1)
  elseif kind == 'string' then read[i] = redis.call('GET', key)
  elseif kind == 'hash' then
    for _, name in ipairs({'swept', 'quiet'}) do
      local at = redis.call('HGET', key, name)
      if at and at ~= '0' then redis.call('HSET', key, name, string.format('%.0f', rounded(at))) end
    end
    read[i] = redis.call('HGETALL', key)
  elseif kind == 'zset' then
    local pairs = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
    for n = 1, #pairs, 2 do
      local at = tonumber(pairs[n + 1])
      if at > 1000000 and rounded(at) ~= at then
        pairs[n + 1] = string.format('%.0f', rounded(at))
        redis.call('ZADD', key, pairs[n + 1], pairs[n])
      end
    end
    read[i] = pairs
  else read[i] = {} end
end
return {read, redis.call('KEYS', '*')}
"""
# ARGV: by how many ms everything gets older.
AGE = """#!lua
local ms = tonumber(ARGV[1])
for _, key in ipairs(redis.call('KEYS', '*')) do
  local kind, ttl = redis.call('TYPE', key).ok, redis.call('PTTL', key)
  if kind == 'zset' then
    for _, name in ipairs(redis.call('ZRANGE', key, 1000000, '+inf', 'BYSCORE')) do
      redis.call('ZINCRBY', key, 0 - ms, name)
    end
  elseif kind == 'hash' then
    for _, name in ipairs({'swept', 'quiet'}) do
      local at = redis.call('HGET', key, name)
      if at and at ~= '0' then redis.call('HINCRBY', key, name, 0 - ms) end
    end
  end
  if ttl >= 0 and ttl <= ms then redis.call('DEL', key)
  elseif ttl >= 0 then redis.call('PEXPIRE', key, ttl - ms) end
end
"""
DUMP = """#!lua
local copy = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  copy[#copy + 1] = key
  copy[#copy + 1] = redis.call('PTTL', key)
  copy[#copy + 1] = redis.call('DUMP', key)
end
return copy
"""
RESTORE = """#!lua
redis.call('FLUSHALL')
for i = 1, #ARGV, 3 do
  redis.call('RESTORE', ARGV[i], math.max(0, ARGV[i + 1]), ARGV[i + 2])
end
"""


@dataclass
class Held:
    """A claim as its consumer knows it."""

    job_id: str
    number: int
    job: bytes


@dataclass
class Moved:
    """A job that a consumer's blocking move gave it, and what it asks to adopt it as."""

    number: int
    moved: bytes
    job_id: str
    job: bytes


@dataclass
class Consumer:
    """What one consumer remembers; ``past`` are claims that it has given up, or lost."""

    name: str
    next_number: int = 1
    held: list[Held] = field(default_factory=list)
    moved: list[Moved] = field(default_factory=list)
    past: list[Held] = field(default_factory=list)

    def numbers(self, count: int) -> int:
        self.next_number += count
        return self.next_number - count

    def forget(self) -> None:
        self.past += self.held
        self.held, self.moved = [], []


@dataclass
class Savepoint:
    """All of Redis as it was, to go back to."""

    model: Model
    dump: list[Any]


def script(name: str, source: str) -> Script:
    return Script(name, source, sha1(source.encode(), usedforsecurity=False).hexdigest())


READ_SCRIPT, AGE_SCRIPT = script("read", READ), script("age", AGE)
DUMP_SCRIPT, RESTORE_SCRIPT = script("dump", DUMP), script("restore", RESTORE)
PLACES = (
    K.pending, K.processing, K.dead, K.delayed, K.priority, K.leases, K.claims, K.stats, K.meta,
    K.cancelled,
)  # fmt: skip
NAMES = ["pending", "processing", "dead", "delayed", "priority"]
KEYS = ("k1", "k2")
UNIQUE = tuple(K.unique(key) for key in KEYS)


def raw(script: Script, keys: Sequence[str] = (), *args: Any) -> Operation[Any]:
    return Operation(script.name, script, tuple(keys), args, parse=lambda raw: raw)


def plain(*args: Any) -> Operation[Any]:
    return op.command(*args, parse=lambda raw: raw)


def pairs(flat: list[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def pick(items: Sequence[T], index: int) -> T:
    return items[index % len(items)]


def split(job: bytes) -> tuple[wire.Head, bytes]:
    parts = wire.split(job)
    assert parts, job
    return parts


def same(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Tell whether nothing was moved; that a claim was lost is counted, and moves nothing."""
    stats = [{**state["stats"], "lost": 0} for state in (before, after)]
    return {**before, "stats": stats[0]} == {**after, "stats": stats[1]}


def when(*names: str) -> Callable[[Callable[..., None]], Any]:
    """Take a rule only where one of these has something in it."""
    return precondition(
        lambda self: any(getattr(self, n, None) or getattr(self.model, n, None) for n in names)
    )


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


class Protocol(RuleBasedStateMachine):
    """The transitions as rules. Each runs on Redis and on the model, and compares the answers."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.store = store
        self.model = Model()
        self.consumers = [Consumer("A"), Consumer("B")]
        self.plain: list[bytes] = []  # what a plain consumer works on
        self.fresh = 0
        self.savepoint: Savepoint | None = None

    @initialize(backlog=st.lists(jobs | foreign, max_size=6), dead=st.integers(0, 2))
    def start(self, backlog: list[bytes], dead: int) -> None:
        """Begin with an empty server, then some jobs, of which the first are dead."""
        (_, (seconds, micros)) = self.store.run_all([plain("FLUSHALL"), plain("TIME")])
        self.started_at = int(seconds) * 1000 + int(micros) // 1000
        for job in backlog:
            self.push_as_a_plain_client(job)
        if dead:
            self.claim("A", dead, lost=False)
            self.settle(0, [(0, "dead"), (1, "dead")], 0, oldest=False, lost=False)

    @property
    def held(self) -> list[Consumer]:
        """The consumers that know of a claim of their own."""
        return [consumer for consumer in self.consumers if consumer.held]

    @property
    def moved(self) -> list[tuple[Consumer, Moved]]:
        """What is to be adopted."""
        return [(consumer, m) for consumer in self.consumers for m in consumer.moved]

    @property
    def past(self) -> list[tuple[Consumer, Held]]:
        return [(consumer, held) for consumer in self.consumers for held in consumer.past]

    def consumer(self, name: str) -> Consumer:
        return self.consumers["AB".index(name)]

    # What is compared.

    def read(self) -> dict[str, Any]:
        """Read all of Redis, as the model has it."""
        results = tuple(K.result(job_id) for job_id in self.model.results)
        (contents, present), snapshot = self.store.run_all(
            [raw(READ_SCRIPT, PLACES + UNIQUE + results, self.started_at, HOUR), op.snapshot(K)]
        )
        lists, zsets, hashes = contents[:3], contents[3:6] + contents[9:10], contents[6:9]
        pending, processing, dead = (items[::-1] for items in lists)
        delayed, leases, cancelled = (
            {name: self.instant(at) for name, at in pairs(zset).items()}
            for zset in (zsets[0], zsets[2], zsets[3])
        )
        claims, stats, meta = map(pairs, hashes)
        assert claims.keys() == leases.keys(), "I2: a lease is a deadline and a claim"
        self.check_keys(present)
        self.check_counts(snapshot)
        swept, quiet = meta.get(b"swept"), meta.get(b"quiet")
        return {
            "pending": pending,
            "processing": processing,
            "dead": dead,
            "delayed": delayed,
            "priority": {job: int(score) for job, score in pairs(zsets[1]).items()},
            "leases": {
                name.decode(): (*self.claim_of(value), leases[name])
                for name, value in claims.items()
            },
            "cancelled": {name.decode(): at for name, at in cancelled.items()},
            "unique": {
                key: holder.decode()
                for key, holder in zip(KEYS, contents[10:12], strict=True)
                if holder
            },
            "results": {
                job_id: b"|".join(values)  # one element, or it is not the one expected
                for job_id, values in zip(self.model.results, contents[12:], strict=True)
            },
            "stats": {name.decode(): int(count) for name, count in stats.items()},
            "paused": b"paused" in meta,
            "swept": self.instant(swept) if swept else None,
            "quiet": self.instant(quiet) if quiet and int(quiet) else 0,
        }

    def instant(self, at: bytes) -> int:
        return int(at) - self.started_at + self.model.now if int(at) else ENDED

    def claim_of(self, value: bytes) -> tuple[str, bytes]:
        owner, _, job = value.partition(b" ")
        return owner.decode(), job

    def check_keys(self, present: list[bytes]) -> None:
        expected = {*PLACES, *UNIQUE, K.nudge, *(K.result(i) for i in self.model.results)}
        assert {key.decode() for key in present} <= expected, "I12: a key that nobody accounts for"

    def check_counts(self, snapshot: op.Snapshot) -> None:
        model = self.model
        assert snapshot.foreign == model.foreign, "I3: a job was lost, or made up"
        assert [getattr(snapshot, name) for name in NAMES] == [
            len(getattr(model, name)) for name in NAMES
        ]
        assert (snapshot.leases, snapshot.claims) == (len(model.leases), len(model.leases))

    @invariant()
    def redis_is_as_the_model_says(self) -> None:
        seen = self.read()
        expected = self.model.state()
        for place, held in expected.items():
            assert seen[place] == held, place
        # I9: an item has one lease. Only a plain LREM leaves one over.
        surplus = Counter(held.job for held in self.model.leases.values())
        surplus.subtract(Counter(self.model.processing))
        assert surplus <= self.model.taken, "I9: more leases than items"
        # I6. What ends in no brace is no job: no script can write its letter, so a consumer does.
        for job in (*seen["pending"], *seen["processing"], *seen["priority"]):
            if job.rstrip().endswith(b"}") and b'"error"' not in job:
                parts = wire.split(job)
                assert parts is None or parts[0].crashes < MAX_CRASHES, f"I6: {job!r}"

    def fresh_id(self) -> str:
        self.fresh += 1
        return f"f{self.fresh}"

    def both(self, operation: Operation[T], expected: Any) -> T:
        answer = self.store.run(operation)
        assert answer == expected, operation.name
        return answer

    def repeat(self, operation: Operation[Any], expected: Callable[[], Any]) -> None:
        """Send again what has been carried out: the answer was lost. I5: it changes nothing."""
        before = self.model.state()
        self.both(operation, expected())
        assert same(before, self.model.state()), f"I5: {operation.name} twice"

    # Producers.

    @rule(jobs=st.lists(jobs, min_size=1, max_size=3), delay=delays)
    def enqueue(self, jobs: list[bytes], delay: int) -> None:
        plain = not delay and not any(b'"priority"' in job for job in jobs)
        request = op.push(K, jobs) if plain else op.enqueue(K, jobs, due=f"+{delay}")
        self.both(request, op.Enqueued(self.model.enqueue(jobs, delay)))

    @rule(
        job=jobs,
        how=st.sampled_from(["k1", "k1", "k2", "full", "instant"]),
        number=st.integers(-1, 3),
    )
    def enqueue_with_an_option(self, job: bytes, how: str, number: int) -> None:
        model = self.model
        if how == "instant":
            due = f"@{self.started_at + number * HOUR}"
            answer = op.Enqueued(model.enqueue([job], number * HOUR))
            self.both(op.enqueue(K, [job], due=due), answer)
        elif how == "full":
            waiting = len(model.pending) + len(model.priority) + len(model.delayed)
            word = model.enqueue([job], 0, bound=number + 2)
            answer = op.Enqueued(word, waiting=waiting if word == "full" else 0)
            self.both(op.enqueue(K, [job], max_pending=number + 2), answer)
        else:
            # The key of a job that names it goes with the job, another one is held for a time.
            head, body = split(job)
            job, ttl = (
                (job, KEY_TTL) if number == 3 else (wire.join(head._replace(key=how), body), 0)
            )
            due, delay = ("+0", 0) if number < 2 else (f"+{HOUR}", HOUR)
            operation = op.enqueue(K, [job], due=due, unique=op.Unique(how, head.id, ttl))
            existing = model.unique.get(how, "")
            word = model.enqueue([job], delay, key=how, ttl=ttl)
            self.both(operation, op.Enqueued(word, existing))
            self.repeat(  # I5: with a key it may be sent twice
                operation,
                lambda: op.Enqueued(
                    model.enqueue([job], delay, key=how, ttl=ttl), model.unique[how]
                ),
            )

    @rule(job=foreign)
    def push_as_a_plain_client(self, job: bytes) -> None:
        self.store.run(plain("LPUSH", K.pending, job))
        self.model.push(job)

    # Consumers.

    @when("pending", "priority", "delayed", "paused")
    @rule(name=names, count=st.integers(1, 4), lost=lost_one_in_three)
    def claim(self, name: str, count: int, lost: bool) -> None:
        consumer, paused = self.consumer(name), self.model.paused
        first = consumer.numbers(count)
        operation = op.claim(K, count, lease_ms=LEASE, consumer=name, first=first)
        jobs = self.model.claim(count, LEASE, name, first)
        claimed = self.store.run(operation)
        assert (claimed.jobs, claimed.paused) == (jobs, paused)
        due = min(self.model.delayed.values(), default=None)
        left = None if claimed.due_ms is None else round(claimed.due_ms / HOUR) * HOUR
        assert left == (None if due is None else max(0, due - self.model.now))
        if not lost:
            for number, job in enumerate(jobs, first):
                self.receive(consumer, number, job)

    @when("pending")
    @rule(name=names, lost=lost_one_in_three)
    def move(self, name: str, lost: bool) -> None:
        """The blocking move of an idle consumer, as it is when there is a job."""
        expected = self.model.move()
        job = self.both(plain("LMOVE", K.pending, K.processing, "RIGHT", "LEFT"), expected)
        if not lost:
            consumer = self.consumer(name)
            self.receive(consumer, consumer.numbers(1), job, bare=True)

    def receive(self, consumer: Consumer, number: int, job: bytes, *, bare: bool = False) -> None:
        parts = wire.split(job)
        if parts and not bare:
            consumer.held.append(Held(parts[0].id, number, job))
            return
        try:
            head, body = parts or wire.canonical(job)
        except Exception:
            head, body = split(wire.malformed_letter(job, FAILURE))
        if len(head.id) == 26:  # a new one: random, and an example must be the same each time
            head = head._replace(id=self.fresh_id())
        adopted = job if parts else wire.join(head, body)
        consumer.moved.append(Moved(number, job, head.id, adopted))

    @when("moved")
    @rule(index=indexes, swept=lost_one_in_three, lost=lost_one_in_three, begun=st.booleans())
    def adopt(self, index: int, swept: bool, lost: bool, begun: bool = False) -> None:
        """Right after the move, or late: after a sweep, after a reclaim; repeated when lost."""
        if swept:
            self.sweep(everything=False, offset=0)
            self.redis_is_as_the_model_says()
        consumer, m = pick(self.moved, index)
        token = f"{consumer.name}:{m.number}"
        answer = self.adopts(token, m.moved, m.job_id, m.job, lost=lost, begun=begun)
        if answer == "duplicate":
            head, body = split(m.job)
            m.job_id = self.fresh_id()
            m.job = wire.join(head._replace(id=m.job_id), body)
            return
        consumer.moved.remove(m)
        if answer == "ok":
            consumer.held.append(Held(m.job_id, m.number, m.job))

    def adopts(
        self,
        token: str,
        moved: bytes,
        job_id: str,
        job: bytes,
        *,
        lost: bool,
        begun: bool = False,
    ) -> str:
        operation = op.adopt(
            K,
            token=token,
            lease_ms=LEASE,
            moved=moved,
            job_id=job_id,
            job=job,
            begun=begun,
            key=split(job)[0].key,
        )

        def expected() -> str:
            return self.model.adopt(token, LEASE, moved, job_id, job, begun)

        answer = self.both(operation, expected())
        if lost and answer == "ok":
            self.repeat(operation, expected)
        elif lost:  # not a repetition for Redis: an equal item may have come into its place
            answer = self.both(operation, expected())
        return answer

    @when("held")
    @rule(index=indexes, lost=lost_one_in_three)
    def rewrite(self, index: int, lost: bool) -> None:
        """Adopt what is held already: renewed, and without the error of a redriven job."""
        consumer = pick(self.held, index)
        held = pick(consumer.held, index)
        job = wire.redriven(held.job)
        if id_of(job) != held.job_id:  # it was malformed, and is again
            job = held.job
        token = f"{consumer.name}:{held.number}"
        if self.adopts(token, held.job, held.job_id, job, lost=lost) == "ok":
            held.job = job

    @when("held")
    @rule(
        index=indexes,
        chosen=several_verbs,
        delay=delays,
        oldest=st.booleans(),
        lost=lost_one_in_three,
    )
    def settle(
        self, index: int, chosen: list[tuple[int, op.Verb]], delay: int, oldest: bool, lost: bool
    ) -> None:
        if not self.held:
            return
        consumer = pick(self.held, index)
        ended = [pick(consumer.held, index) for index, _ in chosen]
        outcomes = [
            self.outcome(held, verb, delay, oldest)
            for held, (_, verb) in zip(ended, chosen, strict=True)
        ]
        operation = op.settle(K, consumer.name, outcomes)
        deaths, letters = sum(outcome.verb == "dead" for outcome in outcomes), len(self.model.dead)
        refused = self.both(operation, self.model.settle(consumer.name, outcomes))
        assert len(self.model.dead) - letters >= deaths - len(refused), "I7: a death has a letter"
        if lost:
            self.repeat(operation, lambda: self.model.settle(consumer.name, outcomes))
        for held in ended:
            if held in consumer.held:
                consumer.held.remove(held)
                consumer.past.append(held)

    def outcome(self, held: Held, verb: op.Verb, delay: int, oldest: bool) -> op.Outcome:
        head, body = split(held.job)
        job = b""
        if verb == "retry":
            head = head._replace(delivery=head.delivery + 1, attempt=head.attempt + 1)
            job = wire.join(head, body)
        elif verb == "park":
            job = wire.join(head._replace(delivery=head.delivery + 1, unknown_since=1), body)
        elif verb == "dead":
            job = self.letter(held.job)
        ttl = KEY_TTL if verb in {"done", "dead"} else 0
        number = -held.number if oldest else held.number
        key = split(held.job)[0].key
        return op.Outcome(held.job_id, number, verb, delay, job, ttl, verb.encode(), key)

    def letter(self, job: bytes) -> bytes:
        try:
            wire.read_body(job)
        except Exception:
            _, body = split(wire.malformed_letter(job, FAILURE))
            return wire.join(wire.Head(self.fresh_id()), body)
        return wire.letter(*split(job), FAILURE)

    @when("pending", "held")
    @rule(name=names, index=indexes, chosen=several_verbs, lost=lost_one_in_three)
    def turn(self, name: str, index: int, chosen: list[tuple[int, op.Verb]], lost: bool) -> None:
        """What a busy consumer does: end some, claim some."""
        self.settle(index, chosen, 0, oldest=False, lost=lost)
        self.redis_is_as_the_model_says()
        self.claim(name, 2, lost=False)

    @when("past", "leases")
    @rule(index=indexes, verb=verbs, how=st.sampled_from(["past", "past", "garbage", "other"]))
    def settle_what_is_not_ones_own(self, index: int, verb: op.Verb, how: str) -> None:
        """A claim of the past, of somebody else, of nobody. I4: a stale one ends nothing.

        Only after a rollback can a claim of the past be current again.
        """
        claims = self.past
        if how != "past":
            claims = []
            for name, lease in self.model.leases.items():
                number = int(lease.owner.partition(":")[2] or 1) + 1_000 * (how == "garbage")
                claims.append((pick(self.consumers, index), Held(name, number, lease.job)))
        if not claims:
            return
        consumer, held = pick(claims, index)
        if id_of(held.job) is None:
            return
        outcomes = [self.outcome(held, verb, 0, oldest=False)]
        its_lease = self.model.leases.get(held.job_id)
        before = self.model.state()
        current = its_lease is not None and its_lease.owner == f"{consumer.name}:{held.number}"
        answer = self.model.settle(consumer.name, outcomes)
        self.both(op.settle(K, consumer.name, outcomes), answer)
        if not current:
            assert answer == [held.job_id]
            assert same(before, self.model.state()), "I4: a stale claim ended a job"

    @when("held", "past")
    @rule(name=names)
    def extend(self, name: str) -> None:
        consumer = self.consumer(name)
        claims = [(held.job_id, held.number) for held in consumer.held + consumer.past[-2:]]
        if not claims:
            return
        operation = op.extend(K, name, claims, lease_ms=LEASE)
        wanted = [job_id for job_id, _ in claims if job_id in self.model.cancelled]
        answer = op.Extended(self.model.extend(name, claims, LEASE), wanted)
        self.both(operation, answer)
        self.both(operation, answer)  # I5

    @when("held", "moved")
    @rule(name=names)
    def crash(self, name: str) -> None:
        self.consumer(name).forget()

    @when("leases")
    @rule(name=names)
    def release_unknown(self, name: str) -> None:
        """Release what the consumer holds in Redis and does not know of: its answer was lost."""
        known = {(held.job_id, held.number) for held in self.consumer(name).held}
        mine = [
            (int(lease.owner.partition(":")[2]), job_id)
            for job_id, lease in self.model.leases.items()
            if lease.owner.startswith(f"{name}:")
        ]
        strays = [(number, job_id) for number, job_id in mine if (job_id, number) not in known]
        releases = [op.Outcome(i, n, "release") for n, i in sorted(strays, reverse=True)]
        self.model.settle(name, releases)
        assert self.store.follow(flows.release_unknown(K, name, known)) == len(strays)

    @when("leases")
    @rule(name=names)
    def is_gone(self, name: str) -> None:
        """Somebody sees that a consumer has no connection; it may be alive all the same."""
        mine = [lease for lease in self.model.leases.values() if lease.owner.startswith(f"{name}:")]
        for lease in mine:
            lease.deadline = ENDED
        assert self.store.follow(flows.expire_leases(K, name)) == len(mine)

    # Plain consumers.

    @when("pending")
    @rule()
    def move_as_a_plain_client(self) -> None:
        expected = self.model.move()
        self.plain.append(self.both(plain("RPOPLPUSH", K.pending, K.processing), expected))

    @when("plain", "processing")
    @rule(index=indexes)
    def remove_as_a_plain_client(self, index: int) -> None:
        """Mostly what the plain client moved; sometimes what is not its own."""
        job = pick(self.plain + self.model.processing, index)
        if job in self.plain:
            self.plain.remove(job)
        self.both(plain("LREM", K.processing, 1, job), int(self.model.remove(job)))

    # The leader.

    @when("delayed")
    @rule(limit=st.sampled_from([1, 2, 1_000]))
    def promote(self, limit: int) -> None:
        due = [at for at in self.model.delayed.values() if at <= self.model.now]
        answer = self.store.run(op.promote(K, limit))
        assert answer.moved == self.model.promote(limit) == min(limit, len(due)), (
            "I8: due, not more"
        )
        if answer.moved < limit:
            self.redis_is_as_the_model_says()
            assert self.store.run(op.promote(K, limit)).moved == 0, "I5: promote twice"

    @when("processing")
    @rule(everything=st.booleans(), offset=st.sampled_from([0, 0, 0, 1]))
    def sweep(self, everything: bool, offset: int) -> None:
        model = self.model
        operation = op.sweep(
            K, bare_lease_ms=BARE_LEASE, offset=offset, only_if_unequal=not everything
        )
        given = model.sweep(BARE_LEASE, offset, only_if_unequal=not everything)
        self.both(operation, op.Swept(given, 0))
        self.both(operation, op.Swept(0, 0))  # I5
        if everything and offset == 0:
            leased = all(
                model.leased(job) >= model.processing.count(job) for job in model.processing
            )
            assert leased, "I2: an item without a lease after a sweep"

    @when("leases")
    @rule(
        limit=st.sampled_from([1, 2, 100]),
        grace=st.sampled_from([0, 0, GRACE]),
        gap=st.booleans(),
        rested=st.sampled_from([None, None, 0, 2, 3]),
    )
    def reclaim(self, limit: int, grace: int, gap: bool, rested: int | None = None) -> None:
        """Rested: so many hours ago nothing was leased here, as whoever sweeps says."""
        gap_ms = 5 * HOUR // 2 if gap else 1_000 * HOUR
        rested_ms = 0
        if rested is not None:
            rested_ms = int(self.store.run(op.time_ms())) - rested * HOUR
            rested = self.model.now - rested * HOUR
        operation = op.reclaim(
            K,
            grace_ms=grace,
            gap_ms=gap_ms,
            max_crashes=MAX_CRASHES,
            rested_ms=rested_ms,
            limit=limit,
        )
        live = {n for n, lease in self.model.leases.items() if lease.deadline > self.model.now}
        letters = len(self.model.dead)
        expected = self.model.reclaim(limit, grace, gap_ms, MAX_CRASHES, rested)
        answer = self.store.run(operation)
        assert replace(answer, quiet_ms=round(answer.quiet_ms / HOUR) * HOUR) == expected
        assert {n for n in live if n[0] != "~"} <= set(self.model.leases), "a lease ended early"
        assert len(self.model.dead) - letters == answer.died, "I7: a death has a letter"
        self.forget_when_it_failed(answer.died)
        if not answer.quiet_ms and limit == 100:
            self.redis_is_as_the_model_says()
            self.both(operation, op.Reclaimed())  # I5

    def forget_when_it_failed(self, letters: int) -> None:
        """The model does not know Redis' clock: take the instant out of the latest letters."""
        for index in range(letters):
            letter = self.store.run(plain("LINDEX", K.dead, index))
            assert letter is not None, "I7: a death has a letter"
            letter = re.sub(rb'"failed_at":\d{13},"consumer":"([AB-])"}}$', FORGOTTEN, letter)
            self.store.run(plain("LSET", K.dead, index, letter))

    @rule(hours=st.sampled_from([1, 2, 4]))
    def time_passes(self, hours: int) -> None:
        self.model.advance(hours * HOUR)
        self.store.run(raw(AGE_SCRIPT, (), hours * HOUR))

    @when("leases")
    @rule(hours=st.sampled_from([2, 3]), extended=st.booleans())
    def leases_run_out(self, hours: int, extended: bool) -> None:
        self.time_passes(hours)
        if extended:
            self.extend("A")
            self.extend("B")
        self.redis_is_as_the_model_says()
        self.reclaim(100, 0, gap=False)

    # Operators, and what happens to Redis.

    @when("dead")
    @rule(index=indexes, count=st.integers(0, 2))
    def redrive(self, index: int, count: int) -> None:
        """By script, or by hand: LMOVE queue:dlq queue LEFT RIGHT."""
        if count == 0:
            letter = self.model.dead.pop()
            self.both(plain("LMOVE", K.dead, K.pending, "LEFT", "RIGHT"), letter)
            self.model.pending.insert(0, letter)
            return
        letters = self.model.dead[index % len(self.model.dead) :][:count]
        operation = op.redrive(K, [(letter, wire.redriven(letter)) for letter in letters])
        chosen = [(letter, wire.redriven(letter)) for letter in letters]
        self.both(operation, self.model.redrive(chosen))
        if not set(letters) & set(self.model.dead):
            self.repeat(operation, lambda: self.model.redrive(chosen))

    @when("dead")
    @rule(index=indexes)
    def purge(self, index: int) -> None:
        letters = [pick(self.model.dead, index), b'{"id":"gone"}']
        self.both(op.purge(K, letters), self.model.purge(letters))

    @when(*NAMES)
    @rule(place=st.sampled_from(NAMES), index=indexes, known=st.sampled_from([True, True, False]))
    def cancel(self, place: str, index: int, known: bool) -> None:
        jobs = [job for job in getattr(self.model, place) if id_of(job)] or [JOBS[0]]
        job = pick(jobs, index)
        job_id = str(id_of(job))
        if not known:
            job = b""
        operation = op.cancel(K, job_id, job, result_ttl_ms=KEY_TTL, result=b"cancelled")
        self.both(operation, self.model.cancel(job_id, job, b"cancelled", KEY_TTL))

    @rule(what=st.sampled_from(OPERATIONS), job=jobs)
    def operate(self, what: str, job: bytes) -> None:
        if what == "look":
            self.both(op.find(K, str(id_of(job)), job), self.model.find(job))
        elif what == "forget the scripts":
            self.store.run(plain("SCRIPT", "FLUSH"))
        elif what == "save":
            self.savepoint = Savepoint(deepcopy(self.model), self.store.run(raw(DUMP_SCRIPT)))
        else:
            paused = what == "pause"
            self.both(op.pause(K, paused=paused), self.model.paused != paused)
            self.model.paused = paused

    @when("savepoint")
    @rule()
    def roll_back(self) -> None:
        """Redis fails over to a replica that lags; its clients remember what they remember."""
        assert self.savepoint is not None
        ms = self.model.now - self.savepoint.model.now
        self.model = deepcopy(self.savepoint.model)
        self.model.advance(ms)
        self.store.run(raw(RESTORE_SCRIPT, (), *self.savepoint.dump))
        self.savepoint = None
        self.store.run(raw(AGE_SCRIPT, (), ms))

    # The end.

    def teardown(self) -> None:
        if sys.exc_info()[0] is None and hasattr(self, "started_at"):
            self.everything_drains()

    def everything_drains(self) -> None:
        """I10, I11: with all consumers lost, each item is runnable again within one lease."""
        model = self.model
        self.operate("resume", b"")
        self.sweep(everything=True, offset=0)
        self.redis_is_as_the_model_says()
        self.leases_run_out(4, extended=False)
        assert not model.processing, "I10: an item without a live lease is runnable again"
        assert not model.leases
        self.time_passes(4)
        self.promote(1_000)
        assert not model.delayed, "I11: what is due is promoted"
        waiting = len(model.pending) + len(model.priority)
        consumer = self.consumers[0] = Consumer("A", next_number=100_000)
        self.consumers[1].forget()
        self.claim("A", 1_000, lost=False)
        assert len(model.processing) == waiting, "I11: the backlog drains"
        while consumer.moved:
            self.redis_is_as_the_model_says()
            self.adopt(0, swept=False, lost=False)
        self.settle(0, [(i, "done") for i in range(waiting)], 0, oldest=False, lost=False)
        assert not model.processing
        self.redis_is_as_the_model_says()


def find_faults(url: str, profile: settings, rounds: int = 1) -> None:
    """Run the machine on an empty server; raises what it finds."""
    store = Store(url, name="state-machine")
    machine: Any = partial(Protocol, store)
    try:
        for _ in range(rounds):
            run_state_machine_as_test(machine, settings=profile)
    finally:
        store.close()


ROUNDS, SETTINGS = PROFILES[PROFILE]


# Each round 5 s on a quiet machine; a busy one, or making a failure small, takes far longer.
@pytest.mark.timeout(0 if PROFILE == "deep" else 900)
@pytest.mark.parametrize("round_", range(ROUNDS))
def test_every_transition_leaves_redis_as_the_model_says(url: str, round_: int) -> None:
    find_faults(url, SETTINGS)
