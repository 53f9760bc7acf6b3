"""What is to be known of a queue. Nothing is changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from headrace import operations as op
from headrace import redaction, wire
from headrace.doctor import fit, keyspace, scan
from headrace.doctor.fit import Fit
from headrace.doctor.keyspace import Keyspace, WrongType
from headrace.doctor.places import holder_of
from headrace.doctor.scan import Scan
from headrace.doctor.server import ServerFacts
from headrace.errors import StoreRefused
from headrace.flows import Flow
from headrace.keys import Keys, keys_of
from headrace.moving import on_its_way
from headrace.operations import Snapshot
from headrace.policy import LeasePolicy
from headrace.workflows.keys import unfinished_of


@dataclass(frozen=True, slots=True)
class QueueFacts:
    """A queue, as far as it could be read.

    Attributes:
        server: the server that it is on.
        snapshot: its counts at one instant.
        fit: how claims, leases and items fit together.
        expired: leases that ran out and were not reclaimed.
        expired_s: for how long the first of them has.
        overdue: delayed jobs that are due and were not promoted.
        owners: consumers that hold claims.
        newest: why the newest dead letter is dead; None if there is none, or it does not say.
        endless: keys that never expire, and should.
        moving: jobs on their way to another server.
        workflows: workflows that are not over …
        workflows_s: … and how long ago the first of them began.
        scan: what its jobs look like.
    """

    server: ServerFacts
    snapshot: Snapshot
    fit: Fit
    expired: int
    expired_s: float
    overdue: int
    owners: frozenset[str]
    newest: wire.Error | None
    endless: tuple[str, ...]
    scan: Scan
    moving: int = 0
    workflows: int = 0
    workflows_s: float = 0.0

    @property
    def overdue_s(self) -> float:
        """For how long the first delayed job has been due; 0 if none is."""
        s = self.snapshot
        return 0.0 if s.due_at_ms is None else max(0, s.now_ms - s.due_at_ms) / 1000

    @property
    def away(self) -> list[str]:
        """Consumers that hold claims and have no connection, as far as that is known."""
        connections = self.server.connections
        return sorted(self.owners - connections.consumers) if connections.known else []


@dataclass(frozen=True, slots=True)
class CheckedQueue:
    """A queue that was looked at.

    Attributes:
        name: its name.
        is_stray: it holds jobs, and is not registered.
        wrong: its keys that are of a wrong type.
        refused: why Redis refused the look; "" if it did not.
        facts: what was seen; None if its keys are of wrong types, or Redis refused.
    """

    name: str
    is_stray: bool
    wrong: tuple[WrongType, ...] = ()
    refused: str = ""
    facts: QueueFacts | None = None


def look(
    queue: str, policy: LeasePolicy, *, sample: int, server: ServerFacts, space: Keyspace
) -> Flow[CheckedQueue]:
    """Look at a queue, and read up to ``sample`` jobs of each place."""
    k, is_stray = keys_of(queue), queue in space.strays
    try:
        wrong = yield from keyspace.wrong_types(keyspace.types_of(k))
        if wrong:
            return CheckedQueue(queue, is_stray, wrong)
        facts = yield from _facts(k, policy, sample, server, space.endless.get(queue, ()))
    except StoreRefused as error:
        return CheckedQueue(queue, is_stray, refused=str(error))
    return CheckedQueue(queue, is_stray, facts=facts)


def _facts(
    k: Keys, policy: LeasePolicy, sample: int, server: ServerFacts, endless: tuple[str, ...]
) -> Flow[QueueFacts]:
    snapshot: Snapshot = yield op.snapshot(k)
    fitting: Fit = yield from fit.compare(k, policy.lease_ms)
    now = snapshot.now_ms
    answers: list[Any] = yield [
        op.command("ZCOUNT", k.leases, "-inf", now - 1, parse=int),
        op.command("ZRANGE", k.leases, 0, 0, "WITHSCORES", parse=_score),
        op.command("ZCOUNT", k.delayed, "-inf", now - 1, parse=int),
        op.peek(k.dead, 0, 0),
        # The consumers that hold claims, as far as the first hundred tell.
        op.command("HSCAN", k.claims, "0", "COUNT", 100, parse=lambda raw: raw[1][1::2]),
        op.command("ZCARD", unfinished_of(k), parse=int),
        op.command("ZRANGE", unfinished_of(k), 0, 0, "WITHSCORES", parse=_score),
        on_its_way(k),
        *(op.command("PTTL", key, parse=int) for key in (k.nudge, k.cancelled)),
    ]
    expired, first, overdue, letters, claims, flows, began, moving, *ttls = op.unfailed(answers)
    never = [key for key, ttl_ms in zip((k.nudge, k.cancelled), ttls, strict=True) if ttl_ms == -1]
    return QueueFacts(
        server=server,
        snapshot=snapshot,
        fit=fitting,
        expired=expired,
        expired_s=0.0 if first is None else max(0.0, (now - first) / 1000),
        overdue=overdue,
        owners=frozenset(filter(None, map(holder_of, claims))),
        newest=wire.read_error(redaction.shown(letters[0])) if letters else None,
        endless=(*never, *endless),
        scan=(yield from scan.scan(k, sample)),
        moving=moving,
        workflows=flows,
        workflows_s=0.0 if began is None else max(0.0, (now - began) / 1000),
    )


def _score(raw: list[bytes]) -> float | None:
    return float(raw[1]) if raw else None
