"""From runs to what can be said of them: ratios within a round first, then the numbers themselves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final


@dataclass(frozen=True, slots=True)
class Result:
    """One contestant in one round.

    Attributes:
        jobs: how many jobs Redis confirmed.
        lost: how many of those it was given are neither done nor, after enqueuing, waiting.
        per_s: jobs a second.
        cpu_us: processor time of its process for one job, microseconds.
        server_us: processor time of the server for one job, microseconds.
    """

    jobs: int
    lost: int
    per_s: float
    cpu_us: float
    server_us: float


Round = dict[str, Result]


@dataclass(frozen=True, slots=True)
class Ratio:
    """One contestant's jobs a second over a yardstick's of the same round."""

    of: str
    to: str
    values: list[float]

    def __str__(self) -> str:
        return (
            f"{self.of:<14} / {self.to:<14} {median(self.values):7.2f}"
            f"   {min(self.values):.2f} to {max(self.values):.2f}"
        )


RATIOS: Final = (
    ("async tasks", "scripts, 128"),
    ("async tasks", "scripts, 64"),
    ("async tasks", "hand loop"),
    ("sync tasks", "scripts, 128"),
    ("sync tasks", "scripts, 64"),
    ("sync tasks", "hand loop"),
    ("enqueue", "LPUSH"),
    ("aenqueue", "LPUSH"),
    ("enqueue_many", "LPUSH"),
)


def ratios(rounds: Sequence[Round]) -> list[Ratio]:
    return [
        Ratio(of, to, [a_round[of].per_s / a_round[to].per_s for a_round in rounds])
        for of, to in RATIOS
    ]


def text(rounds: Sequence[Round]) -> str:
    """Write the report, for people."""
    return "\n".join([*_ratios(rounds), "", *_numbers(rounds)])


def _ratios(rounds: Sequence[Round]) -> Iterable[str]:
    yield f"{'jobs/s as a ratio, within each round':<33}median   range of {len(rounds)}"
    yield from map(str, ratios(rounds))


def _numbers(rounds: Sequence[Round]) -> Iterable[str]:
    yield "These numbers are this machine's, at this moment: compare no others with them."
    yield f"{'medians':<16}{'jobs/s':>10}{'µs of processor a job':>26}{'of the server':>16}"
    for name in rounds[0]:
        results = [a_round[name] for a_round in rounds]
        per_s = median(result.per_s for result in results)
        cpu_us = median(result.cpu_us for result in results)
        server_us = median(result.server_us for result in results)
        yield f"{name:<16}{per_s:>10,.0f}{cpu_us:>26.1f}{server_us:>16.1f}"
