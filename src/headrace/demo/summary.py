"""The end of the demo, for a person."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from headrace.demo.census import TASK
from headrace.demo.picture import places
from headrace.demo.story import Story
from headrace.doctor.words import counted
from headrace.policy import LeasePolicy

_LETTERS: Final = 10  # that are listed; the rest is counted
_PROBLEMS: Final = 5
_LONGEST: Final = 300  # characters of a problem


def drawn(story: Story) -> RenderableType:
    """Tell it to a person."""
    crew = Group(_crew(story), _recovery(story))
    spaced: list[RenderableType] = []
    for part in (places(story.moment), _counted(story), crew, _letters(story), _verdict(story)):
        spaced += [Text(), part]
    return Padding(Group(*spaced), (0, 0, 0, 2))


def _table(*titles: str, right: Sequence[str] = ()) -> Table:
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="dim")
    for title in titles:
        table.add_column(title, justify="right" if title in right else "left", overflow="fold")
    return table


def _counted(story: Story) -> RenderableType:
    time = f"time ({story.cpus} CPUs)"
    right = ("files", "lines", "tokens", time)
    table = _table("counted by", *right[:3], "SHA-256 of all", time, right=right)
    rows = (
        (counted(len(story.consumers), "consumer"), story.totals[0], story.queue_s),
        ("a plain loop", story.totals[1], story.loop_s),
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
    strike = story.strike
    if strike is not None:
        table.add_row(
            Text("recovery", "dim"),
            f"its {counted(len(strike.held), 'job')} queued again in {_seconds(strike.back_s)}, "
            f"ended by others in {_seconds(strike.over_s)}",
        )
        table.add_row(
            "",
            f"(leases last {story.lease_s:g} s here, to be quick; by default "
            f"{LeasePolicy().lease_s:g} s)",
        )
    table.add_row(Text("delivered twice", "dim"), _delivered_twice(story))
    return table


def _delivered_twice(story: Story) -> str:
    held = story.strike.held if story.strike is not None else frozenset()
    again = story.audit.again
    mine, others = len(again & held), len(again - held)
    # A consumer hands back what it has claimed ahead when a slow job holds it up.
    released = story.evidence.snapshot.counters.get("release", 0)
    why = "handed back before they began" if others <= released else "for another reason"
    parts = [f"the {mine} in its hands"] if held else []
    parts += [f"{others} {why}"] if others else []
    return ": ".join([counted(len(again), "job"), *([", ".join(parts)] if parts else [])])


def _seconds(value: float | None) -> str:
    return "?" if value is None else f"{value:.1f} s"


def _letters(story: Story) -> RenderableType:
    table = _table("dead letter", "attempts", "error", right=("attempts",))
    for letter in story.audit.dead[:_LETTERS]:
        call = f"{TASK}({Path(letter.path).name!r})"
        table.add_row(Text(call), str(letter.attempts), letter.error.type or letter.error.reason)
    more = len(story.audit.dead) - _LETTERS
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
    lines = [Text(f"Not every job is accounted for: {len(audit.problems):,} problems.", "bold red")]
    for problem in audit.problems[:_PROBLEMS]:
        cut = problem if len(problem) <= _LONGEST else f"{problem[:_LONGEST]}…"
        lines.append(Text(f"- {cut}"))
    if len(audit.problems) > _PROBLEMS:
        lines.append(Text("- …"))
    return Group(*lines)
