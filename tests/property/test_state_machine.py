"""Any transitions in any order: after each, Redis holds what the model holds, and I1 to I12 are kept.

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
from tests.property.model import KEY_TTL, Model, id_of

T = TypeVar("T")

BASE = settings(deadline=None, print_blob=True, suppress_health_check=list(HealthCheck))
settings.register_profile("default", BASE, max_examples=150, stateful_step_count=40)
settings.register_profile(
    "ci", BASE, max_examples=150, stateful_step_count=40, derandomize=True, database=None
)
settings.register_profile("deep", BASE, max_examples=5_000, stateful_step_count=60)
PROFILE = os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "default")

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
      if at then redis.call('HSET', key, name, string.format('%.0f', rounded(at))) end
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
      redis.call('ZINCRBY', key, -ms, name)
    end
  elseif kind == 'hash' then
    for _, name in ipairs({'swept', 'quiet'}) do
      if redis.call('HEXISTS', key, name) == 1 then redis.call('HINCRBY', key, name, -ms) end
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


def some(predicate: Callable[[Protocol], Any]) -> Callable[[Callable[..., None]], Any]:
    """Take a rule only where it has something to work on."""
    return precondition(lambda self: bool(predicate(self)))


indexes = st.integers(0, 5)
who = st.sampled_from("AB")
verbs: st.SearchStrategy[op.Verb] = st.sampled_from(
    ["done", "retry", "park", "release", "dead", "drop", "cancel"]
)
delays = st.sampled_from([0, 0, HOUR, 5 * HOUR])


class Protocol(RuleBasedStateMachine):
    """The transitions as rules. Each runs on Redis and on the model, and compares the answers."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.store = store
        self.model = Model()
        self.consumers = {name: Consumer(name) for name in "AB"}
        self.plain: list[bytes] = []  # what a plain consumer works on
        self.fresh = 0
        self.savepoint: Savepoint | None = None
        self.seen: dict[str, Any] = {}

    @initialize()
    def start(self) -> None:
        (_, (seconds, micros)) = self.store.run_all([plain("FLUSHALL"), plain("TIME")])
        self.started_at = int(seconds) * 1000 + int(micros) // 1000

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
            "quiet": self.instant(quiet) if quiet else 0,
        }

    def instant(self, at: bytes) -> int:
        return int(at) - self.started_at + self.model.now

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
        if not hasattr(self, "started_at"):
            return
        self.seen = self.read()
        expected = self.model.state()
        for place, held in expected.items():
            assert self.seen[place] == held, place
        # I9: an item has one lease. Only a plain LREM leaves one over.
        surplus = Counter(held.job for held in self.model.leases.values())
        surplus.subtract(Counter(self.model.processing))
        assert surplus <= self.model.taken, "I9: more leases than items"
        # I6. What ends in no brace is no job: no script can write its letter, so a consumer does.
        for job in (*self.seen["pending"], *self.seen["processing"], *self.seen["priority"]):
            if job.rstrip().endswith(b"}") and b'"error"' not in job:
                parts = wire.split(job)
                assert parts is None or parts[0].crashes < MAX_CRASHES, f"I6: {job!r}"

    def both(self, operation: Operation[T], expected: Any) -> T:
        answer = self.store.run(operation)
        assert answer == expected, operation.name
        return answer

    def repeat(self, operation: Operation[Any], expected: Callable[[], Any]) -> None:
        """Send again what has been carried out: the answer was lost. I5: it changes nothing."""
        before = self.model.state()
        self.both(operation, expected())
        after = self.model.state()
        for state in (before, after):
            state["stats"] = {**state["stats"], "lost": 0}
        assert before == after, f"I5: {operation.name} twice"
        self.redis_is_as_the_model_says()

    def fresh_id(self) -> str:
        self.fresh += 1
        return f"f{self.fresh}"

    # Producers.

    @rule(jobs=st.lists(st.sampled_from(JOBS), min_size=1, max_size=3), delay=delays)
    def enqueue(self, jobs: list[bytes], delay: int) -> None:
        due = f"+{delay}" if delay else ""
        self.both(op.enqueue(K, jobs, due=due), op.Enqueued(self.model.enqueue(jobs, delay)))

    @rule(delay=st.sampled_from([-HOUR, 0, 3 * HOUR]), priority=st.sampled_from([0, 7]))
    def enqueue_for_an_instant(self, delay: int, priority: int) -> None:
        job = wire.assemble(self.fresh_id(), b',"task":"t"}', priority)
        answer = self.model.enqueue([job], delay)
        due = f"@{self.started_at + delay}"
        self.both(op.enqueue(K, [job], due=due), op.Enqueued(answer))

    @rule(key=st.sampled_from(KEYS), job=st.sampled_from(JOBS), lost=st.booleans())
    def enqueue_with_a_key(self, key: str, job: bytes, lost: bool) -> None:
        unique = op.Unique(key, str(id_of(job)), KEY_TTL)
        for _ in range(1 + lost):
            answer = self.model.enqueue([job], 0, key=key)
            existing = self.model.unique[key] if answer == "exists" else ""
            self.both(op.enqueue(K, [job], unique=unique), op.Enqueued(answer, existing))

    @rule(job=st.sampled_from(JOBS), bound=st.integers(1, 4))
    def enqueue_where_it_may_be_full(self, job: bytes, bound: int) -> None:
        waiting = sum(map(len, (self.model.pending, self.model.priority, self.model.delayed)))
        answer = self.model.enqueue([job], 0, bound=bound)
        expected = op.Enqueued(answer, waiting=waiting if answer == "full" else 0)
        self.both(op.enqueue(K, [job], max_pending=bound), expected)

    @rule(job=st.sampled_from(FOREIGN), count=st.integers(1, 2))
    def push_as_a_plain_client(self, job: bytes, count: int) -> None:
        for _ in range(count):
            self.store.run(plain("LPUSH", K.pending, job))
            self.model.push(job)

    # Consumers.

    @rule(name=who, count=st.integers(1, 4), lost=st.booleans())
    def claim(self, name: str, count: int, lost: bool) -> None:
        consumer, paused = self.consumers[name], self.model.paused
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

    @rule(name=who, lost=st.booleans())
    def move(self, name: str, lost: bool) -> None:
        """The blocking move of an idle consumer, as it is when there is a job."""
        consumer, expected = self.consumers[name], self.model.move()
        job = self.both(plain("LMOVE", K.pending, K.processing, "RIGHT", "LEFT"), expected)
        if job is not None and not lost:
            self.receive(consumer, consumer.numbers(1), job, bare=True)

    def receive(self, consumer: Consumer, number: int, job: bytes, *, bare: bool = False) -> None:
        parts = wire.split(job)
        if parts and not bare:
            consumer.held.append(Held(parts[0].id, number, job))
            return
        try:
            head, body = parts or wire.canonical(job)
        except Exception:
            letter = wire.split(wire.malformed_letter(job, FAILURE))
            assert letter
            head, body = letter
        if len(head.id) == 26:  # a new one: random, and an example must be the same each time
            head = replace(head, id=self.fresh_id())
        adopted = job if parts else wire.join(head, body)
        consumer.moved.append(Moved(number, job, head.id, adopted))

    @some(lambda self: any(c.moved for c in self.consumers.values()))
    @rule(name=who, index=indexes, lost=st.booleans())
    def adopt(self, name: str, index: int, lost: bool) -> None:
        """Right after the move, or late: after a sweep, after a reclaim; repeated when lost."""
        consumer = self.consumers[name]
        if not consumer.moved:
            return
        m = pick(consumer.moved, index)
        asked = (f"{name}:{m.number}", LEASE, m.moved, m.job_id, m.job)
        operation = op.adopt(
            K, token=asked[0], lease_ms=LEASE, moved=m.moved, job_id=m.job_id, job=m.job
        )
        answer = self.both(operation, self.model.adopt(*asked))
        if lost and answer == "ok":
            self.repeat(operation, lambda: self.model.adopt(*asked))
        elif lost:
            answer = self.both(operation, self.model.adopt(*asked))
        if answer == "duplicate":
            job_id = self.fresh_id()
            head, body = wire.split(m.job) or (None, None)
            assert head and body is not None
            m.job_id, m.job = job_id, wire.join(replace(head, id=job_id), body)
            return
        consumer.moved.remove(m)
        if answer == "ok":
            consumer.held.append(Held(m.job_id, m.number, m.job))

    @some(lambda self: any(c.held for c in self.consumers.values()))
    @rule(name=who, index=indexes, lost=st.booleans())
    def rewrite(self, name: str, index: int, lost: bool) -> None:
        """Adopt what is held already: renewed, and without the error of a redriven job."""
        consumer = self.consumers[name]
        if not consumer.held:
            return
        held = pick(consumer.held, index)
        job = wire.redriven(held.job)
        if id_of(job) != held.job_id:  # it was malformed, and is again
            job = held.job
        asked = (f"{name}:{held.number}", LEASE, held.job, held.job_id, job)
        operation = op.adopt(
            K, token=asked[0], lease_ms=LEASE, moved=held.job, job_id=held.job_id, job=job
        )
        answer = self.both(operation, self.model.adopt(*asked))
        if answer == "ok":
            held.job = job
            if lost:
                self.repeat(operation, lambda: self.model.adopt(*asked))

    def outcome(self, held: Held, verb: op.Verb, delay: int, oldest: bool) -> op.Outcome:
        head, body = wire.split(held.job) or (None, b"")
        assert head
        job = b""
        if verb == "retry":
            head = replace(head, delivery=head.delivery + 1, attempt=head.attempt + 1)
            job = wire.join(head, body)
        elif verb == "park":
            job = wire.join(replace(head, delivery=head.delivery + 1, unknown_since=1), body)
        elif verb == "dead":
            job = self.letter(held, head, body)
        ttl = KEY_TTL if verb in {"done", "dead"} else 0
        number = -held.number if oldest else held.number
        return op.Outcome(held.job_id, number, verb, delay, job, ttl, verb.encode())

    def letter(self, held: Held, head: wire.Head, body: bytes) -> bytes:
        try:
            wire.read_body(held.job)
        except Exception:
            letter = wire.split(wire.malformed_letter(held.job, FAILURE))
            assert letter
            return wire.join(wire.Head(self.fresh_id()), letter[1])
        return wire.letter(head, body, FAILURE)

    @some(lambda self: any(c.held for c in self.consumers.values()))
    @rule(
        name=who,
        chosen=st.lists(st.tuples(indexes, verbs), min_size=1, max_size=3),
        delay=delays,
        oldest=st.booleans(),
        lost=st.booleans(),
    )
    def settle(
        self, name: str, chosen: list[tuple[int, op.Verb]], delay: int, oldest: bool, lost: bool
    ) -> None:
        consumer = self.consumers[name]
        if not consumer.held:
            return
        ended = [pick(consumer.held, index) for index, _ in chosen]
        outcomes = [
            self.outcome(held, verb, delay, oldest)
            for held, (_, verb) in zip(ended, chosen, strict=True)
        ]
        operation = op.settle(K, name, outcomes)
        deaths = sum(outcome.verb == "dead" for outcome in outcomes)
        before = len(self.model.dead)
        refused = self.both(operation, self.model.settle(name, outcomes))
        assert len(self.model.dead) - before >= deaths - len(refused), "I7: a death has a letter"
        if lost:
            self.repeat(operation, lambda: self.model.settle(name, outcomes))
        for held in ended:
            if held in consumer.held:
                consumer.held.remove(held)
                consumer.past.append(held)

    @some(lambda self: any(c.past for c in self.consumers.values()) or self.model.leases)
    @rule(name=who, index=indexes, verb=verbs, garbage=st.booleans())
    def settle_what_is_not_ones_own(
        self, name: str, index: int, verb: op.Verb, garbage: bool
    ) -> None:
        """A claim of the past, or of somebody else, or none at all. I4: only after a rollback …"""
        consumer = self.consumers[name]
        claims = consumer.past
        if garbage:
            claims = [Held(i, 9_999, held.job) for i, held in self.model.leases.items()]
        if not claims:
            return
        held = pick(claims, index)
        if id_of(held.job) is None:
            return
        outcomes = [self.outcome(held, verb, 0, oldest=False)]
        owner = self.model.leases.get(held.job_id)
        current = owner is not None and owner.owner == f"{name}:{held.number}"
        before = self.model.state()
        lost = self.both(op.settle(K, name, outcomes), self.model.settle(name, outcomes))
        if not current:
            assert lost == [held.job_id], "I4: settled without the current token"
            self.unchanged_since(before)

    def unchanged_since(self, before: dict[str, Any]) -> None:
        before["stats"] = {**before["stats"], "lost": self.model.stats["lost"]}
        assert self.model.state() == before

    @some(lambda self: any(c.held or c.past for c in self.consumers.values()))
    @rule(name=who)
    def extend(self, name: str) -> None:
        consumer = self.consumers[name]
        claims = [(held.job_id, held.number) for held in consumer.held + consumer.past[-2:]]
        if not claims:
            return
        operation = op.extend(K, name, claims, lease_ms=LEASE)
        wanted = [job_id for job_id, _ in claims if job_id in self.model.cancelled]
        for _ in range(2):  # I5
            self.both(operation, op.Extended(self.model.extend(name, claims, LEASE), wanted))

    @rule(name=who)
    def crash(self, name: str) -> None:
        self.consumers[name].forget()

    @rule(name=who)
    def disown(self, name: str) -> None:
        """Release what the consumer holds in Redis and does not know of: its answer was lost."""
        known = [held.job_id for held in self.consumers[name].held]
        strays = [
            (job_id, int(held.owner.partition(":")[2]))
            for job_id, held in self.model.leases.items()
            if held.owner.startswith(f"{name}:") and job_id not in known
        ]
        if strays:
            strays.sort(key=lambda stray: -stray[1])
            self.model.settle(name, [op.Outcome(i, n, "release") for i, n in strays])
        assert self.store.follow(flows.disown(K, name, known)) == len(strays)

    # Plain consumers.

    @rule()
    def move_as_a_plain_client(self) -> None:
        expected = self.model.move()
        job = self.both(plain("RPOPLPUSH", K.pending, K.processing), expected)
        if job is not None:
            self.plain.append(job)

    @some(lambda self: self.plain)
    @rule(index=indexes)
    def remove_as_a_plain_client(self, index: int) -> None:
        job = pick(self.plain, index)
        self.plain.remove(job)
        self.both(plain("LREM", K.processing, 1, job), int(self.model.remove(job)))

    # The leader.

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

    @rule(everything=st.booleans(), offset=st.sampled_from([0, 0, 0, 1]), again=st.booleans())
    def sweep(self, everything: bool, offset: int, again: bool) -> None:
        operation = op.sweep(
            K, bare_lease_ms=BARE_LEASE, offset=offset, only_if_unequal=not everything
        )
        given = self.model.sweep(BARE_LEASE, offset, only_if_unequal=not everything)
        self.both(operation, op.Swept(given, 0))
        if again:
            self.both(operation, op.Swept(0, 0))
        if everything and offset == 0:
            bare = Counter(self.model.processing)
            bare.subtract(Counter(held.job for held in self.model.leases.values()))
            assert max(bare.values(), default=0) <= 0, "I2: an item without a lease after a sweep"

    @rule(
        limit=st.sampled_from([1, 2, 100]), grace=st.sampled_from([0, 0, GRACE]), gap=st.booleans()
    )
    def reclaim(self, limit: int, grace: int, gap: bool) -> None:
        gap_ms = 5 * HOUR // 2 if gap else 1_000 * HOUR
        operation = op.reclaim(
            K, grace_ms=grace, gap_ms=gap_ms, max_crashes=MAX_CRASHES, limit=limit
        )
        leases, letters = deepcopy(self.model.leases), len(self.model.dead)
        expected = self.model.reclaim(limit, grace, gap_ms, MAX_CRASHES)
        answer = self.store.run(operation)
        if answer.quiet_ms:
            quiet_ms = round(answer.quiet_ms / HOUR) * HOUR
            answer = replace(answer, quiet_ms=quiet_ms)
        assert answer == expected
        assert all(
            held.deadline <= self.model.now
            for name, held in leases.items()
            if not name.startswith("~") and name not in self.model.leases
        ), "reclaimed before its deadline"
        assert len(self.model.dead) - letters == answer.died, "I7: a death has a letter"
        self.forget_when_it_failed(answer.died)
        if not answer.quiet_ms and answer.back + answer.died < limit:
            self.redis_is_as_the_model_says()
            self.both(operation, self.model.reclaim(limit, grace, gap_ms, MAX_CRASHES))
            assert self.model.leases == {**self.model.leases}

    def forget_when_it_failed(self, letters: int) -> None:
        """The model does not know Redis' clock: take the instant out of the latest letters."""
        for index in range(letters):
            letter = self.store.run(plain("LINDEX", K.dead, index))
            letter = re.sub(rb'"failed_at":\d{13},"consumer":"([AB-])"}}$', FORGOTTEN, letter)
            self.store.run(plain("LSET", K.dead, index, letter))

    @rule(hours=st.sampled_from([1, 2, 4]))
    def time_passes(self, hours: int) -> None:
        self.model.advance(hours * HOUR)
        self.store.run(raw(AGE_SCRIPT, (), hours * HOUR))

    # Operators, and what happens to Redis.

    @some(lambda self: self.model.dead)
    @rule(index=indexes, count=st.integers(1, 3))
    def redrive(self, index: int, count: int) -> None:
        letters = (self.model.dead[index % len(self.model.dead) :] + [b'{"id":"gone"}'])[:count]
        chosen = [(letter, wire.redriven(letter)) for letter in letters]
        there = Counter(self.model.dead)
        self.both(op.redrive(K, chosen), self.model.redrive(chosen))
        gone = [pair for pair in chosen if not there[pair[0]]]
        self.both(op.redrive(K, gone), 0)

    @some(lambda self: self.model.dead)
    @rule()
    def redrive_as_a_plain_client(self) -> None:
        letter = self.model.dead.pop()
        self.both(plain("LMOVE", K.dead, K.pending, "LEFT", "RIGHT"), letter)
        self.model.pending.insert(0, letter)

    @some(lambda self: self.model.dead)
    @rule(index=indexes)
    def purge(self, index: int) -> None:
        letters = [pick(self.model.dead, index), b'{"id":"gone"}']
        self.both(op.purge(K, letters), self.model.purge(letters))

    @rule(place=st.sampled_from(NAMES), index=indexes, known=st.booleans())
    def cancel(self, place: str, index: int, known: bool) -> None:
        jobs = [job for job in getattr(self.model, place) if id_of(job)] or [JOBS[0]]
        job = pick(jobs, index)
        job_id = str(id_of(job))
        if not known:
            job = b""
        operation = op.cancel(K, job_id, job, result_ttl_ms=KEY_TTL, result=b"cancelled")
        self.both(operation, self.model.cancel(job_id, job, b"cancelled", KEY_TTL))

    @rule(paused=st.booleans())
    def pause_or_resume(self, paused: bool) -> None:
        self.both(op.pause(K, paused=paused), self.model.paused != paused)
        self.model.paused = paused

    @rule(job=st.sampled_from(JOBS))
    def look(self, job: bytes) -> None:
        model, job_id = self.model, str(id_of(job))
        places = [
            ("processing", job_id in model.leases),
            ("ended", job_id in model.results),
            ("delayed", job in model.delayed),
            ("pending", job in model.priority or job in model.pending),
            ("processing", job in model.processing),
            ("cancelled", job_id in model.cancelled),
        ]
        word = next((word for word, there in places if there), "unknown")
        end = model.results[job_id] if word == "ended" else b""
        self.both(op.find(K, job_id, job), op.Found(word, end))

    @rule()
    def forget_the_scripts(self) -> None:
        self.store.run(plain("SCRIPT", "FLUSH"))

    @rule()
    def save(self) -> None:
        self.savepoint = Savepoint(deepcopy(self.model), self.store.run(raw(DUMP_SCRIPT)))

    @some(lambda self: self.savepoint)
    @rule()
    def roll_back(self) -> None:
        """Redis fails over to a replica that lags; its clients remember what they remember."""
        assert self.savepoint
        ms = self.model.now - self.savepoint.model.now
        self.model = deepcopy(self.savepoint.model)
        self.model.advance(ms)
        self.store.run(raw(RESTORE_SCRIPT, (), *self.savepoint.dump))
        self.store.run(raw(AGE_SCRIPT, (), ms))

    # The end.

    def teardown(self) -> None:
        if sys.exc_info()[0] is None and hasattr(self, "started_at"):
            self.everything_drains()

    def everything_drains(self) -> None:
        """I10, I11: with all consumers lost, each item is runnable again within one lease."""
        self.model.paused = False
        self.store.run(op.pause(K, paused=False))
        self.sweep(everything=True, offset=0, again=False)
        self.redis_is_as_the_model_says()
        self.time_passes(4)
        self.reclaim(limit=100, grace=0, gap=False)
        assert not self.model.processing, "I10: an item without a live lease is runnable again"
        assert not self.model.leases
        self.time_passes(4)
        self.promote(1_000)
        assert not self.model.delayed
        waiting = len(self.model.pending) + len(self.model.priority)
        consumer = self.consumers["A"] = Consumer("A", next_number=100_000)
        self.claim("A", 1_000, lost=False)
        assert len(self.model.processing) == waiting, "I11: the backlog drains"
        self.redis_is_as_the_model_says()
        while consumer.moved:
            self.adopt("A", 0, lost=False)
        while consumer.held:
            self.settle("A", [(0, "done")], 0, oldest=False, lost=False)
        assert not self.model.processing
        self.redis_is_as_the_model_says()


def find_faults(url: str, profile: settings) -> None:
    """Run the machine on an empty server; raises what it finds."""
    store = Store(url, name="state-machine")
    try:
        run_state_machine_as_test(lambda: Protocol(store), settings=profile)
    finally:
        store.close()


@pytest.mark.timeout(0 if PROFILE == "deep" else 120)
def test_every_transition_leaves_redis_as_the_model_says(url: str) -> None:
    find_faults(url, settings.get_profile(PROFILE))
