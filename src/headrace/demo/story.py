"""What happened in the demo, as data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from headrace.demo.audit import Audit, Evidence
from headrace.demo.inventory import Totals
from headrace.demo.processes import Child
from headrace.demo.strike import Strike
from headrace.demo.watch import Moment


@dataclass(frozen=True, slots=True)
class Story:
    """What happened.

    Attributes:
        evidence: what was seen of the jobs.
        audit: what the check made of that.
        moment: where every job is at the end.
        consumers: the consumers, the killed one included.
        strike: the kill; None when nobody was killed.
        lease_s: how long leases were.
        queue_s: from the first enqueue to the end of the last job.
        loop_s: what the plain loop took.
        cpus: how many processors there are.
    """

    evidence: Evidence
    audit: Audit
    moment: Moment
    consumers: Sequence[Child]
    strike: Strike | None
    lease_s: float
    queue_s: float
    loop_s: float
    cpus: int

    @property
    def totals(self) -> tuple[Totals, Totals]:
        """The sums over what the queue returned, and over what the plain loop found."""
        return Totals.of(self.audit.done), Totals.of(self.evidence.expected)


def as_data(story: Story) -> dict[str, Any]:
    """Tell it to a program."""
    audit, snapshot = story.audit, story.evidence.snapshot
    queue, loop = story.totals
    return {
        "accounted_for": not audit.problems,
        "problems": audit.problems,
        "jobs": {
            "accepted": len(story.evidence.jobs),
            "done": len(audit.done),
            "dead": len(audit.dead),
            "pending": snapshot.waiting,
            "processing": snapshot.processing,
            "delayed": snapshot.delayed,
            "foreign": snapshot.foreign,
            "delivered_twice": len(audit.again),
        },
        "queue": {**asdict(queue), "seconds": round(story.queue_s, 3)},
        "plain_loop": {**asdict(loop), "seconds": round(story.loop_s, 3)},
        "consumers": [
            {
                "name": child.name,
                "pid": child.pid,
                "done": audit.by_pid[child.pid],
                "killed": child.killed,
            }
            for child in story.consumers
        ],
        "kill": _kill_as_data(story),
        "dead_letters": [
            {
                "id": letter.job_id,
                "path": letter.path,
                "attempts": letter.attempts,
                "reason": letter.error.reason,
                "error": letter.error.type,
                "message": letter.error.message,
            }
            for letter in audit.dead
        ],
    }


def _kill_as_data(story: Story) -> dict[str, Any] | None:
    strike = story.strike
    if strike is None:
        return None
    return {
        "consumer": strike.victim.name,
        "ended_before": strike.ended_before,
        "held": sorted(strike.held),
        "delivered_again": len(story.audit.again & strike.held),
        "back_seconds": strike.back_s and round(strike.back_s, 3),
        "done_seconds": strike.over_s and round(strike.over_s, 3),
        "lease_seconds": story.lease_s,
    }
