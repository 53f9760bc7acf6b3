"""The survivors that are explained: the tables of docs/mutants.md, whose rows this reads."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "mutants.md"

# | file | `as it is` | `as the mutant has it` | why |
_ROW = re.compile(r"\| (\S+) \| (`+)(.*?)\2 \| (`+)(.*?)\4 \| (.+?) \|")
_NOTHING = "(nothing)"


@dataclass(frozen=True, slots=True)
class Explained:
    """A survivor: its file, the lines as they are and as it has them, and why it may live."""

    file: str
    right: str
    wrong: str
    why: str


def explained(page: str) -> list[Explained]:
    """Read the rows of a page."""
    rows = (_ROW.fullmatch(line) for line in page.splitlines())
    return [Explained(row[1], _line(row[3]), _line(row[5]), row[6]) for row in rows if row]


def row(one: Explained) -> str:
    """Write a row as ``explained`` reads it."""
    return f"| {one.file} | {_code(one.right)} | {_code(one.wrong)} | {one.why} |"


def _code(line: str) -> str:
    line = line.replace("|", "\\|") or _NOTHING
    return f"`` {line} ``" if "`" in line else f"`{line}`"


def _line(code: str) -> str:
    code = code.strip().replace("\\|", "|")
    return "" if code == _NOTHING else code
