"""Decides the invariants of DESIGN from outside: what was accepted, what ran, what Redis holds.

Nothing here knows a bug. What a fault explains is excused: a job may run twice when the consumer that
had it was disturbed; it may not when nothing was.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from headrace import wire
from headrace.policy import LEADER_LEASE_S, SUSPECT_CRASHES, LeasePolicy
from tests.simulation.faults import LATENCIES, MESSAGES
from tests.simulation.queue import MAX_NUDGES, Queue, outcomes_of
from tests.simulation.world import Node, World

if TYPE_CHECKING:
    from tests.simulation.faults import Faults

LOOK_EVERY = 6  # commands
OUTAGES = ("away", "restart", "stalled", "failover", "rollback")
# What can take a lease from a consumer that did nothing wrong.
DEATHS = ("crash", "crash at a call", "machine lost", "stopped", "partition", *MESSAGES)
ADOPTED_WITHIN_S = 4.0  # by a healthy consumer: a round trip, and the one before it
SERVED_WITHIN_S = 0.5  # what had to wait for the end of an outage, and whose clients may be gone
AFTER_OUTAGE_S = 5.0  # until everybody has noticed that it is over
# From a claim to the return of a suspect that came with it, when others run there (decision 0010): its answer, and
# the next request.
HANDED_BACK_WITHIN_S = 2 * max(longest for _, longest in LATENCIES)
MAX_ATTEMPTS = 2  # of every task
STARTED_WITHIN_S = 9.0  # a blocking request may be that old (5 s), and have been refused before


@dataclass
class Run:
    """One run of a job; ``how``: ok, failed, stopped, or None while it runs or died with its node."""

    key: int
    node: Node
    began: float
    ended: float | None = None
    how: str | None = None


@dataclass
class Job:
    """What was asked for: under one key one job, or several with equal bytes.

    Attributes:
        fate: how it is to end: ok, max_attempts, timeout, malformed, unknown_task, crashed.
        most: how many there may be.
        copies: acknowledged.
        unsure: sent, and the answer never came; or acknowledged and rolled back.
        due_ms: not before, by Redis' clock.
        redriven_at: when it was moved out of the dead letters: its failures are forgotten.
    """

    key: int
    fate: str = "ok"
    raw: bytes = b""
    most: int = 1
    copies: int = 0
    unsure: int = 0
    due_ms: int = 0
    cancelled: bool = False
    redriven_at: float = 0.0
    runs: list[Run] = field(default_factory=list)

    def done(self) -> int:
        return sum(run.how == "ok" for run in self.runs)


class Checker:
    """Records a run, and says what was wrong about it."""

    faults: Faults

    def __init__(self, world: World, policy: LeasePolicy) -> None:
        self.world = world
        self.policy = policy
        self.jobs: dict[int, Job] = {}
        self.twins: set[str] = set()
        self.violations: list[str] = []
        self.consumers: dict[str, Node] = {}
        self.idle: dict[str, float] = {}  # consumers with nothing in hand, since when
        self.clock_ms = 0  # the latest that Redis' clock has shown
        self._foreign: Counter[str] = Counter()
        self._seen = 0
        self._bare: dict[bytes, tuple[Node, float]] = {}
        self._lapsed: dict[bytes, float] = {}
        self._waits: dict[str, float] = {}
        self._unheard: set[str] = set()  # tokens
        self._claimed: dict[str, float] = {}  # tokens, since when
        self._charged: Counter[str] = Counter()  # ids, for what hardly reached a consumer

    def wrong(self, what: str) -> None:
        self.world.note("WRONG", what)
        self.violations.append(what)

    # — what consumers do —

    def begin(self, key: int) -> Run | None:
        """Note that a run began; None on a node that is dead already."""
        node = self.world.current
        assert node is not None
        if node.dead:
            return None
        job, run = self.jobs[key], Run(key, node, self.world.now)
        self.world.note(node.name, "begins", key)
        if self.clock_ms < job.due_ms and not self._is_weak():
            self.wrong(f"I8: job {key} began {job.due_ms - self.clock_ms} ms early on {node.name}")
        for other in job.runs if job.most == 1 else ():
            explained = any(self.faults.excuses(n, other.began) for n in (node, other.node))
            explained = explained or self._left_untold(other.node)
            if other.how in ("ok", None) and not explained:
                state = "had ended" if other.how else "was running"
                self.wrong(f"I9: job {key} began on {node.name}, and {state} on {other.node.name}")
        job.runs.append(run)
        self.idle.pop(node.name, None)
        node.runs += 1
        since = [other for other in job.runs if other.began >= job.redriven_at]
        killed = sum(other.node.dead and other.how is None for other in since)
        if job.most == 1 and killed >= self.policy.max_crashes and not self._is_weak():
            self.wrong(f"I6: job {key} began again after {killed} consumers died beside it")
        return run

    def end(self, run: Run | None, how: str) -> None:
        if run is None or run.node.dead:
            return
        self.world.note(run.node.name, how, "ends", run.key)
        run.ended, run.how = self.world.now, how
        run.node.runs -= 1
        self.rests(run.node)

    def rests(self, node: Node) -> None:
        """Note that a consumer may have nothing to do."""
        if not node.runs and not node.leaving and node.name in self.consumers:
            self.idle[node.name] = self.world.now

    def _left_untold(self, node: Node) -> bool:
        """Tell whether a consumer ended when it may not have reached Redis to say what had ended."""
        return node.over and any(self.faults.counts[kind] for kind in OUTAGES)

    def _is_weak(self) -> bool:
        return self.faults.weak_at > 0

    # — what Redis does —

    def before(self, script: str, queue: Queue) -> Any:
        if script in ("settle", "reclaim"):
            return {name: (lease.owner, lease.job) for name, lease in queue.leases.items()}
        return None

    def after(
        self, script: str, queue: Queue, before: Any, args: Sequence[Any], reply: Any, node: Node
    ) -> None:
        if script == "claim":
            tokens = (f"{args[2]}:{number}" for number, _ in enumerate(reply[2:], args[3]))
            self._claimed.update(dict.fromkeys(tokens, self.world.now))
        elif script == "settle":
            self._check_settle(before, args, reply)
        elif script == "reclaim":
            self._check_charges(queue, before)
        elif script == "redrive":
            for letter in args[::2]:
                job = self.jobs.get(self._read_letter(letter))
                if job is not None:
                    job.redriven_at = self.world.now
        elif script == "adopt":
            self._bare.pop(args[2], None)
        self.glance(queue)

    def glance(self, queue: Queue) -> None:
        """Look at the queue now and then."""
        self._note_emptiness(queue)
        self._seen += 1
        if self._seen % LOOK_EVERY == 0:
            self.look(queue)

    def claimed_too_late(self, args: Sequence[Any], reply: Any) -> None:
        """Note claims that their consumer had given up: nobody has them, and a lease ends them."""
        _, _, *jobs = reply  # the word, now
        self._unheard |= {f"{args[2]}:{number}" for number, _ in enumerate(jobs, args[3])}
        self._charged.update(parts[0].id for parts in map(wire.split, jobs) if parts)

    def _check_settle(self, before: dict[str, Any], args: Sequence[Any], reply: Any) -> None:
        seen = set()
        for outcome in outcomes_of(args[1:]):
            job_id = outcome.job_id
            owner, _ = before.get(job_id, ("", b""))
            stale = job_id in seen or owner != f"{args[0]}:{abs(outcome.claim)}"
            seen.add(job_id)
            if stale and job_id.encode() not in reply:
                self.wrong(
                    f"I4: {args[0]} ended {job_id} by {outcome.verb}, which {owner or 'nobody'} has"
                )

    def _check_charges(self, queue: Queue, before: dict[str, Any]) -> None:
        for name, (owner, _) in before.items():
            consumer = owner.rpartition(":")[0]
            if name in queue.leases or not consumer or owner in self._unheard:
                continue
            node = self.consumers[consumer]
            self._charged[name] += self._was_on_its_way(owner, node)
            since = self.world.now - self.policy.grace_s - 2 * LEADER_LEASE_S
            if self._left_untold(node):
                continue
            if self._was_busy(node):  # with a claim's answer unread, it does not know what it has
                continue
            if not node.dead and not self.faults.excuses_loss(node, since):
                self.wrong(f"I6: {name} was taken from {consumer}, which is alive and undisturbed")

    def _was_on_its_way(self, owner: str, node: Node) -> bool:
        """Tell whether a consumer died, of another job perhaps, before it can have handed this one back."""
        claimed_at, killed_at = self._claimed.get(owner), node.killed_at
        if claimed_at is None or killed_at is None:
            return False
        return killed_at - claimed_at < HANDED_BACK_WITHIN_S

    def moved(self, queue: Queue, item: bytes, node: Node) -> None:
        """A blocking move gave an item to a consumer, or to one of which Redis did not know it was dead."""
        if node.dead and (parts := wire.split(item)) is not None:
            self._charged[parts[0].id] += 1
        if node.name in self.consumers and queue.processing.count(item) == 1:
            self._bare[item] = (node, self.world.now)
        self._note_emptiness(queue)

    def pushed(self, queue: Queue, count: int) -> None:
        self._foreign[self._name(queue)] += count

    def removed(self, queue: Queue, count: int) -> None:
        self._foreign[self._name(queue)] -= count

    def _name(self, queue: Queue) -> str:
        return str(id(type(queue)))  # one queue in a run

    def save(self) -> Any:
        return self._foreign.copy(), {key: job.copies for key, job in self.jobs.items()}

    def restore(self, saved: Any) -> None:
        """Redis went back: what was acknowledged since then may be lost."""
        self._foreign = deepcopy(saved[0])
        for key, job in self.jobs.items():
            lost = job.copies - saved[1].get(key, 0)
            job.copies -= lost
            job.unsure += lost
        self._bare.clear()
        self._lapsed.clear()

    # — what Redis holds —

    def look(self, queue: Queue) -> None:
        """Check what holds at any instant."""
        places = {
            "pending": queue.pending,
            "processing": queue.processing,
            "dead": queue.dead,
            "delayed": list(queue.delayed),
            "priority": list(queue.priority),
            "limited": queue.limited,
        }
        self._check_one_place(places)
        stats = queue.stats
        ended = stats["done"] + stats["cancel"] + stats["drop"] + stats["purged"]
        foreign = sum(map(len, places.values())) + ended - stats["enqueued"]
        expected = self._foreign[self._name(queue)]
        if foreign != expected:
            self.wrong(
                f"I3: {foreign - expected:+d} jobs, for {foreign} are foreign, not {expected}"
            )
        surplus = Counter(lease.job for lease in queue.leases.values())
        surplus.subtract(Counter(queue.processing))
        if any(count > queue.taken[job] for job, count in surplus.items()):
            self.wrong(f"I9: more leases than items: {surplus - queue.taken}")
        if queue.nudges > MAX_NUDGES:
            self.wrong(f"I12: {queue.nudges} nudges")
        self._check_bare(queue)
        self._check_lapsed(queue)
        self._check_sleepers(queue)

    def _check_one_place(self, places: dict[str, list[bytes]]) -> None:
        where: dict[str, str] = {}
        for place, jobs in places.items():
            for job in jobs:
                parts = wire.split(job)
                if parts is None or parts[0].id in self.twins:
                    continue
                if parts[0].id in where:
                    self.wrong(f"I2: {parts[0].id} is in {where[parts[0].id]} and in {place}")
                where[parts[0].id] = place

    def _check_bare(self, queue: Queue) -> None:
        """What a healthy consumer moved is soon its own, or given back."""
        for item, (node, since) in list(self._bare.items()):
            owners = {lease.owner for lease in queue.leases.values() if lease.job == item}
            if item not in queue.processing or owners - {"-"}:
                del self._bare[item]
            elif self.faults.excuses(node, since) or node.dead or self._was_busy(node):
                del self._bare[item]
            elif since < self.faults.outage_until + SERVED_WITHIN_S:
                del self._bare[item]  # asked for before, and given up before it was carried out
            elif self._waited_s(since) > ADOPTED_WITHIN_S:
                self.wrong(f"I2: {node.name} moved {item[:60]!r} and has not leased it")
                del self._bare[item]

    def _was_busy(self, node: Node) -> bool:
        return node.busy_until > self.world.now - 2 * self.policy.lease_s - 10.0

    def _waited_s(self, since: float) -> float:
        """Tell how long something has waited while the server was well, and for a while before."""
        return self.world.now - max(since, self.faults.outage_until + AFTER_OUTAGE_S)

    def _check_lapsed(self, queue: Queue) -> None:
        """I10: what has no live lease is soon runnable again."""
        policy = self.policy
        bound = LEADER_LEASE_S + 3 * policy.sweep_every_s + 2 * policy.grace_s + policy.gap_s + 3.0
        if self._is_weak():  # a clock that went back lets the lead and the leases last longer
            bound += 60.0
        live = {lease.job for lease in queue.leases.values() if lease.deadline > queue.now}
        lapsed = {item for item in queue.processing if item not in live}
        if not self._has_consumers():
            lapsed.clear()
        self._lapsed = {item: self._lapsed.get(item, self.world.now) for item in lapsed}
        for item, since in self._lapsed.items():
            if self.world.now - max(since, self._last_death(), self.faults.heals_at + 15.0) > bound:
                self.wrong(
                    f"I10: without a live lease for {self.world.now - since:.0f} s: {item[:80]!r}"
                )
                self._lapsed[item] = 1e9

    def _last_death(self) -> float:
        """When a consumer died last: it may have been the leader."""
        return max((node.killed_at or 0.0 for node in self.consumers.values()), default=0.0)

    def _has_consumers(self) -> bool:
        return any(not node.over for node in self.consumers.values())

    def _note_emptiness(self, queue: Queue) -> bool:
        empty = queue.paused or not (queue.pending or queue.priority)
        if empty:
            self._waits.pop(self._name(queue), None)
        return empty

    def _check_sleepers(self, queue: Queue) -> None:
        """I11: no consumer sleeps beside work."""
        name, now = self._name(queue), self.world.now
        if self._note_emptiness(queue):
            return
        since = self._waits.setdefault(name, now)
        for consumer, idle_since in self.idle.items():
            node = self.consumers[consumer]
            if node.over or node.leaving or self.faults.excuses(node, now) or self._was_busy(node):
                continue
            if self._waited_s(max(since, idle_since)) > STARTED_WITHIN_S:
                self.wrong(f"I11: {consumer} sleeps beside {len(queue.pending)} jobs")
                self._waits[name] = 1e9

    # — the end —

    def verdict(self, queue: Queue) -> None:
        """Decide, when everything has been still for a while."""
        self.look(queue)
        letters: Counter[int] = Counter()
        for letter in queue.dead:
            letters[self._read_letter(letter)] += 1
        for job in self.jobs.values():
            ends = job.done() + letters[job.key]
            if ends < job.copies and not job.cancelled:
                self.wrong(f"I1: job {job.key} ({job.fate}): {job.copies} accepted, {ends} ended")

    def _read_letter(self, letter: bytes) -> int:
        """Tell which job lies dead here, after a look at why."""
        error = wire.read_error(letter)
        if error is None:
            self.wrong(f"I7: a dead letter without its reason: {letter[:80]!r}")
            return -1
        # One that was malformed, and whose consumers died before they could say so, is a letter in one.
        inner = wire.read_error(wire.redriven(letter))
        payload = wire.wrapped_payload(error) or wire.wrapped_payload(inner)
        if payload is not None:
            key = next((job.key for job in self.jobs.values() if job.raw == payload), -1)
        else:
            key = json.loads(letter)["args"][0]
        job = self.jobs.get(key)
        if job is None:
            self.wrong(f"I7: a dead letter of no job: {letter[:80]!r}")
            return -1
        if error.reason not in (job.fate, "crashed"):
            self.wrong(f"I7: job {key} ({job.fate}) died of {error.reason}")
        failed = sum(run.how == "failed" for run in job.runs)
        if error.reason == "max_attempts" and failed < MAX_ATTEMPTS and not self._is_weak():
            self.wrong(f"I7: job {key} died after {failed} failures")
        parts = wire.split(letter)
        deaths = sum(self.faults.counts[kind] for kind in DEATHS)
        deaths += self._charged[parts[0].id] if parts else 0
        suspected = self.policy.max_crashes - SUSPECT_CRASHES
        if error.reason == "crashed" != job.fate and deaths < suspected and not self._is_weak():
            self.wrong(f"I6: job {key} ({job.fate}) died of crashes that another job caused")
        charged = parts[0].crashes if parts else 0
        if error.reason == "crashed" and charged < self.policy.max_crashes:
            self.wrong(f"I7: job {key} died as crashed after {charged} crashes")
        return key
