"""The claims of a consumer in whose queues something is limited: each is looked at when it comes and when it ends.

Stands by itself because it is compiled with ``claims``: see ``hatch_build``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from headrace.consumer.claimed import ClaimedJob
from headrace.consumer.claims import Claims
from headrace.keys import Keys
from headrace.operations import Commit, Outcome


class Gate(Protocol):
    """Knows the limits: see ``admission``."""

    def hold_of(self, claimed: ClaimedJob) -> Commit | None:
        """Return what puts a job into its lane; None if it may run."""

    def ended(self, claimed: ClaimedJob) -> None:
        """Note that a job has ended, however."""


class LimitedClaims(Claims):
    """The claims of one consumer.

    Args:
        queues: the keys of its queues.
        gate: is asked about each job.
    """

    def __init__(self, queues: Sequence[Keys], gate: Gate) -> None:
        super().__init__(queues)
        self._gate = gate

    def register(self, claimed: ClaimedJob) -> ClaimedJob | None:
        """Note a claim, and whether it has to wait; see ``Claims``."""
        if claimed.unrunnable is None and (hold := self._gate.hold_of(claimed)) is not None:
            claimed.unrunnable, claimed.hold = "no_slot", hold
        return super().register(claimed)

    def settle(self, claimed: ClaimedJob, outcome: Outcome) -> None:
        """Note what became of a job, and that its slot is free."""
        super().settle(claimed, outcome)
        if claimed.hold is None:
            self._gate.ended(claimed)
