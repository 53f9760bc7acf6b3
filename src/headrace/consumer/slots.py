"""The slots: which jobs run, which wait in hand for a slot, and how many more to claim.

While jobs are quick, some are claimed beyond the free slots, so that a slot never waits for a round
trip. How many is bounded by time, and they are handed back as soon as a slow job holds them up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from typing import Final

from headrace.clock import monotonic
from headrace.consumer.claimed import ClaimedJob
from headrace.policy import LeasePolicy

PREFETCH_S: Final = 0.020
"""Jobs claimed ahead are at most so much work: what a round trip takes on a bad day."""

PREFETCH_MOST: Final = 256

HELD_UP_S: Final = 0.100
"""Jobs claimed ahead that wait longer are handed back: something slow is in front of them."""

HAND_BACKS: Final = 10
"""So often a suspect may go back because others run where it came; then it is kept until they end."""

_NEW_WEIGHT: Final = 0.1  # of the newest run in the moving average: about the last ten count

_WITH_A_PLACE: Final = ("ready", "running")


class Slots:
    """Counts what a consumer has in hand. Belongs to the event loop.

    Args:
        concurrency: how many jobs run at once.
        most: how many jobs it may start in all; None without bound.
        unowned: the jobs of which Redis has not said yet that they are ours.
        patience_s: how long others may take to end when a suspect has come.
    """

    def __init__(
        self,
        concurrency: int,
        most: int | None,
        unowned: Collection[ClaimedJob] = (),
        patience_s: float = LeasePolicy().lease_s,
    ) -> None:
        self.concurrency = concurrency
        self._unowned = unowned
        self.running: set[ClaimedJob] = set()
        self.ready: deque[ClaimedJob] = deque()
        self.coming = 0  # claimed, and not read yet
        self.left = most
        self.lent = 0  # jobs that run and take no slot: see batches
        self._patience_s = patience_s
        self.suspect: ClaimedJob | None = None  # nothing is claimed, and nothing starts beside it
        self._alone_at = 0.0  # from then on, one starts although others still run
        self.wary: bool = False  # the last job that came was a suspect: the next may be one, too
        self._pace_s: float | None = None
        self._last_start = 0.0
        self._looks = 0  # at that since; a single one may come after a stall of the whole loop
        self._stuck = False  # nothing has ended since jobs were handed back

    @property
    def in_hand(self) -> int:
        """How many jobs are in hand and not ended."""
        return len(self.running) + self._before_the_run

    @property
    def _before_the_run(self) -> int:
        # Most that are not known as ours have begun all the same. As a rule there are none, and this
        # is asked a dozen times for a job of an idle consumer.
        waiting = sum(c.phase not in _WITH_A_PLACE for c in self._unowned) if self._unowned else 0
        return len(self.ready) + waiting + self.coming

    def take(self, claimed: ClaimedJob) -> bool:
        """Note a job that could run; False if it has to go back.

        Beside a suspect nothing starts. And a suspect is not kept beside what runs, as long as
        somebody else may take it: were that poison too, the suspect would be charged once more.
        """
        if self.suspect is not None:
            return self.suspect is claimed
        if not claimed.suspect:
            if self.draining:
                return False
            self.wary = False
            return True
        if not self.wary:
            self.wary, self._alone_at = True, monotonic() + self._patience_s
        head = claimed.head
        if self.draining and head.delivery - head.crashes - head.attempt < HAND_BACKS:
            return False
        self.suspect = claimed
        return True

    @property
    def draining(self) -> bool:
        """Whether a suspect waits, here or where it was handed back, until what runs has ended."""
        return self.wary and bool(self.running) and monotonic() < self._alone_at

    @property
    def free(self) -> int:
        """How many slots have no job; those that may yet start count only as far as allowed."""
        if self.suspect is not None or self.draining:
            return 0
        free = self.concurrency + self.lent - self.in_hand
        return free if self.left is None else min(free, self.left - self._before_the_run)

    @property
    def wanted(self) -> int:
        """How many jobs to claim now."""
        if self.wary:
            return min(1, self.free)
        free, prefetch = self.free, self._prefetch()
        # Beyond the free slots, half at a time: to have something to do while the other half comes.
        wanted = min(free + prefetch, max(free, (self.concurrency + prefetch) // 2))
        return wanted if self.left is None else min(wanted, self.left - self._before_the_run)

    def enqueue(self, claimed: ClaimedJob) -> None:
        """Let a job wait for a slot."""
        claimed.phase = "ready"
        self.ready.append(claimed)

    def next(self, *, in_turn: bool = False) -> ClaimedJob | None:
        """Take the next job to start, when there is one and a slot for it.

        Args:
            in_turn: sync jobs run one after the other in one thread, so that it may be given some
                beyond the slots: half of what is claimed ahead. The others are given to it while
                Redis works on what it has done.
        """
        places = self.concurrency + self.lent
        first = self.ready[0] if in_turn and self.ready else None
        if first and first.task and not (first.task.is_async or first.isolated):
            places += PREFETCH_MOST // 2
        if self.suspect is not None:
            places = 1 if self.draining else len(self.running) + 1
        if not self.ready or len(self.running) >= places:
            return None
        claimed = self.ready.popleft()
        claimed.phase = "running"
        self.running.add(claimed)
        self._last_start, self._looks = monotonic(), 0
        if self.left is not None:
            self.left -= 1
        return claimed

    def returned(self, jobs: list[ClaimedJob]) -> None:
        """Take back jobs that were to start, and did not: they are the next again, if still ours."""
        self.running.difference_update(jobs)
        back = [claimed for claimed in jobs if claimed.phase == "running"]
        for claimed in back:
            claimed.phase = "ready"
        self.ready.extendleft(reversed(back))
        if self.left is not None:
            self.left += len(back)

    def unused(self, claimed: ClaimedJob) -> None:
        """Take back the slot of a job that was not started after all, and is over."""
        self.running.discard(claimed)
        if self.left is not None:
            self.left += 1

    def ended(self, claimed: ClaimedJob) -> None:
        """Note that a run ended, and how long it took."""
        self.running.discard(claimed)
        self._stuck = False
        if claimed.alone:
            return  # it tells nothing of how long others take
        took_s = monotonic() - claimed.started
        pace_s = self._pace_s
        self._pace_s = took_s if pace_s is None else pace_s + _NEW_WEIGHT * (took_s - pace_s)

    def held_up(self) -> list[ClaimedJob]:
        """Take back the ready jobs when nothing has started for too long, newest first."""
        self._looks += 1
        if (
            self.suspect is not None
            or not self.ready
            or self._looks < 2
            or monotonic() - self._last_start < HELD_UP_S
        ):
            return []
        # Claim no more ahead until it is quick again.
        self._pace_s = max(self._pace_s or 0.0, HELD_UP_S)
        self._stuck = True
        return self.empty()

    def empty(self) -> list[ClaimedJob]:
        """Take back all ready jobs, newest first, so that the oldest ends up in front."""
        back = list(reversed(self.ready))
        self.ready.clear()
        return back

    def _prefetch(self) -> int:
        if self._pace_s is None or self._stuck:
            return 0
        return min(PREFETCH_MOST, int(self.concurrency * PREFETCH_S / max(self._pace_s, 1e-6)))
