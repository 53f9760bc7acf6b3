"""One thing that the doctor found, and what a row of its tables says of it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Generic, Literal, TypeAlias, TypeVar

F = TypeVar("F")
Severity: TypeAlias = Literal["problem", "warning", "note", "ok"]
SEVERITIES: Final[tuple[Severity, ...]] = ("problem", "warning", "note", "ok")
"""Worst first. Problem: jobs are lost, stuck or miscounted, or will be at the next fault. Warning: it
can come to that. Note: worth knowing. Ok: looked at, and as it should be."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found.

    Attributes:
        severity: how bad it is.
        code: a word for programs, which stays.
        found: what was found.
        why: why that matters, one sentence; "" if plain to see.
        todo: what to do: a command, or a line of a configuration; "" if nothing.
        queue: which queue it is about; "" for the server.
        mends: whether ``--repair`` mends it.
    """

    severity: Severity
    code: str
    found: str
    why: str = ""
    todo: str = ""
    queue: str = ""
    mends: bool = False


@dataclass(frozen=True, slots=True)
class Check(Generic[F]):
    """A row of a table: the finding when something holds of facts, on which its texts may depend."""

    code: str
    severity: Severity | Callable[[F], Severity]
    when: Callable[[F], object]
    found: str | Callable[[F], str]
    why: str | Callable[[F], str] = ""
    todo: str | Callable[[F], str] = ""
    mends: bool = False


def judge(checks: Iterable[Check[F]], facts: F, queue: str = "") -> Iterator[Finding]:
    """Return what was found, in the order of the checks."""
    for check in checks:
        if check.when(facts):
            severity = check.severity if isinstance(check.severity, str) else check.severity(facts)
            texts = (check.found, check.why, check.todo)
            found, why, todo = (one if isinstance(one, str) else one(facts) for one in texts)
            yield Finding(severity, check.code, found, why, todo, queue, check.mends)
