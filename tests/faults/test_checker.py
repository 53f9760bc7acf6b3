"""The checker rejects bad histories, each for the right reason, and accepts good ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.faults import history as records
from tests.faults import lab_app, yielded
from tests.faults.checker import check
from tests.faults.evidence import Final, Terms, Verdict
from tests.faults.history import (
    BURY,
    BUSY,
    Enqueue,
    Fault,
    Held,
    History,
    Journal,
    Run,
    Sample,
    Settled,
    canary,
    number_of,
)
from tests.support.invariants import State

PID, OTHER, THIRD = 101, 102, 103


def job(number: int, *, head: str = "", **fields: Any) -> bytes:
    body = json.dumps({"task": "quick", "args": [number, canary(number)], **fields})
    return (
        f'{{"id":"job-{number}"{head},{body[1:]}'.replace('": ', '":').replace(", ", ",").encode()
    )


def letter(number: int, reason: str = "max_attempts", **fields: Any) -> bytes:
    return job(number, **fields, error={"reason": reason, "failed_at": 1})


@dataclass
class Story:
    """A history and a final state under construction; whatever is not told is in order."""

    history: History = field(default_factory=History)
    places: dict[str, list[bytes]] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)
    claims: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    leases: dict[str, float] | None = None
    keys: dict[str, int] = field(default_factory=lambda: {"queue:stats": -1, "queue:nudge": 500})
    nudges: int = 0
    streams: dict[str, list[yielded.Entry]] = field(default_factory=dict)

    def count(self, name: str, by: int = 1) -> None:
        self.counters[name] = self.counters.get(name, 0) + by

    def enqueued(self, number: int, task: str = "quick", **more: object) -> None:
        one = Enqueue(number, f"job-{number}", task, sent_at=1.0)._replace(**more)  # type: ignore[arg-type]
        self.history.enqueues.append(one)
        if one.outcome == "acked":
            self.count("enqueued")

    def ran(self, number: int, delivery: int = 0, how: str | None = "ok", **more: object) -> None:
        at = 2.0 + 10 * delivery
        run = Run(number, f"job-{number}", delivery, 1, "c1", PID, at, at + 1, how)
        self.history.runs.append(run._replace(**more))  # type: ignore[arg-type]

    def settled(
        self,
        number: int,
        verb: str = "done",
        delivery: int = 0,
        effective: bool | None = True,
        **more: object,
    ) -> None:
        at = 3.0 + 10 * delivery
        one = Settled(f"job-{number}", delivery, PID, verb, 0.0, at, at + 0.1, effective)
        self.history.settled.append(one._replace(**more))  # type: ignore[arg-type]
        if one.effective and not more.get("repeat"):
            self.count(verb)

    def done(self, number: int, task: str = "quick") -> None:
        """A job's whole life."""
        self.enqueued(number, task)
        self.ran(number)
        self.settled(number)

    def sampled(self, residual: int = 0, **more: object) -> None:
        sample = Sample(5.0, {"pending": 2 + residual}, {"enqueued": 5, "done": 3})
        self.history.samples.append(sample._replace(**more))  # type: ignore[arg-type]

    def verdict(self, **terms: object) -> Verdict:
        of = self.places.get
        leases = dict.fromkeys(self.claims, 1.0) if self.leases is None else self.leases
        state = State(
            pending=of("pending", []),
            processing=of("processing", []),
            dead=of("dead", []),
            priority=[],
            delayed=[(one, 1.0) for one in of("delayed", [])],
            leases=leases,
            claims=self.claims,
            counters=self.counters,
            nudges=self.nudges,
        )
        final = Final(state, self.keys, probed_at=4.0, streams=self.streams)
        return check(self.history, final, Terms(**terms))  # type: ignore[arg-type]


# — good ones —


def test_a_job_that_ran_once_is_accepted() -> None:
    story = Story()
    story.done(1)
    story.sampled()
    verdict = story.verdict(runs_once=True)
    assert not verdict.violations
    assert (verdict.jobs, verdict.lost, verdict.doubled, verdict.stuck) == (1, 0, 0, 0)


def test_a_job_of_a_dead_consumer_that_ran_again_is_accepted_and_timed() -> None:
    story = Story()
    story.enqueued(1)
    story.history.held.append(Held("job-1", 0, PID, 1.9))
    story.ran(1, how=None, ended_at=None)
    story.history.deaths[PID] = 2.5
    story.ran(1, delivery=1, pid=OTHER)
    story.settled(1, delivery=1, pid=OTHER)
    verdict = story.verdict(recovery_s=10.0)
    assert not verdict.violations
    assert verdict.doubled == 1
    assert verdict.recoveries_s == [9.5]


def test_a_job_that_lost_two_consumers_before_it_ran_is_timed_from_the_second_loss() -> None:
    story = Story()
    story.enqueued(1)
    story.history.held += [Held("job-1", 0, PID, 1.9), Held("job-1", 1, OTHER, 7.5)]
    story.history.deaths.update({PID: 2.5, OTHER: 8.0})
    story.ran(1, delivery=2, pid=THIRD, started_at=12.0)
    story.settled(1, delivery=2, pid=THIRD)
    verdict = story.verdict(recovery_s=5.0)
    assert not verdict.violations
    assert verdict.recoveries_s == [4.0]


def test_a_late_settle_that_was_answered_lost_is_accepted() -> None:
    story = Story()
    story.enqueued(1)
    story.ran(1)
    story.ran(1, delivery=1, pid=OTHER)
    story.settled(1, effective=False, sent_at=12.5)
    story.settled(1, delivery=1, pid=OTHER)
    assert not story.verdict().violations


def test_a_failed_attempt_a_letter_and_a_retry_are_accepted() -> None:
    story = Story()
    story.enqueued(1, "flaky")
    story.ran(1, how="error")
    story.settled(1, "retry", delay_s=5.0)
    story.ran(1, delivery=1)
    story.settled(1, delivery=1)
    story.enqueued(2, "failing")
    story.ran(2, how="error")
    story.settled(2, "dead")
    story.places["dead"] = [letter(2)]
    verdict = story.verdict()
    assert not verdict.violations
    assert verdict.doubled == 0, "a failed attempt explains the second run"


@pytest.mark.parametrize("happened", [False, True])
def test_an_unsure_enqueue_may_have_happened_or_not(happened: bool) -> None:
    story = Story()
    story.enqueued(1, outcome="unsure")
    if happened:
        story.count("enqueued")
        story.ran(1)
        story.settled(1)
    assert not story.verdict().violations


def test_a_cancelled_job_is_not_lost() -> None:
    story = Story()
    story.enqueued(1)
    story.count("cancel")
    story.history.removals.add("job-1")
    assert not story.verdict().violations


def test_what_redis_forgot_is_excused_within_its_window_alone() -> None:
    story = Story()
    story.enqueued(1, sent_at=99.0)
    story.counters.clear()
    story.history.rollbacks.append(100.0)
    assert not story.verdict(loss_window_s=2.0, rollback=True).violations
    assert story.verdict(loss_window_s=2.0, rollback=True).lost == 1
    assert rejected_for(story.verdict(loss_window_s=0.5, rollback=True)) == {"I1"}


def test_a_job_that_was_acknowledged_long_after_it_was_sent_is_excused_as_acknowledged_then() -> (
    None
):
    story = Story()
    story.enqueued(1, sent_at=90.0, acked_at=99.5)  # the primary stood still meanwhile
    story.counters.clear()
    story.history.rollbacks.append(100.0)
    assert not story.verdict(loss_window_s=2.0, rollback=True).violations
    assert rejected_for(story.verdict(loss_window_s=0.2, rollback=True)) == {"I1"}


# — bad ones, at least one for each invariant —


def rejected_for(verdict: Verdict) -> set[str]:
    return {violation.invariant for violation in verdict.violations}


BAD: dict[str, tuple[str, Callable[[Story], None], dict[str, object]]] = {}


def bad(invariant: str, **terms: object) -> Callable[[Callable[[Story], None]], None]:
    def register(tell: Callable[[Story], None]) -> None:
        BAD[tell.__name__] = invariant, tell, terms

    return register


@bad("I1")
def an_acknowledged_job_is_nowhere(story: Story) -> None:
    story.enqueued(2)
    story.count("cancel")  # so that the sum is right; but nobody asked for it


@bad("I1")
def an_acknowledged_job_began_and_never_ended(story: Story) -> None:
    story.enqueued(2, outcome="acked")
    story.ran(2, how="error")
    story.settled(2, "cancel")


@bad("I1")
def a_job_runs_that_nobody_enqueued(story: Story) -> None:
    story.ran(2)


@bad("I1")
def a_refused_job_runs(story: Story) -> None:
    story.enqueued(2, outcome="refused")
    story.ran(2, how="stopped")


@bad("I1")
def a_job_runs_under_another_id(story: Story) -> None:
    story.enqueued(2)
    story.ran(2, job_id="job-2.1")
    story.count("done")


@bad("I2")
def a_job_stands_in_two_places(story: Story) -> None:
    story.enqueued(2, "failing")
    story.enqueued(3, outcome="unsure")
    story.count("enqueued")  # of 3, it seems
    story.places = {"dead": [letter(2), letter(2)]}
    story.count("dead", 2)


@bad("I2")
def a_lease_has_no_item(story: Story) -> None:
    story.claims["job-1"] = "c1:1", job(1)


@bad("I2")
def a_claim_has_no_lease(story: Story) -> None:
    story.leases = {"job-9": 1.0}


@bad("I2")
def a_sample_saw_a_job_twice(story: Story) -> None:
    story.sampled(doubled=["1"])


@bad("I3")
def the_sum_was_off_for_a_moment(story: Story) -> None:
    story.sampled(residual=-1)


@bad("I3")
def the_sum_is_off_at_the_end(story: Story) -> None:
    story.count("done")
    story.count("enqueued", 2)


@bad("I3")
def more_jobs_are_counted_done_than_returned(story: Story) -> None:
    story.enqueued(2)
    story.ran(2, how="stopped")
    story.history.removals.add("job-2")
    story.count("done")


@bad("I4")
def a_stale_settle_ends_the_next_delivery(story: Story) -> None:
    story.enqueued(2)
    story.ran(2)
    story.ran(2, delivery=1, pid=OTHER)
    story.settled(2, sent_at=12.5)
    story.settled(2, delivery=1, effective=False, pid=OTHER)


@bad("I5")
def a_settle_sent_again_takes_effect_again(story: Story) -> None:
    story.settled(1, repeat=True, delivery=5)


@bad("I5")
def a_delivery_ends_twice(story: Story) -> None:
    story.settled(1, "retry", sent_at=3.5)
    story.counters["retry"] = 0


@bad("I6")
def a_job_takes_six_processes_along(story: Story) -> None:
    story.enqueued(2, "poison")
    for delivery in range(6):
        story.ran(2, delivery=delivery, how=None, ended_at=None)
    story.count("dead")
    story.places["dead"] = [letter(2, "crashed")]


@bad("I7")
def a_letter_has_no_reason(story: Story) -> None:
    story.enqueued(2, "failing")
    story.count("dead")
    story.places["dead"] = [letter(2, "")]


@bad("I7")
def a_letter_has_lost_the_last_digits_of_a_number(story: Story) -> None:
    story.enqueued(2, "failing")
    story.count("dead")
    story.places["dead"] = [letter(2).replace(b"%d" % canary(2), b"%d" % float(canary(2)))]


@bad("I7")
def a_job_failed_for_good_without_a_letter(story: Story) -> None:
    story.enqueued(2, "failing")
    story.ran(2)  # so that it is not lost: a failing task that returned once
    story.settled(2, "dead")
    story.counters["dead"] = 0
    story.count("done")


@bad("I7")
def a_letter_was_trimmed_away(story: Story) -> None:
    story.count("dead")


@bad("I7")
def an_innocent_is_dead_lettered_beside_a_poison_job(story: Story) -> None:
    story.enqueued(2, "nap")
    story.count("dead")
    story.places["dead"] = [letter(2, "crashed")]


@bad("I8")
def a_delayed_job_is_early(story: Story) -> None:
    story.enqueued(2, delay_s=5.0)
    story.ran(2)
    story.settled(2)


@bad("I8")
def a_second_attempt_is_early(story: Story) -> None:
    story.enqueued(2, "flaky")
    story.ran(2, how="error")
    story.settled(2, "retry", delay_s=15.0)
    story.ran(2, delivery=1)
    story.settled(2, delivery=1)


@bad("I9")
def one_delivery_starts_twice(story: Story) -> None:
    story.ran(1, pid=OTHER)


@bad("I9", runs_once=True)
def a_job_runs_twice_although_nobody_died(story: Story) -> None:
    story.enqueued(2)
    story.ran(2)
    story.settled(2, effective=False)
    story.ran(2, delivery=1)
    story.settled(2, delivery=1)


@bad("I9", uncharged=True)
def a_lease_is_ended_although_nobody_died(story: Story) -> None:
    story.count("reclaimed")


@bad("I10")
def an_expired_lease_stands_for_too_long(story: Story) -> None:
    story.sampled(expired_s=20.5)


@bad("I10")
def a_bare_item_stands_for_too_long(story: Story) -> None:
    story.sampled(bare_s=20.5)


@bad("I10", recovery_s=5.0)
def a_job_of_a_dead_consumer_waits_for_too_long(story: Story) -> None:
    story.enqueued(2)
    story.history.held.append(Held("job-2", 0, PID, 1.9))
    story.history.deaths[PID] = 2.0
    story.ran(2, delivery=1)
    story.settled(2, delivery=1, pid=OTHER)


@bad("I11")
def the_backlog_is_not_drained(story: Story) -> None:
    story.enqueued(2)
    story.places["pending"] = [job(2)]


@bad("I11", consumers=("c1", "c2"))
def a_consumer_sleeps_beside_work(story: Story) -> None:
    story.enqueued(2)
    story.ran(2, started_at=5.0)
    story.settled(2)


@bad("I11")
def a_process_dies_by_itself(story: Story) -> None:
    story.history.collapses.append("c1 (exit code 1)")


@bad("I12")
def a_key_never_expires(story: Story) -> None:
    story.keys["queue:unique:7"] = -1


@bad("I12")
def nudges_pile_up(story: Story) -> None:
    story.nudges = 1_001


@bad("vacuous", must_hit=(("refused OOM", "push"),))
def the_fault_never_happened(story: Story) -> None:
    story.history.faults.append(Fault("refused OOM", "claim", 1.0))


@pytest.mark.parametrize("name", BAD)
def test_a_bad_history_is_rejected_for_the_right_reason(name: str) -> None:
    invariant, tell, terms = BAD[name]
    story = Story()
    story.done(1)
    story.sampled()
    assert not story.verdict().violations, "it is good so far"
    tell(story)
    verdict = story.verdict(**terms)
    assert rejected_for(verdict) == {invariant}, [str(one) for one in verdict.violations]


def test_every_invariant_has_a_bad_history() -> None:
    assert {invariant for invariant, *_ in BAD.values()} >= {f"I{n}" for n in range(1, 13)}


# — the record —


def test_what_processes_wrote_is_read_back(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "p")
    journal.write("enqueue", [(7, "job-7", "nap", 0.5)])
    journal.write("acked", [7])
    journal.write("start", 7, "job-7", 2, 1, "c1")
    journal.write("settled", 2_000_000_000, [("job-7", 2, "done", 0.0, None)], False)
    journal.write("fault", "lost", "settle")
    journal.write("death", 99, "c1", -9)
    journal.write("death", 98, "c2", 1)
    history = records.read(tmp_path)
    (enqueue,) = history.enqueues
    assert 0 < enqueue.sent_at < enqueue.acked_at
    read = enqueue._replace(sent_at=0.0, acked_at=0.0)
    assert read == Enqueue(7, "job-7", "nap", 0.0, 0.5)
    assert (history.runs[0].number, history.runs[0].how) == (7, None)
    assert history.settled[0].effective is None
    assert [(f.fault, f.transition) for f in history.faults] == [("lost", "settle")]
    assert list(history.deaths) == [99, 98]
    assert history.collapses == ["c2 (exit code 1)"]


def test_a_run_that_gets_another_id_ends_under_the_one_that_it_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(lab_app.HISTORY, str(tmp_path))
    monkeypatch.setattr(lab_app, "_journals", {})
    ctx: Any = SimpleNamespace(job_id="job-7", delivery=0, attempt=1)
    with lab_app.noted(7, ctx):
        ctx.job_id = "another"
    (run,) = records.read(tmp_path).runs
    assert (run.job_id, run.how) == ("job-7", "ok")


def test_a_torn_last_record_is_passed_over(tmp_path: Path) -> None:
    Journal(tmp_path, "p").write("fault", "cut", "claim")
    with next(tmp_path.iterdir()).open("ab") as file:
        file.write(b'["fault",123,1,"hal')
    assert records.read(tmp_path).faults[0][:2] == Fault("cut", "claim", 0.0)[:2]


@pytest.mark.parametrize("head", ["", ',"priority":5,"delivery":12'])
def test_a_number_is_found_wherever_its_job_stands(head: str) -> None:
    assert number_of(job(41, head=head)) == 41
    assert number_of(letter(41)) == 41
    assert number_of(b"no job") is None


# — the duties of whoever leads —


def test_what_is_due_and_not_promoted_in_time_is_rejected() -> None:
    story = Story()
    story.done(1)
    story.sampled(overdue_s=1.7)
    assert story.verdict(overdue_s=2.0).violations == []
    [violation] = story.verdict(overdue_s=1.5).violations
    assert "due for 1.7 s" in str(violation)


def test_a_lost_consumer_that_is_found_late_or_never_is_rejected() -> None:
    story = Story()
    story.done(1)
    story.sampled()
    story.history.samples[-1] = story.history.samples[-1]._replace(at=20.0)
    story.history.held += [Held("job-2", 0, PID, 9.0), Held("job-3", 0, OTHER, 9.0)]
    story.history.deaths = {PID: 10.0, OTHER: 10.0}
    story.history.died_at = {"c1": 10.0, "never seen": 10.0, "held nothing": 9.0}
    story.history.attended.add("held nothing")
    story.history.attended.add("c1")
    [violation] = story.verdict(found_s=2.0).violations
    assert "consumer c1 was not found for 10.0 s" in str(violation)
    story.history.found_at["c1"] = 12.5
    [violation] = story.verdict(found_s=2.0).violations
    assert "2.5 s after its death" in str(violation)
    story.history.found_at["c1"] = 11.5
    assert story.verdict(found_s=2.0).violations == []


def test_a_machine_that_delays_the_sampler_is_given_as_much_time_for_each_step() -> None:
    story = Story()
    story.done(1)
    for at in (1.0, 1.2, 1.7):  # 0.3 s later than it should be
        story.sampled(at=at, overdue_s=4.0)
    assert story.verdict(overdue_s=1.5).violations == []
    assert story.verdict(overdue_s=0.9).violations


def test_a_duty_counts_where_the_loop_of_its_process_is_held(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "leader")
    journal.write("duty", "promote", "")
    journal.write("busy", True)
    journal.write("duty", "promote", "")
    journal.write("duty", BURY, "c7")
    journal.write("busy", False)
    journal.write("duty", "sweep", "")
    history = records.read(tmp_path)
    hit = [(fault.fault, fault.transition) for fault in history.faults]
    assert hit == [(BUSY, "promote"), (BUSY, BURY)]
    assert history.found_at.keys() == {"c7"}


def whole(number: int, run: int = 0) -> list[yielded.Entry]:
    """Give the stream of a job as it should be."""
    told = [*(("i", item) for item in yielded.items(number)), ("e", "")]
    return [(f"{run}-{at}", field, value) for at, (field, value) in enumerate(told, 1)]


def test_a_stream_of_the_run_that_returned_is_accepted() -> None:
    story = Story()
    story.done(1, "yields")
    story.streams["job-1"] = whole(1)
    assert not story.verdict().violations


@pytest.mark.parametrize(
    "entries",
    [
        [],
        whole(1)[:-1],
        whole(1)[1:],
        whole(2),
        whole(1, run=1),
        [*whole(1)[:3], *whole(1, run=1)[3:]],
        [*whole(1)[:3], *whole(1)[2:]],
        [*whole(1)[:2], whole(1)[3], whole(1)[2], *whole(1)[4:]],
    ],
    ids=["none", "no end", "no start", "another's", "another run", "mixed", "twice", "order"],
)
def test_a_stream_that_is_not_whole_is_rejected(entries: list[yielded.Entry]) -> None:
    story = Story()
    story.done(1, "yields")
    story.streams["job-1"] = entries
    assert rejected_for(story.verdict()) == {"streams"}
