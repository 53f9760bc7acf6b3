"""The kill of a consumer, and how its jobs come back."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass

from headrace import flows
from headrace.clock import monotonic
from headrace.demo.processes import Child
from headrace.demo.watch import Moment
from headrace.doctor.words import counted
from headrace.keys import Keys
from headrace.store import Store


@dataclass(slots=True)
class Strike:
    """The kill, and what followed.

    Attributes:
        victim: who was killed.
        held: ids of the jobs that it had claimed.
        ended_before: how many jobs had ended by then.
        at: when it was killed (monotonic).
        back_s: seconds until all its jobs waited in the queue again; None before.
        over_s: seconds until all its jobs had ended; None before.
    """

    victim: Child
    held: frozenset[str]
    ended_before: int
    at: float
    back_s: float | None = None
    over_s: float | None = None

    def news(self, moment: Moment, ended: Container[str]) -> Iterator[str]:
        """Note how far its jobs have come by now; tell what is new."""
        passed_s, jobs = monotonic() - self.at, counted(len(self.held), "job")
        if self.back_s is None and not moment.in_hand[self.victim.name]:
            self.back_s = passed_s
            yield f"its {jobs} queued again, {passed_s:.1f} s after the kill"
        if self.over_s is None and all(job_id in ended for job_id in self.held):
            self.over_s = passed_s
            yield f"its {jobs} ended by others, {passed_s:.1f} s after the kill"


def strike(victim: Child, store: Store, k: Keys, ended_before: int) -> Strike | None:
    """Kill a consumer while it holds jobs; None when it holds none just now.

    It is stopped first (SIGSTOP), to see that there will be something to recover; what it holds is
    read once more after the kill, when nothing that it sent can still arrive.
    """
    victim.stop()
    if not store.follow(flows.claims_of(k, victim.name)):
        victim.go_on()
        return None
    victim.kill()
    at = monotonic()
    held = frozenset(job_id for job_id, _ in store.follow(flows.claims_of(k, victim.name)))
    return Strike(victim, held, ended_before, at)
