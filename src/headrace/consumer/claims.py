"""The claims: which jobs this consumer has, and what Redis has yet to be told of them.

Each claim is held here from the moment its job is read until Redis has taken its outcome, or has given
it to another consumer. Of what runs, and where, nothing here knows. Written by the event loop alone;
the lease keeper's thread reads copies.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from headrace.consumer.claimed import ClaimedJob
from headrace.keys import Keys
from headrace.operations import AdoptAnswer, Outcome
from headrace.scripts import MAX_BYTES

_MOST: Final = 500
"""Outcomes in one call: seven arguments each, far below what Lua can unpack."""


@dataclass(frozen=True)
class Batch:
    """Outcomes of one queue for one call."""

    k: Keys
    pairs: list[tuple[ClaimedJob, Outcome]]


class Claims:
    """The claims of one consumer.

    Args:
        queues: the keys of its queues.

    Attributes:
        queues: the same, in the consumer's order.
        unowned: those of which Redis does not know yet that they are ours, in the order in which they
            came. Each has to be adopted.
    """

    def __init__(self, queues: Sequence[Keys]) -> None:
        self.queues: list[Keys] = []
        self._held: dict[str, dict[str, ClaimedJob]] = {}
        self._outbox: dict[str, deque[tuple[ClaimedJob, Outcome]]] = {}
        self.add(queues)
        self.unowned: dict[ClaimedJob, None] = {}
        self._next = 1

    # — what is ours —

    def add(self, queues: Sequence[Keys]) -> list[Keys]:
        """Have claims of these queues, too; return those that are new."""
        new = [k for k in queues if k.queue not in self._held]
        for k in new:
            self._held[k.queue], self._outbox[k.queue] = {}, deque()
        self.queues += new
        return new

    def numbers(self, count: int) -> int:
        """Reserve claim numbers; return the first."""
        first = self._next
        self._next += count
        return first

    def signed(self, claimed: ClaimedJob) -> int:
        """Return the claim number, negative when the item is nearer to the old end of processing.

        ``LREM`` costs what it has to walk. Items stand there in the order of their claims, about:
        other consumers' items stand between ours.
        """
        mine = self._held[claimed.k.queue]
        oldest = next(iter(mine.values()), claimed).number
        number = claimed.number
        return -number if number - oldest <= self._next - number else number

    def of(self, queue: str) -> dict[str, ClaimedJob]:
        """Return a copy of a queue's claims: safe from any thread, for a copy is one step to Python."""
        return self._held[queue].copy()

    def get(self, queue: str, job_id: str) -> ClaimedJob | None:
        """Return the claim of a job, if it is held and its outcome is not on the way."""
        claimed = self._held[queue].get(job_id)
        return None if claimed is None or claimed.phase == "settling" else claimed

    def register(self, claimed: ClaimedJob) -> ClaimedJob | None:
        """Note a claim; return one that is lost by it: Redis gave that id away again, to this one."""
        other, lost = self.get(claimed.k.queue, claimed.head.id), None
        if other is not None and other.head.delivery < claimed.head.delivery:
            lost = other  # this process stood still: the job has been back in the queue since
        elif other is not None and not claimed.owned:
            claimed.renamed()  # somebody enqueued two jobs with one id
        elif other is not None and other.owned:
            lost = other
        elif other is not None:
            self._rename(other)
        self._hold(claimed)
        if not claimed.owned:
            self.unowned[claimed] = None
        return lost

    def adopted(
        self, claimed: ClaimedJob, answer: AdoptAnswer, leased_until: float
    ) -> Literal["ours", "again", "lost"]:
        """Note what Redis said to an adoption: the job is ours, or not, or has to be asked for again."""
        if answer != "ok" and claimed.kept:
            # It may be older than the lease keeper's: that lease would be left to nobody.
            claimed.kept = False
            return "again"
        if answer == "duplicate":
            self._rename(claimed)
            return "again"
        self.unowned.pop(claimed, None)
        if answer != "ok":
            return "lost"
        claimed.owned, claimed.leased_until = True, leased_until
        if claimed.outcome is not None:  # it may have got another id since it ended
            claimed.outcome = claimed.outcome._replace(job_id=claimed.head.id)
            self._tell(claimed, claimed.outcome)
        return "ours"

    def lose(self, claimed: ClaimedJob) -> None:
        """Forget a claim that is not ours any more."""
        self._forget(claimed)
        self.unowned.pop(claimed, None)
        if claimed.kept:  # since the loop was told that it is not ours: see the lease keeper
            self.release(claimed, claimed.head.id)

    def _hold(self, claimed: ClaimedJob) -> None:
        self._held[claimed.k.queue][claimed.head.id] = claimed

    def _forget(self, claimed: ClaimedJob) -> None:
        mine = self._held[claimed.k.queue]
        if mine.get(claimed.head.id) is claimed:
            del mine[claimed.head.id]

    def _rename(self, claimed: ClaimedJob) -> None:
        """Give a job that Redis does not know as ours yet another id."""
        self._forget(claimed)
        claimed.renamed()
        self._hold(claimed)

    # — what Redis has to be told —

    @property
    def untold(self) -> bool:
        """Whether there is something to tell Redis."""
        return bool(self.unowned) or any(self._outbox.values())

    def settle(self, claimed: ClaimedJob, outcome: Outcome) -> None:
        """Note what became of a job. Redis is told when it knows that the job is ours."""
        claimed.phase, claimed.outcome = "ended", outcome
        if claimed.owned:
            self._tell(claimed, outcome)

    def release(self, claimed: ClaimedJob, job_id: str) -> None:
        """Give back a lease that came under this id after its job had ended or was given up."""
        # It comes after the job's own outcome, and changes nothing if that was in time.
        self._tell(claimed, Outcome(job_id, claimed.number, "release"))

    def take(self) -> list[Batch]:
        """Take out the outcomes that one call for each queue may carry; each with a commit has its own."""
        batches: list[Batch] = []
        for waiting in self._outbox.values():
            batch: list[tuple[ClaimedJob, Outcome]] = []
            size, releases = 0, False
            while waiting and len(batch) + len(batches) < _MOST and size < MAX_BYTES:
                claimed, outcome = pair = waiting.popleft()
                if outcome.commit is None:
                    batch.append(pair)
                else:  # before all others: a lease that was left over is given back after the outcome
                    batches.append(Batch(claimed.k, [pair]))
                    size += outcome.commit.size
                if claimed.phase == "ended":
                    claimed.phase = "settling"
                size += len(claimed.job) + len(outcome.job) + len(outcome.result)
                releases = releases or outcome.verb == "release"
            if releases:
                # They go to the front of the queue one by one: the oldest has to be the last.
                batch.sort(key=lambda pair: -pair[0].number if pair[1].verb == "release" else 0)
            if batch:
                batches.append(Batch(batch[0][0].k, batch))
        return batches

    def settled(self, batch: Batch) -> None:
        """Forget the claims whose outcomes Redis has taken, or could not take any more."""
        for claimed, _ in batch.pairs:
            if claimed.phase == "settling":  # not a lease of its that was left over
                claimed.phase = "gone"
                self._forget(claimed)

    def put_back(self, batch: Batch, *, may_have_happened: bool) -> None:
        """Put outcomes back to the front: their call failed, and is made again."""
        if not may_have_happened:
            for claimed, _ in batch.pairs:
                if claimed.phase == "settling":
                    claimed.phase = "ended"
        self._outbox[batch.k.queue].extendleft(reversed(batch.pairs))

    def _tell(self, claimed: ClaimedJob, outcome: Outcome) -> None:
        self._outbox[claimed.k.queue].append((claimed, outcome))
