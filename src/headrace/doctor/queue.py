"""What is to be known of a queue. Nothing is changed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from headrace import operations as op
from headrace import wire
from headrace.doctor import census
from headrace.doctor.census import Census
from headrace.doctor.requests import Fit, repair
from headrace.flows import Flow
from headrace.keys import Keys, keys_of
from headrace.operations import Snapshot
from headrace.policy import LeasePolicy
from headrace.scripts import MAX_ITEMS

_MANY: Final = 1_000
"""Items in processing beyond which a stretch is short: each claim costs a walk over them."""

_BEHIND_ALL: Final = 1 << 31


@dataclass(frozen=True, slots=True)
class QueueFacts:
    """A queue, as far as it could be read.

    Attributes:
        snapshot: its counts at one instant.
        fit: how claims, leases and items fit together, summed over all stretches.
        at_once: whether that was read at one instant.
        expired: leases that ran out and were not reclaimed.
        expired_s: for how long the first of them has.
        overdue: delayed jobs that are due and were not promoted.
        owners: consumers that hold claims.
        newest: why the newest dead letter is dead; None if there is none, or it does not say.
        endless: keys that never expire, and should.
        census: what its jobs look like.
    """

    snapshot: Snapshot
    fit: Fit
    at_once: bool
    expired: int
    expired_s: float
    overdue: int
    owners: frozenset[str]
    newest: wire.Error | None
    endless: tuple[str, ...]
    census: Census

    @property
    def bare(self) -> int:
        """Items of processing without a lease, as claims and items add up."""
        held = self.fit.claims - self.fit.gone - self.fit.unreadable
        return max(0, self.fit.items - held)


def look(
    queue: str, policy: LeasePolicy, *, sample: int, endless: tuple[str, ...]
) -> Flow[QueueFacts]:
    """Look at a queue whose keys are of the right types.

    Args:
        queue: its name.
        policy: how long claims last.
        sample: how many jobs of each place are read.
        endless: keys of its results and unique keys that are known never to expire.
    """
    k = keys_of(queue)
    snapshot: Snapshot = yield op.snapshot(k)
    fit, at_once = yield from fits(k, policy, mend=False)
    now = snapshot.now_ms
    answers: list[Any] = yield [
        op.command("ZCOUNT", k.leases, "-inf", now - 1, parse=int),
        op.command("ZRANGE", k.leases, 0, 0, "WITHSCORES", parse=_score),
        op.command("ZCOUNT", k.delayed, "-inf", now - 1, parse=int),
        op.peek(k.dead, 0, 0),
        *(op.command("PTTL", key, parse=int) for key in (k.nudge, k.cancelled)),
    ]
    expired, first, overdue, letters, *ttls = op.unfailed(answers)
    never = [key for key, ttl_ms in zip((k.nudge, k.cancelled), ttls, strict=True) if ttl_ms == -1]
    owners: frozenset[str] = yield from _owners(k)
    return QueueFacts(
        snapshot=snapshot,
        fit=fit,
        at_once=at_once,
        expired=expired,
        expired_s=0.0 if first is None else max(0.0, (now - first) / 1000),
        overdue=overdue,
        owners=owners,
        newest=wire.read_error(letters[0]) if letters else None,
        endless=(*never, *endless),
        census=(yield from census.take(k, sample)),
    )


def fits(k: Keys, policy: LeasePolicy, *, mend: bool) -> Flow[tuple[Fit, bool]]:
    """Compare all claims, leases and items, stretch by stretch; tells whether it took only one."""
    total, cursor, offset, steps = Fit("", 0, 0, 0, 0, 0, 0, 0), "0", 0, 0
    limit = MAX_ITEMS
    while True:
        part: Fit = yield repair(
            k,
            mend=mend,
            cursor=cursor,
            offset=offset,
            limit=limit,
            lease_ms=policy.lease_ms,
        )
        steps += 1
        total = replace(
            part,
            unleased=total.unleased + part.unleased,
            gone=total.gone + part.gone,
            unclaimed=total.unclaimed + part.unclaimed,
            unreadable=total.unreadable + part.unreadable,
        )
        cursor = part.cursor
        if not cursor and not part.offset:
            return total, steps == 1
        offset = part.offset or _BEHIND_ALL  # leases that are through stay so
        limit = MAX_ITEMS // 10 if part.items > _MANY else MAX_ITEMS


def _owners(k: Keys) -> Flow[frozenset[str]]:
    """Name the consumers that hold claims, as far as the first thousand tell."""
    page = op.command("HSCAN", k.claims, "0", "COUNT", 100, parse=lambda raw: raw[1][1::2])
    values: list[bytes] = yield page
    tokens = {value.partition(b" ")[0].rpartition(b":")[0] for value in values}
    return frozenset(token.decode(errors="replace") for token in tokens if token)


def _score(raw: list[bytes]) -> float | None:
    return float(raw[1]) if raw else None
