"""The end of the demo: what happened, for a person and for a program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from headrace.demo.audit import Audit, Evidence
from headrace.demo.census import TASK
from headrace.demo.inventory import Totals
from headrace.demo.picture import places
from headrace.demo.processes import Child
from headrace.demo.watch import Moment, Strike
from headrace.policy import LeasePolicy

_SHOWN: Final = 10  # letters and problems that are listed; the rest is counted


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
    audit, strike, snapshot = story.audit, story.strike, story.evidence.snapshot
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
        "kill": strike
        and {
            "consumer": strike.victim.name,
            "ended_before": strike.ended_before,
            "held": sorted(strike.held),
            "back_seconds": strike.back_s and round(strike.back_s, 3),
            "done_seconds": strike.over_s and round(strike.over_s, 3),
            "lease_seconds": story.lease_s,
        },
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


def drawn(story: Story) -> RenderableType:
    """Tell it to a person."""
    parts = [places(story.moment), _counted(story), _crew(story), _recovery(story)]
    parts += [_letters(story), _verdict(story)]
    spaced: list[RenderableType] = []
    for part in parts:
        spaced += [Text(), part]
    return Padding(Group(*spaced), (0, 0, 0, 2))


def _table(*titles: str, right: Sequence[str] = ()) -> Table:
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="dim")
    for title in titles:
        table.add_column(title, justify="right" if title in right else "left", overflow="fold")
    return table


def _counted(story: Story) -> RenderableType:
    time = f"time, {story.cpus} CPUs"
    right = ("files", "lines", "tokens", time)
    table = _table("counted", *right[:3], "SHA-256 of all", time, right=right)
    rows = (
        (f"by {len(story.consumers)} consumers", story.totals[0], story.queue_s),
        ("in a plain loop", story.totals[1], story.loop_s),
    )
    for name, totals, took_s in rows:
        numbers = (f"{n:,}" for n in (totals.files, totals.lines, totals.tokens))
        table.add_row(name, *numbers, f"{totals.sha256[:12]}…", f"{took_s:.1f} s")
    return table


def _crew(story: Story) -> RenderableType:
    table = _table("consumer", "done", "", right=("done",))
    for child in story.consumers:
        fate = Text()
        if story.strike is not None and child.killed:
            fate = Text(
                f"kill -9 after {story.strike.ended_before:,} jobs, with "
                f"{len(story.strike.held)} in its hands",
                "red",
            )
        table.add_row(child.name, f"{story.audit.by_pid[child.pid]:,}", fate)
    return table


def _recovery(story: Story) -> RenderableType:
    table = Table.grid(padding=(0, 2, 0, 0))
    strike, again = story.strike, story.audit.again
    if strike is not None:
        table.add_row(
            Text("recovery", "dim"),
            f"its {len(strike.held)} jobs waited again after {_seconds(strike.back_s)}, "
            f"had ended after {_seconds(strike.over_s)}",
        )
        table.add_row(
            "",
            f"(a lease lasts {story.lease_s:g} s here, so that you need not wait; "
            f"by default {LeasePolicy().lease_s:g} s)",
        )
    table.add_row(Text("delivered twice", "dim"), _delivered_twice(story, again))
    return table


def _delivered_twice(story: Story, again: set[str]) -> str:
    held = story.strike.held if story.strike is not None else frozenset()
    others = len(again - held)
    parts = [f"the {len(again & held)} in its hands"] if again & held else []
    # A consumer hands back what it has claimed ahead when a slow job holds it up.
    released = story.evidence.snapshot.counters.get("release", 0)
    why = "handed back before they began" if others <= released else "for another reason"
    parts += [f"{others} {why}"] if others else []
    return f"{len(again)} jobs{': ' if parts else ''}{', and '.join(parts)}"


def _seconds(value: float | None) -> str:
    return "?" if value is None else f"{value:.1f} s"


def _letters(story: Story) -> RenderableType:
    table = _table("dead letter", "attempts", "error", right=("attempts",))
    for letter in story.audit.dead[:_SHOWN]:
        call = f"{TASK}({Path(letter.path).name!r})"
        table.add_row(Text(call), str(letter.attempts), letter.error.type or letter.error.reason)
    more = len(story.audit.dead) - _SHOWN
    if more > 0:
        table.add_row(f"and {more:,} more", "", "")
    return table


def _verdict(story: Story) -> RenderableType:
    audit = story.audit
    if not audit.problems:
        done, dead = len(audit.done), len(audit.dead)
        return Text.assemble(
            ("Every job is accounted for: ", "bold green"),
            f"{done + dead:,} accepted = {done:,} done + {dead:,} dead.",
        )
    lines = [Text(f"Not every job is accounted for. Problems: {len(audit.problems):,}", "bold red")]
    lines += [Text(f"- {problem}") for problem in audit.problems[:_SHOWN]]
    return Group(*lines)
