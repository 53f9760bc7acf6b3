"""Looks for a seed that shows an exhibit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pytest

from tests.museum.exhibit import Exhibit
from tests.simulation.run import PLAIN, Outcome, Parts, run_seed, simulated


@dataclass(frozen=True)
class Finding:
    """How many seeds it took, and what the last of them gave."""

    seeds: int
    outcome: Outcome


def find(exhibit: Exhibit, seeds: Iterable[int], parts: Parts = PLAIN) -> Finding | None:
    """Run seeds with the bug put in, until one of them shows it, and shows nothing without it."""
    with simulated(), pytest.MonkeyPatch.context() as patch:
        exhibit.patch(patch)
        for count, seed in enumerate(seeds, 1):
            outcome = run_seed(seed, queue_class=exhibit.queue, parts=parts)
            if not outcome.violations:
                continue
            patch.undo()
            if not run_seed(seed, parts=parts).violations:
                return Finding(count, outcome)
            exhibit.patch(patch)
    return None
