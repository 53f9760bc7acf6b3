"""Answers in sentences: wrapped to the width of the terminal, with a word in colour where there is one."""

from __future__ import annotations

import shutil
import textwrap
from typing import Final

from headrace.cli.output import on_terminal, say
from headrace.logs import one_line

_WIDEST: Final = 100  # beyond that, eyes lose the line


def say_styled(*parts: tuple[str, str]) -> None:
    """Print a line made of texts, each with rich's name for how it looks on a terminal."""
    parts = tuple((one_line(text), style) for text, style in parts)
    if not on_terminal():
        say("".join(text for text, _ in parts).rstrip())
        return
    from rich.console import Console
    from rich.text import Text

    Console(highlight=False).print(Text.assemble(*parts), soft_wrap=True)


def say_paragraph(
    text: str, *, first: str = "", indent: int = 0, style: str = "", first_style: str = ""
) -> None:
    """Print a text, wrapped, but not at its no-break spaces.

    Args:
        text: the text.
        first: what stands before its first line, in its indent.
        indent: how many characters stand before each line.
        style: rich's name for how the text looks on a terminal.
        first_style: and ``first``.
    """
    width = min(_WIDEST, shutil.get_terminal_size().columns)
    lines = textwrap.wrap(
        one_line(text),
        max(20, width - indent),
        break_long_words=False,
        break_on_hyphens=False,
    )
    for i, line in enumerate(lines or [""]):
        say_styled(
            (f"{'' if i else first:<{indent}}", first_style), (line.replace("\xa0", " "), style)
        )
