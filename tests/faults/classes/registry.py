"""The list of fault classes: each a function of a bench, with a name and what it costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from headrace.policy import LeasePolicy
from tests.faults.bench import SHORT, Bench
from tests.faults.evidence import Verdict


@dataclass(frozen=True)
class FaultClass:
    """One class of faults.

    Attributes:
        name: what it is called.
        run: breaks things on a bench, and lets the checker decide.
        lease: what consumers are told.
        cost_s: about how long it takes at full scale; the dearest go first.
        short: its scale in the short version; 0: not part of it.
        why_not: says why it cannot run here; "" if it can.
    """

    name: str
    run: Callable[[Bench], Verdict]
    lease: LeasePolicy
    cost_s: float
    short: float
    why_not: Callable[[], str]


CLASSES: dict[str, FaultClass] = {}


def fault_class(
    name: str,
    *,
    cost_s: float,
    short: float = 0.0,
    lease: LeasePolicy = SHORT,
    why_not: Callable[[], str] = str,
) -> Callable[[Callable[[Bench], Verdict]], Callable[[Bench], Verdict]]:
    """Add a class to the list."""

    def register(run: Callable[[Bench], Verdict]) -> Callable[[Bench], Verdict]:
        CLASSES[name] = FaultClass(name, run, lease, cost_s, short, why_not)
        return run

    return register
