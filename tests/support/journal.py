"""What tasks in other processes have written down: a line for each event, words apart by blanks."""

from __future__ import annotations

from pathlib import Path


def lines_of(journal: Path) -> list[list[str]]:
    """Return the words of each line that is whole.

    A line is one write, and yet the last one may be half there: what crosses the end of a page in the
    file becomes readable page by page.
    """
    return [line.split() for line in journal.read_text().split("\n")[:-1]]
