"""The numbers of the protocol, each with its reason, and the one way to wait for Redis to come back."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
from dataclasses import dataclass
from typing import Final

from headrace.clock import monotonic
from headrace.errors import HostUnknown, InvalidSetting, StoreError

log: logging.Logger = logging.getLogger(__name__)

FORGET_AFTER_S: Final = 86_400.0  # so long a queue is empty and unused before it is forgotten
LEADER_LEASE_S: Final = 3.0  # three missed renewals
SUSPECT_CRASHES: Final = 2
"""So many lost consumers make a job a suspect, which runs alone in a process of its own.

One loss is a deploy or a machine, and charges whatever was in hand; a second one may still be chance,
but from then on it is cheaper to look than to lose a third consumer.
"""
_FIRST_PAUSE_S: Final = 0.05
_TELL_EVERY_S: Final = 60.0
_COUNTS_S: Final = 15.0  # beyond the longest pause and the longest wait for an answer
RESOLVE_S: Final = 30.0  # so long a name may be unknown at the start: others start beside us
LONGEST_PAUSE_S: Final = 2.0  # so that a Redis that is back is found soon, by however many clients


@dataclass(frozen=True, slots=True)
class LeasePolicy:
    """How long claims last, and when a lost consumer's jobs run again.

    A job without a live holder is runnable again within lease + two sweeps + the leader's lease:
    20 s at the defaults.

    Attributes:
        lease_s: how long a claim lasts unless it is extended, which happens every third of it.
        bare_lease_s: how long a plain consumer (BRPOPLPUSH … LREM) has for a job.
        max_crashes: lost consumers after which a job is dead.
    """

    lease_s: float = 15.0
    bare_lease_s: float = 15.0
    max_crashes: int = 5

    def __post_init__(self) -> None:
        if self.lease_s < 0.1 or self.bare_lease_s < 0.1 or self.max_crashes < 1:
            raise InvalidSetting("leases must last 0.1 s or more, max_crashes must be 1 or more")

    @property
    def lease_ms(self) -> int:
        """``lease_s`` as scripts take it."""
        return round(self.lease_s * 1000)

    @property
    def extend_every_s(self) -> float:
        """How often leases are extended: two can fail before one is lost."""
        return self.lease_s / 3

    @property
    def sweep_every_s(self) -> float:
        """How often the leader looks: every second, more often only for leases below 10 s."""
        return min(1.0, self.lease_s / 10)

    @property
    def gone_after_s(self) -> float:
        """How long a consumer may be without any connection before its leases end: 5.5 s by default.

        A live one is back sooner: even when its event loop is blocked, its leases are extended, over
        a connection that is made anew if need be.
        """
        return max(1.0, 1.1 * self.extend_every_s)

    @property
    def gap_s(self) -> float:
        """A time without sweeps after which a grace begins.

        Live holders have at least two thirds of a lease left when it begins, and a change of leader
        (3 s, and a second until it is noticed) is shorter at the default lease.
        """
        return 0.4 * self.lease_s

    @property
    def grace_s(self) -> float:
        """How long nothing is reclaimed after sweeps were missing: two extensions by live holders."""
        return 2 * self.extend_every_s


class Outage:
    """What a program says of a Redis that is away, for all of its parts, in whatever thread.

    One line when it begins, then one a minute, and one when it is over.

    Attributes:
        reached: Redis has done something for this program.
        concerns_nobody: it has, and no part waits for it: there is nothing to be told of.
        fetched: Redis has answered whether there is work. Who looks sets it back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[ReconnectBackoff, float] = {}  # until when it counts as waiting
        self._since = self._told_at = 0.0
        self.reached: bool = False
        self.concerns_nobody: bool = False
        self.fetched: bool = False

    def begins(self, part: ReconnectBackoff, error: StoreError) -> None:
        """Note that a part waits.

        Raises:
            StoreError: the error, when to wait does not help.
        """
        with self._lock:
            now = monotonic()
            if new := not self._still(now):
                self._since = now
            self._waiting[part] = now + _COUNTS_S
            self.concerns_nobody = False
            waited_s = now - self._since
            tells = new or now - self._told_at >= _TELL_EVERY_S
            if tells:
                self._told_at = now
            parts = ", ".join(dict.fromkeys(one.what for one in self._waiting))
        if error.lasting or (
            isinstance(error, HostUnknown) and not self.reached and waited_s > RESOLVE_S
        ):
            raise error
        if tells:
            since = "" if new else f", for {waited_s:.0f} s now"
            log.warning("Waiting for Redis (%s)%s: %s", parts, since, error)

    def is_over(self, part: ReconnectBackoff) -> None:
        """Note that Redis has done what a part wanted."""
        with self._lock:
            self.reached = True
            waited = bool(self._waiting)
            self._waiting.pop(part, None)
            over = waited and not self._still(monotonic())
            self.concerns_nobody = not self._waiting
        if over:
            log.info("Redis is back after %.1f s", monotonic() - self._since)

    def _still(self, now: float) -> bool:
        """Whether any part waits; one that has not tried again for long waits for something else."""
        self._waiting = {part: until for part, until in self._waiting.items() if until > now}
        return bool(self._waiting)


OUTAGE: Final[Outage] = Outage()
"""That of this process."""


class ReconnectBackoff:
    """Waits for Redis to come back: exponential, with jitter, so that clients do not march in step.

    Args:
        what: which part of the program waits, for the log.
        outage: what is said of it; None what this process says.
        fetches: it asks for work.
    """

    def __init__(self, what: str, outage: Outage | None = None, *, fetches: bool = False) -> None:
        self.what = what
        self._outage = outage or OUTAGE
        self._fetches = fetches
        self.failures: int = 0

    def note(self, error: StoreError) -> None:
        """Note a failure.

        Raises:
            StoreError: the error, when to wait does not help.
        """
        self._outage.begins(self, error)
        self.failures += 1

    async def wait(self, error: StoreError) -> None:
        """Wait a moment after a failure.

        Raises:
            StoreError: the error, when to wait does not help.
        """
        bound = min(LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(self.failures, 10))
        self.note(error)
        await asyncio.sleep(bound * (0.5 + random.random() / 2))

    def over(self) -> None:
        """Note a success."""
        self.failures = 0
        if self._fetches:
            self._outage.fetched = True
        if not self._outage.concerns_nobody:
            self._outage.is_over(self)
