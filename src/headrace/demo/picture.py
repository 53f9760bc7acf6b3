"""What the demo shows while it runs: on a terminal a table that lives, elsewhere a line a second."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Final, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from headrace.clock import monotonic
from headrace.demo.processes import Child
from headrace.demo.watch import Moment

LINE_EVERY_S: Final = 1.0
FRAME_EVERY_S: Final = 0.1
_PAPER: Final = 100  # columns of what is not shown on a terminal
_PLACES: Final = {
    "pending": "",
    "processing": "cyan",
    "delayed": "yellow",
    "dead": "red",
    "done": "green",
    "accepted": "bold",
}


class Picture:
    """The screen.

    Args:
        aside: show what happens on the standard error, in plain lines: the standard output is for
            a program that reads the summary.
    """

    def __init__(self, *, aside: bool = False) -> None:
        self.console = Console(stderr=aside, highlight=False)
        self._began = monotonic()
        self._live: Live | None = None
        self._due = 0.0
        if self.console.is_interactive and not aside:
            self._live = Live(console=self.console, auto_refresh=False, transient=True)

    def say(self, what: str) -> None:
        """Show what has happened just now."""
        line = Text(f"{monotonic() - self._began:6.1f} s  {what}")
        line.stylize("dim", 0, 8)
        self.console.print(line, soft_wrap=not self.console.is_interactive)

    def show(self, moment: Moment, consumers: Sequence[Child]) -> None:
        """Show where every job is."""
        if not self._is_due():
            return
        if self._live is None:
            self.say(_in_words(moment))
            return
        parts = (places(moment), _bar(moment), crew(moment, consumers))
        self._live.update(Padding(Group(*parts), (1, 2)), refresh=True)

    def count(self, done: int, total: int) -> None:
        """Show how far the plain loop is."""
        if not self._is_due():
            return
        if self._live is None:
            if done < total:
                self.say(f"plain loop: {done:,} of {total:,} files")
            return
        row = Table.grid(padding=(0, 2))
        bar = ProgressBar(total=total, completed=done, width=40)
        row.add_row(bar, f"plain loop: {done:,} of {total:,}")
        self._live.update(Padding(row, (1, 2)), refresh=True)

    def finish(self, what: RenderableType) -> None:
        """Show the end."""
        if self.console.is_terminal:
            self.console.print(what)
            return
        paper = Console(file=io.StringIO(), width=_PAPER)
        with paper.capture() as capture:
            paper.print(what)
        for line in capture.get().splitlines():  # without the blanks that fill them
            self.console.print(line.rstrip(), markup=False, soft_wrap=True)

    def _is_due(self) -> bool:
        now = monotonic()
        if now < self._due:
            return False
        self._due = now + (LINE_EVERY_S if self._live is None else FRAME_EVERY_S)
        return True

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()


def counts(moment: Moment) -> dict[str, int]:
    """Return how many jobs are in each place, and in all."""
    snapshot = moment.snapshot
    return {
        "pending": snapshot.waiting,
        "processing": snapshot.processing,
        "delayed": snapshot.delayed,
        "dead": snapshot.dead,
        "done": snapshot.counters.get("done", 0),
        "accepted": moment.accepted,
    }


def places(moment: Moment) -> RenderableType:
    """Draw where every job is."""
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="dim")
    numbers = counts(moment)
    for place in numbers:
        table.add_column(place, justify="right", min_width=9)
    table.add_row(*(Text(f"{n:,}", _PLACES[place] if n else "dim") for place, n in numbers.items()))
    return table


def _bar(moment: Moment) -> RenderableType:
    row = Table.grid(padding=(0, 2))
    bar = ProgressBar(total=max(1, moment.accepted), completed=moment.ended, width=40)
    row.add_row(
        bar, f"{moment.ended / max(1, moment.accepted):4.0%}", f"{moment.speed:,.0f} jobs/s"
    )
    return Padding(row, (1, 0))


def crew(moment: Moment, consumers: Sequence[Child]) -> RenderableType:
    """Draw what each consumer does."""
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="dim")
    for title in ("consumer", "pid", "state", "in hand", "done"):
        table.add_column(title, justify="left" if title in {"consumer", "state"} else "right")
    for child in consumers:
        held, done = moment.in_hand.get(child.name, 0), moment.done.get(child.pid, 0)
        state = Text("killed", "red") if child.killed else Text("at work" if held else "waiting")
        table.add_row(child.name, str(child.pid), state, f"{held:,}", f"{done:,}")
    return table


def _in_words(moment: Moment) -> str:
    words = [f"{place} {n:,}" for place, n in counts(moment).items() if place != "accepted"]
    return f"{', '.join(words)}; {moment.speed:,.0f} jobs/s"
