"""What commands print: the one place that decides between a drawing, plain lines and JSON.

A terminal gets colours, tables and progress bars (rich, imported only then; it heeds NO_COLOR); a pipe
gets plain lines, with numbers as they are. Answers go to the standard output, all else to the standard
error. Text that came out of Redis is printed with its control characters escaped.
"""

from __future__ import annotations

import io
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import msgspec

from headrace.clock import monotonic
from headrace.logs import json_on_terminal, one_line

Cell: TypeAlias = str | int | float | None
Row: TypeAlias = Sequence[Cell]
Part: TypeAlias = tuple[str, str]
"""A text, and rich's name for how it looks on a terminal."""

_FIRST_LINE_S: Final = 2.0  # what takes less needs no word on the way
_LINE_EVERY_S: Final = 5.0
_WIDEST: Final = 100  # beyond that, eyes lose the line


def cell_text(cell: Cell) -> str:
    """Write a cell for a program: ``-`` for what is not there, numbers as they are."""
    if cell is True or cell is False:
        return "yes" if cell else "no"
    if isinstance(cell, int):
        return str(cell)
    if isinstance(cell, float):
        return f"{cell:.1f}"
    return one_line(cell) if cell else "-"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        title: its head.
        style: rich's name for how it looks on a terminal.
        least: it may be cut to so many characters to fit a terminal; 0 for not at all.
    """

    title: str
    style: str = ""
    least: int = 0


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under the heads of columns."""

    columns: Sequence[Column]
    rows: Sequence[Row]

    def plain(self) -> Iterator[str]:
        """Write it for a program: a line each, padded, with ``-`` for what is not there."""
        shown = [[column.title.lower() for column in self.columns]]
        shown += [[cell_text(cell) for cell in row] for row in self.rows]
        widths = [max(map(len, cells)) for cells in zip(*shown, strict=True)]
        padded = "  ".join(f"{{:<{width}}}" for width in widths)
        for line in shown:
            yield padded.format(*line).rstrip()

    def drawn(self) -> Any:
        """Draw it for a terminal: return what rich prints."""
        from rich.table import Table as Drawn
        from rich.text import Text

        def text(column: Column, cell: Cell) -> Text:
            if isinstance(cell, int):
                return Text(f"{cell:,}", style=column.style if cell else "dim")
            return Text(
                one_line(str(cell or "")), style=column.style, no_wrap=True, overflow="ellipsis"
            )

        drawn = Drawn(box=None, padding=(0, 2, 0, 0), header_style="bold")
        lines = [[text(*pair) for pair in zip(self.columns, row, strict=True)] for row in self.rows]
        for i, column in enumerate(self.columns):
            width = max(len(column.title), *(line[i].cell_len for line in lines), 0)
            drawn.add_column(
                column.title,
                justify="right" if any(isinstance(row[i], int) for row in self.rows) else "left",
                no_wrap=not column.least,  # rich shortens those that it could wrap, and only those
                min_width=min(width, column.least or width),
            )
        for line in lines:
            drawn.add_row(*line)
        return drawn


Line: TypeAlias = str | tuple[Part, ...] | Table


def accept_any_text() -> None:
    """Let no character that the terminal's encoding lacks end a command."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def on_terminal() -> bool:
    """Whether answers are read by a person."""
    return sys.stdout.isatty()


def show(answer: Any, lines: Iterable[Line], *, json: bool, compact: bool = False) -> None:
    """Print an answer: as JSON for programs, ``compact`` on one line, else its lines for people."""
    if json:
        say_json(answer, compact=compact)
        return
    for line in lines:
        say(line)


def say(line: Line = "") -> None:
    """Print a line of the answer, or a table."""
    if isinstance(line, str):
        print(one_line(line))
    elif on_terminal():
        _draw(line)
    elif isinstance(line, Table):
        print("\n".join(line.plain()))
    else:
        print(one_line("".join(text for text, _ in line)).rstrip())


def _draw(line: tuple[Part, ...] | Table) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    if isinstance(line, Table):
        console.print(line.drawn())
    else:
        parts = ((one_line(text), style) for text, style in line)
        console.print(Text.assemble(*parts), soft_wrap=True)


def paragraph(
    text: str, *, first: str = "", indent: int = 0, style: str = "", first_style: str = ""
) -> Iterator[Line]:
    """Wrap a text to the width of the terminal, but not at its no-break spaces.

    Args:
        text: the text.
        first: what stands before its first line, in its indent.
        indent: how many characters stand before each line.
        style: rich's name for how the text looks on a terminal.
        first_style: and ``first``.
    """
    width = min(_WIDEST, shutil.get_terminal_size().columns)
    lines = textwrap.wrap(
        one_line(text), max(20, width - indent), break_long_words=False, break_on_hyphens=False
    )
    for line in lines or [""]:
        yield ((f"{first:<{indent}}", first_style), (line.replace("\xa0", " "), style))
        first = ""


def say_json(value: Any, *, compact: bool = False) -> None:
    """Print a value as JSON: indented for a person, unless it is to be ``compact``."""
    text = msgspec.json.encode(value)
    if on_terminal() and not compact:
        text = msgspec.json.format(text, indent=2)
    # A program gets the text as it is; a terminal would obey what it holds.
    print(json_on_terminal(text.decode()) if on_terminal() else text.decode())


def flush() -> None:
    """Send what was said to whoever reads it now."""
    sys.stdout.flush()


def note(line: str) -> None:
    """Print a line beside the answer."""
    print(line, file=sys.stderr)


def complain(message: str) -> None:
    """Say in one line what went wrong."""
    note(f"headrace: {'; '.join(one_line(part) for part in message.splitlines() if part.strip())}")


@contextmanager
def progress(what: str, total: int | None, *, show: bool = True) -> Iterator[Callable[[int], None]]:
    """Show how far something is: a bar on a terminal, else a line every few seconds.

    Yields a function that takes how many are done.

    Args:
        what: such as "enqueued".
        total: of how many; None if unknown.
        show: False when it is too little to be shown.
    """
    if not show:
        yield lambda _done: None
    elif not sys.stderr.isatty():
        yield _line_progress(what, total)
    else:
        from rich import progress as rich
        from rich.console import Console

        columns = (rich.BarColumn(), rich.MofNCompleteColumn(), rich.TimeElapsedColumn())
        console = Console(stderr=True)
        with rich.Progress("{task.description}", *columns, console=console, transient=True) as bar:
            task = bar.add_task(what, total=total)
            yield lambda done: bar.update(task, completed=done)


def _line_progress(what: str, total: int | None) -> Callable[[int], None]:
    due_at = monotonic() + _FIRST_LINE_S

    def show(done: int) -> None:
        nonlocal due_at
        if monotonic() >= due_at:
            due_at = monotonic() + _LINE_EVERY_S
            note(f"{done:,}{'' if total is None else f' of {total:,}'} {what}")

    return show


def confirmed(question: str) -> bool:
    """Ask a person; no answer is a no."""
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def can_ask() -> bool:
    """Whether there is a person to ask."""
    return sys.stdin.isatty() and sys.stderr.isatty()
