"""A queue in Redis beside the model: asked the same, read, and compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition

from headrace import operations as op
from headrace import wire
from headrace.operations import Operation
from headrace.store import Store
from headrace.store.cluster.names import unplaced
from tests.property.commands import PLACES, READ_SCRIPT, pairs, raw
from tests.property.examples import HOUR, KEYS, MAX_CRASHES, NAMES, UNIQUE, K
from tests.property.model import ENDED, Model

T = TypeVar("T")


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


def same(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Tell whether nothing was moved; that a claim was lost is counted, and moves nothing."""
    stats = [{**state["stats"], "lost": 0} for state in (before, after)]
    return {**before, "stats": stats[0]} == {**after, "stats": stats[1]}


def when(*names: str) -> Callable[[Callable[..., None]], Any]:
    """Take a rule only where one of these has something in it."""
    return precondition(
        lambda self: any(getattr(self, n, None) or getattr(self.model, n, None) for n in names)
    )


class Machine(RuleBasedStateMachine):
    """Two consumers, what else is known outside Redis, and the model; rules come with subclasses."""

    started_at: int  # ms by Redis' clock: the model's 0

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.store = store
        self.model = Model()
        self.consumers = [Consumer("A"), Consumer("B")]
        self.plain: list[bytes] = []  # what a plain consumer works on
        self.fresh = 0
        self.savepoint: Savepoint | None = None

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
                key: holder.decode().partition(" ")[0]
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
        assert {unplaced(key).decode() for key in present} <= expected, (
            "I12: a key that nobody accounts for"
        )

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
