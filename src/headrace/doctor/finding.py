"""One thing that the doctor found: how bad it is, what it means, what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

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
        why: why that matters, one sentence; "" plain to see.
        todo: what to do: a command, or a line of a configuration; "" nothing.
        queue: which queue it is about; "" the server.
        mends: whether ``repair`` mends it.
    """

    severity: Severity
    code: str
    found: str
    why: str = ""
    todo: str = ""
    queue: str = ""
    mends: bool = False


def worst(findings: Sequence[Finding]) -> Severity:
    """Return the worst severity there is; ok when there is none."""
    found = {finding.severity for finding in findings}
    return next((severity for severity in SEVERITIES if severity in found), "ok")
