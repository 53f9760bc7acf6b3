"""The proof at the end of the demo: the ledger and Redis are compared with what was accepted. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from headrace.demo.orders import Ledger
from headrace.doctor.humanize import counted


@dataclass(frozen=True, slots=True)
class Proof:
    """What was seen of the jobs.

    Attributes:
        accepted: their ids, as the producers printed them.
        ledger: what the runs wrote.
        dead: the ids of the dead letters.
        total: the sum of ``headrace audit``, by place.
        victim: the process of the consumer that was killed.
        restart: how many lines the ledger had when Redis was killed.
    """

    accepted: Sequence[str]
    ledger: Ledger
    dead: Sequence[str]
    total: Mapping[str, int]
    victim: int
    restart: int

    def problems(self) -> Iterator[str]:
        """Say what is not as it should be: nothing, when no job is lost."""
        paid, refused = self.ledger.jobs("paid"), self.ledger.jobs("refused")
        dead = Counter(self.dead)
        for job_id in self.accepted:
            if not paid[job_id] and not dead[job_id]:
                yield f"job {job_id} is lost: it is neither paid nor dead"
            elif dead[job_id] != (job_id in refused):
                yield f"job {job_id} has {counted(dead[job_id], 'dead letter')}"
        for job_id in (self.ledger.jobs("begun").keys() | dead.keys()) - set(self.accepted):
            yield f"job {job_id} was never accepted"
        expected = {"accepted": len(set(self.accepted)), "done": len(paid), "dead": len(refused)}
        for place, count in self.total.items():
            if count != expected.get(place, 0):
                yield f"headrace audit says {count:,} {place}, not {expected.get(place, 0):,}"

    def ends(self) -> str:
        """Add up how the jobs ended."""
        paid, dead = len(self.ledger.jobs("paid")), len(self.dead)
        return f"{len(self.accepted):,} accepted = {paid:,} paid + {dead:,} dead"

    def repeats(self) -> str:
        """Count the jobs that were begun more than once, and why; retries are left out."""
        runs: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        for line, (job_id, step, pid) in enumerate(self.ledger):
            if step == "begun":
                runs[job_id].append((line, pid))
        for job_id in self.ledger.jobs("refused"):
            del runs[job_id]
        reasons = Counter(self._reason(some) for some in runs.values() if len(some) > 1)
        begun = ", ".join(f"{count:,} {reason}" for reason, count in reasons.items())
        paid = sum(times > 1 for times in self.ledger.jobs("paid").values())
        return f"begun twice: {begun or 'none'}; paid twice: {paid or 'none'}"

    def _reason(self, runs: Sequence[tuple[int, int]]) -> str:
        """Say why a job was begun again, by the line and the process of each of its runs."""
        if any(pid == self.victim for _, pid in runs[:-1]):
            return "of the killed consumer"
        return "as Redis was killed" if runs[0][0] < self.restart else "for another reason"
