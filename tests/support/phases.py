"""Holds each step of a claimed job against the table of steps; the product itself does not, for speed."""

from __future__ import annotations

from headrace.consumer.claimed import NEXT, ClaimedJob, Phase


class CheckedPhase:
    """Stands for ``ClaimedJob.phase``: refuses a step that is in no line of ``NEXT``, but to where it is."""

    def __get__(self, claimed: ClaimedJob | None, _: type[ClaimedJob] | None = None) -> Phase:
        return "arrived" if claimed is None else vars(claimed).get("phase", "arrived")

    def __set__(self, claimed: ClaimedJob, phase: Phase) -> None:
        before = claimed.phase
        assert phase is before or phase in NEXT[before], (
            f"{claimed.head.id}: from {before} to {phase}"
        )
        vars(claimed)["phase"] = phase
