"""What whoever leads asks of Redis: to promote, to sweep, to reclaim."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from headrace import keys
from headrace.keys import Keys
from headrace.operations.request import Operation, command, nothing, run, text, texts
from headrace.scripts import MAX_ITEMS

RECLAIM_LIMIT: Final = 100
"""Leases that one call reclaims: each may cost a walk over processing."""

_NAMED: Final = re.compile(rb" name=%b([^ ]+) " % keys.CONNECTION_PREFIX.encode())


@dataclass(frozen=True, slots=True)
class Promoted:
    """How many jobs fell due, and ms until the next does (None: none waits)."""

    moved: int
    due_ms: int | None


def promote(k: Keys, limit: int = MAX_ITEMS) -> Operation[Promoted]:
    """Move due delayed jobs to where they wait their turn."""
    used = (k.pending, k.priority, k.delayed, k.nudge, k.stats)
    return run("promote", used, (limit,), _promoted)


def _promoted(raw: Any) -> Promoted:
    return Promoted(raw[0], int(raw[1]) if raw[1] != b"" else None)


@dataclass(frozen=True, slots=True)
class Reclaimed:
    """What a look at expired leases did.

    Attributes:
        quiet_ms: how much longer nothing is reclaimed, after sweeps were missing.
        back: how many jobs are runnable again.
        died: how many crashed too often.
    """

    quiet_ms: int = 0
    back: int = 0
    died: int = 0


def is_at_rest(k: Keys) -> Operation[bool]:
    """Whether there is nothing to maintain: no job is delayed, none is in processing or leased."""
    return command("EXISTS", k.delayed, k.processing, k.leases, parse=lambda n: n == 0)


def count_astir(queues: Sequence[Keys]) -> Operation[int]:
    """Count the keys of these queues that a queue at rest does not have."""
    used = [key for k in queues for key in (k.delayed, k.processing, k.leases)]
    return command("EXISTS", *used, parse=int)


def reclaim(
    k: Keys,
    *,
    grace_ms: int,
    gap_ms: int,
    max_crashes: int,
    rested_ms: int = 0,
    limit: int = RECLAIM_LIMIT,
) -> Operation[Reclaimed]:
    """Make jobs with an expired lease runnable again.

    Args:
        k: the queue's keys.
        grace_ms: how long nothing is reclaimed after a gap.
        gap_ms: a time without sweeps after which there is a grace.
        max_crashes: lost consumers after which a job is dead.
        rested_ms: when nothing was leased here, by Redis' clock, which is as good as a sweep; 0 if unknown.
        limit: how many leases at most.
    """
    used = (
        k.pending, k.processing, k.priority, k.dead, k.leases, k.claims, k.nudge, k.stats, k.meta,
        k.cancelled, k.unique(""),
    )  # fmt: skip
    args = (limit, grace_ms, gap_ms, max_crashes, rested_ms)
    return run("reclaim", used, args, lambda raw: Reclaimed(*raw))


@dataclass(frozen=True, slots=True)
class Swept:
    """How many bare items got a lease, and where the next step begins (0: the list is through)."""

    given: int
    next_offset: int


def sweep(
    k: Keys, *, bare_lease_ms: int, offset: int = 0, only_if_unequal: bool = True
) -> Operation[Swept]:
    """Give bare items of processing a lease."""
    args = (offset, MAX_ITEMS, bare_lease_ms, "if-unequal" if only_if_unequal else "all")
    return run("sweep", (k.processing, k.leases, k.claims), args, lambda raw: Swept(*raw))


def lead(who: str, lease_ms: int) -> Operation[str]:
    """Take or keep the lead; 0 ms gives it up. Return who leads."""
    return run("lead", (keys.LEADER,), (who, lease_ms), text)


def clients() -> Operation[list[dict[str, str]]]:
    """List the connections, each with what CLIENT LIST says of it."""

    def parse(raw: bytes) -> list[dict[str, str]]:
        lines = raw.decode(errors="replace").splitlines()
        return [dict(part.partition("=")[::2] for part in line.split(" ")) for line in lines]

    return command("CLIENT", "LIST", parse=parse)


def keep_lead(lease_ms: int) -> Operation[str]:
    """Renew the lead, and name who has it; "" if nobody. For who leads: it renews another's as well."""
    keep = command("GETEX", keys.LEADER, "PX", lease_ms, parse=_name)
    return keep._replace(name="lead")


def lead_left_ms() -> Operation[int]:
    """Return for how long somebody leads, ms; negative when nobody does, or for ever."""
    return command("PTTL", keys.LEADER, parse=int)


def _name(raw: Any) -> str:
    return (raw or b"").decode(errors="replace")


def leader() -> Operation[str]:
    """Name who leads; "" if nobody."""
    return command("GET", keys.LEADER, parse=_name)


def time_ms() -> Operation[float]:
    """Ask Redis' clock."""
    return command("TIME", parse=lambda raw: int(raw[0]) * 1000 + int(raw[1]) / 1000)


def connected() -> Operation[tuple[set[str], int]]:
    """Name the consumers that have a connection, and count all connections."""
    # Names alone, and not ``clients``: it is asked each second, also where there are thousands.
    args = ("CLIENT", "LIST", "TYPE", "NORMAL")

    def parse(raw: bytes) -> tuple[set[str], int]:
        return set(texts(_NAMED.findall(raw))) - keys.PROGRAMS, raw.count(b"\n")

    return command(*args, parse=parse)


def consumers() -> Operation[dict[str, int]]:
    """Name the consumers that have been seen connected, and since when they are missing.

    In ms by Redis' clock; 0 for one that was connected at the last look.
    """

    def parse(raw: Any) -> dict[str, int]:
        flat = texts(raw)
        return dict(zip(flat[::2], map(int, flat[1::2]), strict=True))

    return command("HGETALL", keys.CONSUMERS, parse=parse)


def note_consumers(came: Collection[str], left: Collection[str]) -> Operation[None]:
    """Note who is connected now, and who is missing from now on, for whoever leads next."""
    return run(
        "note_consumers", (keys.CONSUMERS,), (len(came), *sorted(came), *sorted(left)), nothing
    )


def forget_consumer(consumer: str) -> Operation[None]:
    """Forget a consumer that holds nothing and is not connected."""
    return command("HDEL", keys.CONSUMERS, consumer, parse=nothing)


def queue_count() -> Operation[int]:
    """Count the queues in the registry."""
    return command("SCARD", keys.QUEUES, parse=int)
