"""Decides, from what was written down and what Redis holds at the end, whether the promise was kept.

Pure: a history and a final state in, a verdict out. Each function decides one invariant of the
design and says in a sentence what broke it. What a class of faults excuses (a failover may lose
what was not replicated yet) comes in as ``Terms``; nothing is excused otherwise.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator

import msgspec

from tests.faults import yielded
from tests.faults.evidence import Evidence, Final, Terms, Verdict, Violation
from tests.faults.history import History, Run, call_bytes
from tests.support.invariants import MAX_NUDGES

_STEPS = 10
_EARLY_S = 0.002  # instants are cut to milliseconds on the way
_REASONS = {
    *("max_attempts", "timeout", "crashed", "rejected", "invalid_arguments", "malformed"),
    *("too_large", "unknown_task", "expired", "limit_exceeded"),
}
_MAY_DIE = {"failing": "max_attempts", "poison": "crashed"}  # all other tasks end well


def check(history: History, final: Final, terms: Terms) -> Verdict:
    """Decide."""
    evidence, verdict = Evidence(history, final, terms), Verdict()
    verdict.jobs = sum(1 for _ in evidence.acked())
    lost = list(i1_lost(evidence))
    verdict.lost = len(lost)
    stuck = list(i11_drained(evidence))
    verdict.stuck = sum(map(len, final.state.places.values())) - len(final.state.dead)
    stale = list(i4_stale_settles(evidence))
    verdict.stale = len(stale)
    verdict.late = sum(1 for s in history.settled if s.effective is False and not s.repeat)
    verdict.doubled = sum(1 for runs in evidence.runs.values() if _doubled(runs))
    verdict.recoveries_s = sorted(wait for _, wait in recoveries(evidence))
    verdict.violations += [violation for excused, violation in lost if not excused]
    verdict.violations += stuck + stale
    for invariant in (
        i1_unexpected,
        i2_one_place,
        i3_conservation,
        i3_sum_of_sets,
        i5_repeats,
        i6_crashes,
        i7_letters,
        i8_early,
        i9_one_lease,
        i10_stranded,
        i10_recovery,
        i10_duties,
        i11_awake,
        i12_keys,
        streams,
        limits,
        shown,
    ):
        verdict.violations += invariant(evidence)
    return verdict


def i1_lost(e: Evidence) -> Iterator[tuple[bool, Violation]]:
    """An acknowledged job has run to its end, or is still in Redis, or somebody removed it.

    Each comes with whether Redis' own loss excuses it: the mode's window before it forgot.
    """
    window_s = e.terms.loss_window_s
    for enqueue in e.acked():
        n = enqueue.number
        if not (e.finished(n) or e.places[n] or enqueue.job_id in e.history.removals):
            runs = [(run.delivery, run.how) for run in e.runs[n]]
            text = f"job {n} ({enqueue.task}) was acknowledged and is nowhere; its runs: {runs}"
            # Redis had it at some instant between: one that is stopped answers when it goes on.
            sent_at, acked_at = enqueue.sent_at, max(enqueue.sent_at, enqueue.acked_at)
            excused = any(at - window_s <= acked_at and sent_at <= at for at in e.history.rollbacks)
            yield excused, Violation("I1", text)


def i1_unexpected(e: Evidence) -> Iterator[Violation]:
    """Nothing runs, or stands in Redis, that nobody enqueued, or whose enqueue was refused."""
    for n in {*e.runs, *e.places}:
        enqueue = e.enqueues.get(n)
        if not (e.runs[n] or e.places[n]):
            continue
        if enqueue is None:
            yield Violation("I1", f"job {n} was never enqueued")
        elif enqueue.outcome == "refused":
            yield Violation("I1", f"job {n} was refused, and yet it is there")
        elif enqueue.job_id and (others := {r.job_id for r in e.runs[n]} - {enqueue.job_id}):
            yield Violation("I1", f"job {n} ran under ids that are not its own: {others}")
    for place, job in e.unknown_bytes:
        yield Violation("I1", f"{place} holds bytes that nobody enqueued: {job[:100]!r}")


def i2_one_place(e: Evidence) -> Iterator[Violation]:
    """A job stands in one place; in processing it has one lease, and a lease has its item."""
    for n, places in e.places.items():
        if len(places) > 1:
            yield Violation("I2", f"job {n} stands in {[place for place, _ in places]}")
        elif places and e.finished(n) and not _may_stand(e, n):
            yield Violation("I2", f"job {n} is done, and stands in {places[0][0]}")
    state = e.final.state
    if state.leases.keys() != state.claims.keys():
        odd = state.leases.keys() ^ state.claims.keys()
        yield Violation("I2", f"leases and claims differ: {sorted(odd)[:5]}")
    items, leased = Counter(state.processing), Counter(job for _, job in state.claims.values())
    for job in (items - leased) + (leased - items):
        yield Violation("I2", f"processing and its leases differ in {job[:100]!r}")
    for sample in e.history.samples:
        if sample.doubled:
            yield Violation("I2", f"at {sample.at:.3f} ids in several places: {sample.doubled[:5]}")


def _may_stand(e: Evidence, number: int) -> bool:
    """Whether the settle of the run that returned was late, so that the job runs again."""
    settles = [s for run in e.runs[number] for s in e.settled[run.job_id]]
    return e.terms.rollback or not any(s.verb == "done" and s.effective for s in settles)


def i3_conservation(e: Evidence) -> Iterator[Violation]:
    """At every instant all jobs are somewhere, or their end was counted."""
    if e.terms.foreign is None:
        return
    for sample in e.history.samples:
        if sample.residual != e.terms.foreign:
            text = f"at {sample.at:.3f} the sum is off by {sample.residual - e.terms.foreign}"
            yield Violation("I3", f"{text}: {sample.places}, {sample.counters}")
            return  # it stays so
    if (residual := e.final.state.foreign) != e.terms.foreign:
        yield Violation("I3", f"at the end the sum is off by {residual - e.terms.foreign}")


def i3_sum_of_sets(e: Evidence) -> Iterator[Violation]:
    """The counters agree with what was seen outside: no job was counted done that was another."""
    if e.terms.rollback or e.terms.foreign != 0:
        return  # Redis has forgotten some, or plain clients moved jobs that nobody counted
    count = e.final.state.counters.get
    sure = sum(1 for _ in e.acked())
    unsure = sum(1 for one in e.enqueues.values() if one.outcome == "unsure")
    if not sure <= count("enqueued", 0) <= sure + unsure:
        text = f"{count('enqueued', 0)} enqueued by Redis' count; {sure} known, {unsure} unsure"
        yield Violation("I3", text)
    ended = sum(1 for n in e.enqueues if e.finished(n) and not e.places[n])
    removed = count("cancel", 0) + count("purged", 0)
    if not ended - removed <= count("done", 0) <= ended:
        text = f"{count('done', 0)} done by Redis' count; {ended} returned, {removed} were removed"
        yield Violation("I3", text)


def i4_stale_settles(e: Evidence) -> Iterator[Violation]:
    """Once a later delivery has started, nobody ends the job in the name of an earlier one."""
    if e.terms.rollback:
        return
    started: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for run in e.history.runs:
        started[run.job_id].append((run.delivery, run.started_at))
    for settled in e.history.settled:
        if not settled.effective or settled.repeat or settled.delivery < 0:
            continue
        for delivery, at in started[settled.job_id]:
            if delivery > settled.delivery and at < settled.sent_at:
                text = f"{settled.verb} of delivery {settled.delivery} ended {settled.job_id}"
                yield Violation("I4", f"{text}, although delivery {delivery} had started")
                break


def i5_repeats(e: Evidence) -> Iterator[Violation]:
    """A settle that is sent again changes nothing; no delivery ends twice."""
    for settled in e.history.settled:
        if settled.repeat and settled.effective:
            text = f"{settled.verb} of {settled.job_id}, sent again, took effect again"
            yield Violation("I5", text)
    if e.terms.rollback:
        return
    ends = Counter(
        (s.job_id, s.delivery) for s in e.history.settled if s.effective and s.delivery >= 0
    )
    for (job_id, delivery), count in ends.items():
        if count > 1:
            yield Violation("I5", f"delivery {delivery} of {job_id} ended {count} times")


def i6_crashes(e: Evidence) -> Iterator[Violation]:
    """A job takes a bounded number of processes with it."""
    bound = e.terms.max_crashes * (1 + len(e.history.rollbacks))
    for n, runs in e.runs.items():
        crashed = sum(1 for run in runs if run.how is None)
        if crashed > bound:
            yield Violation("I6", f"job {n} crashed {crashed} times; the bound is {bound}")


def i7_letters(e: Evidence) -> Iterator[Violation]:
    """Who failed for good has a dead letter, with the job's bytes and a reason."""
    letters = {n: job for n, at in e.places.items() for place, job in at if place == "dead"}
    for n, letter in letters.items():
        error = msgspec.json.decode(letter).get("error", {})
        if error.get("reason") not in _REASONS:
            yield Violation("I7", f"the letter of job {n} has no reason: {error}")
        elif (task := e.enqueues[n].task if n in e.enqueues else "") not in _MAY_DIE:
            yield Violation("I7", f"job {n} ({task}) is dead and had no reason to fail: {error}")
        elif error["reason"] != _MAY_DIE[task]:
            yield Violation("I7", f"job {n} ({task}) died of {error['reason']}")
        if call_bytes(n) not in letter:
            yield Violation("I7", f"the letter of job {n} has other arguments: {letter[:200]!r}")
    if e.terms.rollback:
        return
    for n, enqueue in e.enqueues.items():
        died = any(s.verb == "dead" and s.effective for s in e.settled[enqueue.job_id])
        if died and not e.places[n] and enqueue.job_id not in e.history.removals:
            yield Violation("I7", f"job {n} failed for good and has no letter")
    dead = e.final.state.counters.get("dead", 0) - e.final.state.counters.get("purged", 0)
    dead -= e.final.state.counters.get("redriven", 0)
    if dead != len(e.final.state.dead):
        yield Violation("I7", f"{dead} dead by Redis' count, {len(e.final.state.dead)} letters")


def i8_early(e: Evidence) -> Iterator[Violation]:
    """No job starts before it is due: not a delayed one, and no next attempt."""
    for n, enqueue in e.enqueues.items():
        due_at = enqueue.sent_at + enqueue.delay_s - _EARLY_S
        if enqueue.delay_s and e.runs[n] and e.runs[n][0].started_at < due_at:
            early = due_at - e.runs[n][0].started_at
            yield Violation("I8", f"job {n} started {early:.3f} s before it was due")
        for settled in e.settled[enqueue.job_id]:
            if settled.verb not in ("retry", "park") or not settled.effective or e.terms.rollback:
                continue
            due_at = settled.sent_at + settled.delay_s - _EARLY_S
            for run in e.runs[n]:
                if run.delivery > settled.delivery and run.started_at < due_at:
                    yield Violation("I8", f"attempt {run.attempt} of job {n} began early")


def i9_one_lease(e: Evidence) -> Iterator[Violation]:
    """A delivery has one holder, so it starts once; where nobody stood still, so does the job."""
    if not e.terms.rollback:
        starts = Counter((run.job_id, run.delivery) for run in e.history.runs)
        for (job_id, delivery), count in starts.items():
            if count > 1:
                yield Violation("I9", f"delivery {delivery} of {job_id} started {count} times")
    if e.terms.uncharged and (count := e.final.state.counters.get("reclaimed", 0)):
        yield Violation("I9", f"{count} leases ended, and nobody had died")
    if e.terms.runs_once:
        for n, runs in e.runs.items():
            if _doubled(runs):
                text = f"job {n} ran {len(runs)} times, and nobody had died or stood still"
                yield Violation("I9", text)


def _doubled(runs: list[Run]) -> bool:
    """Whether a job ran more often than its failures explain."""
    return sum(1 for run in runs if run.how != "error") > 1


def i10_stranded(e: Evidence) -> Iterator[Violation]:
    """Nothing without a live lease stands in processing for longer than the bound."""
    for sample in e.history.samples:
        for what, stood_s in (("expired lease", sample.expired_s), ("bare item", sample.bare_s)):
            if stood_s > e.terms.stranded_s:
                text = f"at {sample.at:.3f} an {what} had been there for {stood_s:.1f} s"
                yield Violation("I10", f"{text}; the bound is {e.terms.stranded_s:.1f} s")
                return


def recoveries(e: Evidence) -> Iterator[tuple[str, float]]:
    """How long the jobs of dead consumers waited until they ran again; and Redis' clients.

    A job that lost several consumers before it ran waits from the last loss: the bound is for one.
    """
    starts: dict[str, list[float]] = defaultdict(list)
    for run in e.history.runs:
        starts[run.job_id].append(run.started_at)
    losses: dict[str, list[float]] = defaultdict(list)
    for pid, job_ids in _orphans(e).items():
        for job_id in job_ids:
            losses[job_id].append(e.history.deaths[pid])
    for job_id, lost_at in losses.items():
        last_loss: dict[float, float] = {}  # start -> the loss before it
        for at in sorted(lost_at):
            after = [start for start in starts[job_id] if start > at]
            if after:
                last_loss[min(after)] = at
        for start, at in last_loss.items():
            yield job_id, start - at
    begun = sorted(run.started_at for run in e.history.runs)
    for healed_at in e.history.heals:
        if (first := next((at for at in begun if at > healed_at), None)) is not None:
            yield "", first - healed_at


def _orphans(e: Evidence) -> dict[int, set[str]]:
    """What each process held when it died: got by it, and not settled."""
    orphans: dict[int, set[str]] = defaultdict(set)
    for held in e.history.held:
        if held.pid in e.history.deaths:
            orphans[held.pid].add(held.job_id)
    for settled in e.history.settled:
        if settled.effective and settled.pid in orphans:
            orphans[settled.pid].discard(settled.job_id)
    return orphans


def i10_recovery(e: Evidence) -> Iterator[Violation]:
    """What dead consumers held runs again within the bound, 99 of 100 times at least."""
    waits = sorted((wait_s, job_id) for job_id, wait_s in recoveries(e))
    if e.terms.recovery_s is None or not waits:
        return
    wait_s, job_id = waits[int(len(waits) * 0.99)]
    if wait_s > e.terms.recovery_s:
        text = f"{job_id or 'the first job after the fault'} waited {wait_s:.1f} s, and that is p99"
        yield Violation("I10", f"{text}; the bound is {e.terms.recovery_s:.1f} s")


def i10_duties(e: Evidence) -> Iterator[Violation]:
    """A leader promotes and finds lost consumers in time, whatever holds its event loop.

    A duty takes about ten steps, each of which a busy machine may delay.
    """
    slack_s = _STEPS * e.delay_s
    if e.terms.overdue_s is not None:
        bound_s = e.terms.overdue_s + slack_s
        late_s = max((sample.overdue_s for sample in e.history.samples), default=0.0)
        if late_s > bound_s:
            text = f"a delayed job had been due for {late_s:.1f} s; the bound is {bound_s:.1f} s"
            yield Violation("I10", text)
    if e.terms.found_s is None or not e.history.samples:
        return
    bound_s, ended_at = e.terms.found_s + slack_s, e.history.samples[-1].at
    # While all queues are at rest, it looks less often.
    holding = {e.history.deaths[pid] for pid, job_ids in _orphans(e).items() if job_ids}
    for name in sorted(e.history.attended & e.history.died_at.keys()):
        if e.history.died_at[name] not in holding:
            continue
        took_s = e.history.found_at.get(name, ended_at) - e.history.died_at[name]
        if took_s > bound_s:
            text = f"consumer {name} was not found for {took_s:.1f} s after its death"
            yield Violation("I10", f"{text}; the bound is {bound_s:.1f} s")


def i11_drained(e: Evidence) -> Iterator[Violation]:
    """When the faults are over, all that waits is worked off."""
    for place, jobs in e.final.state.places.items():
        if place != "dead" and jobs:
            text = f"{len(jobs)} jobs are left in {place}, among them {jobs[0][:100]!r}"
            yield Violation("I11", text)


def i11_awake(e: Evidence) -> Iterator[Violation]:
    """Nobody dies by itself; who is there at the end takes a share of work that needs all of them."""
    for name in e.history.collapses:
        yield Violation("I11", f"{name} died by itself")
    after = {r.consumer for r in e.history.runs if r.started_at > e.final.probed_at}
    for name in e.terms.consumers:
        if name not in after:
            yield Violation("I11", f"consumer {name} slept beside work")


_FOR_EVER = {
    *("queue", "queue:processing", "queue:dlq", "queue:delayed", "queue:priority"),
    *("queue:leases", "queue:claims", "queue:stats", "queue:meta", "headrace:queues"),
    "queue:timings",  # of so many tasks, and no more
    *("queue:limited", "queue:lanes", "queue:slots", "queue:admitted", "queue:limits"),
    *("queue:buckets", "headrace:limited"),  # buckets of keys that are full are forgotten
    *("headrace:forgotten", "headrace:partitions", "headrace:webhooks"),
    *("headrace:schedules", "headrace:schedule-due", "headrace:schedule-state"),
    *("ticks", "ticks:stats", "ticks:timings"),  # what schedules enqueue
    "headrace:consumers",  # whoever leads buries those that are gone
}
_PARTITION = re.compile(r"^queue@\d+")


def i12_keys(e: Evidence) -> Iterator[Violation]:
    """No key grows without bound: each is one of a few, or expires."""
    for key, ttl_ms in e.final.keys.items():
        if ttl_ms == -1 and _PARTITION.sub("queue", key) not in _FOR_EVER:
            yield Violation("I12", f"{key} never expires")
    if e.final.state.nudges > MAX_NUDGES:
        yield Violation("I12", f"{e.final.state.nudges} nudges")


def streams(e: Evidence) -> Iterator[Violation]:
    """What a job has yielded stands there once, in order, all of it of a run that returned."""
    for n, enqueue in e.enqueues.items():
        if enqueue.task == "yields" and e.finished(n):
            ended = {run.delivery for run in e.runs[n] if run.how == "ok"}
            entries = e.final.streams.get(enqueue.job_id, [])
            for text in yielded.faults(n, entries, ended):
                yield Violation("streams", text)


def limits(e: Evidence) -> Iterator[Violation]:
    """No more run at once than their limit allows, and at the end nobody has a slot.

    A run whose process was killed ends with it.
    """
    if e.terms.capped is None:
        return
    steps: list[tuple[float, int]] = []
    for n, enqueue in e.enqueues.items():
        for run in e.runs[n] if enqueue.task == "capped" else ():
            died_at = e.history.deaths.get(run.pid, math.inf)
            steps += [(run.started_at, 1), (run.ended_at or died_at, -1)]
    running = most = 0
    for _, step in sorted(steps):
        running += step
        most = max(most, running)
    if most > e.terms.capped:
        yield Violation("limit", f"{most} ran at once, and the limit is {e.terms.capped}")
    for key in ("queue:slots", "queue:admitted"):
        if key in e.final.keys:
            yield Violation("limit", f"nothing runs, and {key} counts something")


def shown(e: Evidence) -> Iterator[Violation]:
    """The class did what it is for: else its good verdict would mean nothing."""
    hit = {(fault.fault, fault.transition) for fault in e.history.faults}
    for fault, transition in e.terms.must_hit:
        if (fault, transition) not in hit:
            yield Violation("vacuous", f"nothing was ever hit by: {fault} {transition}")
