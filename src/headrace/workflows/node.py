"""A node: one job of a workflow before that starts, and the placeholders in its arguments. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from headrace.errors import InvalidJob
from headrace.handoff import PLACEHOLDER
from headrace.producer import Call

Whose: TypeAlias = int | Sequence[int]
"""Of whom the result is: one's; or of several, as a list."""

_FILL = re.compile(rb'"%b(?:-(\d+))?"' % PLACEHOLDER.encode())


@dataclass(frozen=True, slots=True)
class Node:
    """One job of a workflow.

    Attributes:
        call: the call.
        after: the numbers of those for which it waits.
        result: whose result RESULT stands for; None for nobody's.
        named: whose results other placeholders stand for, by their own numbers.
    """

    call: Call[Any]
    after: Sequence[int] = ()
    result: Whose | None = None
    named: tuple[tuple[int, int], ...] = ()

    def moved(self, by: int) -> Node:
        """Return the same node with all numbers so much higher."""
        if not self.after or not by:
            return self
        result = self.result
        if result is not None:
            result = result + by if isinstance(result, int) else [n + by for n in result]
        named = tuple((token, n + by) for token, n in self.named)
        return replace(self, after=[n + by for n in self.after], result=result, named=named)

    def parts(self) -> list[bytes | Whose]:
        """Return the job's bytes, and between them whose results belong there.

        Raises:
            InvalidJob: it asks for the result of nobody.
        """
        named = dict(self.named)
        found: list[bytes | Whose] = []
        start = 0
        for match in _FILL.finditer(self.call.job):
            whose = self.result if match[1] is None else named.get(int(match[1]))
            if whose is None:
                raise InvalidJob(
                    "a call asks for the result of a step, and waits for none: RESULT stands in what "
                    "follows another step, and step.result in a later step of the same Dag"
                )
            found += (self.call.job[start : match.start()], whose)
            start = match.end()
        found.append(self.call.job[start:])
        return found


def tokens_of(call: Call[Any]) -> list[int]:
    """Return the numbers of the placeholders in a call, other than RESULT."""
    return [int(match[1]) for match in _FILL.finditer(call.job) if match[1] is not None]
