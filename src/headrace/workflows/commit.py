"""The commit: the end of a job and what follows from it, as one request."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.handoff import FollowUp, HandOff
from headrace.keys import Keys, keys_of
from headrace.operations import Argument, Operation, Outcome, Verb, register, run
from headrace.operations.request import texts
from headrace.workflows.keys import places_of
from headrace.workflows.member import Member, MemberHandOff, ended
from headrace.workflows.telling import told_at_home


@dataclass(frozen=True)
class Commit:
    """What goes with the end of one job.

    Attributes:
        jobs: what it hands on.
        size: its bytes, about.
        member: which one it is in its workflow, if it belongs to one …
        value: … what it returned, if that is wanted …
        why: … and how it failed, if it did; both as JSON.
    """

    jobs: tuple[FollowUp, ...]
    size: int
    member: Member | None = None
    value: bytes = b""
    why: bytes = b""

    @property
    def before(self) -> list[Operation[int]]:
        """Make the queues known that its jobs go to; those of a workflow are since it has started."""
        here = (one.queue for one in self.jobs if not one.envelope)
        return [register(queue) for queue in dict.fromkeys(here)]

    def operation(self, k: Keys, consumer: str, outcome: Outcome) -> Operation[list[str]]:
        """End the claim with it; return its id if it was lost. Sent again, it changes nothing."""
        used = [k.processing, k.dead, k.leases, k.claims, k.stats, k.cancelled]
        used += (k.result(outcome.job_id), k.unique(outcome.key))
        args: list[Argument] = [consumer, outcome.job_id, outcome.claim, outcome.verb, outcome.job]
        args += (outcome.result_ttl_ms, outcome.result)
        args += ("" if self.member is None else self.member.n, self.value, self.why)
        numbers: dict[str, int] = {}  # of the queues, from 0
        if self.member is not None:
            used += self.member.keys()
            numbers = {queue: number for number, queue in enumerate(self.member.queues)}
        jobs = [_on_this_node(k, one) for one in self.jobs]
        for one in jobs:
            numbers.setdefault(one.queue, len(numbers))
        used += [key for queue in numbers for key in places_of(keys_of(queue))]
        args += (len(numbers), len(jobs))
        for one in jobs:
            key, holder = one.mark or ("", "")
            if one.key:
                key, holder = keys_of(one.queue).unique(one.key), one.job_id
            used += [key] if key else []
            args += (numbers[one.queue], one.due, holder, one.key_ttl_ms, one.job)
        return run("workflows/commit", used, args, texts)


def _on_this_node(k: Keys, one: FollowUp) -> FollowUp:
    """Return what is enqueued for it in this step: its envelope, if it goes to another node."""
    return FollowUp(k.queue, "", "", 0, "", one.envelope) if one.envelope else one


def commit_of(hand_off: HandOff, verb: Verb, end: bytes, queue: str) -> Commit | None:
    """Return what goes with the end of a run; None if nothing does.

    Args:
        hand_off: what it has handed on, and whether it is a member of a workflow.
        verb: how it ended.
        end: the same as it is told to whoever waits, encoded; b"" if nobody does.
        queue: the job's queue.
    """
    jobs = tuple(hand_off.close()) if verb == "done" else ()
    if isinstance(hand_off, MemberHandOff) and verb in ("done", "dead", "drop", "cancel"):
        member = hand_off.member
        value, why = ended(member, verb, end, queue)
        size = hand_off.size + len(value)
        if member.is_apart(queue):
            return Commit((*jobs, told_at_home(member, value, why, queue)), size)
        return Commit(jobs, size, member, value, why)
    return Commit(jobs, hand_off.size) if jobs else None
