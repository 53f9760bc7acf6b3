"""Decides what is promised of the parts beside the core, from outside as well.

What belongs together is accepted together, each job once; no more run than a limit allows; each tick fires
once, or is counted as missed. What follows what is decided beside it, in ``workflow_checker``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from headrace.schedules.definition import read
from headrace.schedules.requests import State
from headrace.schedules.timing import Every
from tests.simulation.checker import Run
from tests.simulation.queue import Queue
from tests.simulation.real import RealQueue
from tests.simulation.workflow_checker import WorkflowChecker
from tests.simulation.world import Node
from tests.support.ticks import Ledger

CAP, RATE, BURST = 2, 4, 2
MOST = {
    "capped": CAP,
    "keyed": 1,
    "narrow": 1,
}  # how many run at once: of the task, of each tenant
EVERY_MS = 3_000  # the schedule's period


class FlowChecker(WorkflowChecker):
    """Knows, beside what follows what, what may run beside what, and when a schedule ticks.

    Attributes:
        under: for each key the limit that it is under: "capped", "keyed/a", "rated".
        ticks: the tick of each job that the schedule has enqueued, by the job's id.
        counted: what Redis knew of the schedule when it was taken away, and its next tick.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.under: dict[int, str] = {}
        self.ticks: dict[str, int] = {}
        self.counted: tuple[State, int] | None = None
        self._first_ms = 0  # the schedule's first tick
        self._missed = ""  # and what becomes of ticks that cannot fire in time
        self._rated: list[float] = []  # when jobs under the rate began

    # — what consumers do —

    def begin(self, key: int) -> Run | None:
        """Note that a run began, and whether it might."""
        run = super().begin(key)
        if run is None:
            return None
        limit = self.under.get(key)
        if limit == "rated":
            self._check_rate(run.node)
        elif limit is not None:
            self._check_running(limit)
        return run

    def _check_rate(self, node: Node) -> None:
        """Redis lets jobs go one after the other: where an answer is late, they begin at once."""
        self._rated.append(self.world.now)
        most = BURST + 1 + RATE * (self.world.now - self._rated[0])
        # A clock that jumps fills the bucket: ahead, for time has passed; back, for nobody knows how much.
        # A Redis that goes back forgets which tokens were taken.
        most += (BURST + 1) * (self.faults.counts["clock jump"] + self.faults.counts["rollback"])
        if len(self._rated) > most and not self.faults.excuses(node, self.world.now):
            self.wrong(f"limits: {len(self._rated)} jobs began, and {most:.1f} might have")

    def _check_running(self, limit: str) -> None:
        """Whoever has lost its lease may go on for a while: that is a fault's doing."""
        runs = [
            run for key, name in self.under.items() if name == limit for run in self.jobs[key].runs
        ]
        nodes = [run.node for run in runs if run.ended is None and not run.node.dead]
        most, now = MOST[limit.partition("/")[0]], self.world.now
        if len(nodes) > most and not any(self.faults.excuses(node, now) for node in nodes):
            self.wrong(f"limits: {len(nodes)} of {limit} run at once, and {most} may")

    def ticked(self, job_id: str, at_ms: int) -> None:
        """Note that the job of a tick began."""
        if at_ms > self.clock_ms:
            self.wrong(f"I8: the job of tick {at_ms} began {at_ms - self.clock_ms} ms early")
        self.ticks[job_id] = at_ms

    # — what Redis does, and holds —

    def after(
        self, script: str, queue: Queue, before: Any, args: Sequence[Any], reply: Any, node: Node
    ) -> None:
        """Look at what a script has done."""
        super().after(script, queue, before, args, reply, node)
        if script == "schedules/put" and reply == b"ok":
            self._first_ms, self._missed = int(args[3]), read(args[1]).missed

    def look(self, queue: Queue) -> None:
        """Check what holds at any instant."""
        super().look(queue)
        assert isinstance(queue, RealQueue)
        lanes = Counter(member.partition(b" ")[0].decode() for member in queue.slots)
        for lane, count in lanes.items():
            most = MOST[lane.partition("/")[0]]
            if count > most:
                self.wrong(f"limits: {count} have a slot of {lane}, and {most} may")

    def restore(self, saved: Any) -> None:
        """Redis went back: ticks that have fired since then fire again."""
        super().restore(saved)
        self.ticks = {job_id: at for job_id, at in self.ticks.items() if job_id in self.ids}

    # — the end —

    def verdict(self, queue: Queue) -> None:
        """Decide, when everything has been still for a while."""
        accepted = len(self.ticks) + self.settled()
        super().verdict(queue)
        enqueued = queue.stats["enqueued"]
        if enqueued != accepted:
            self.wrong(f"flow: {enqueued} jobs were accepted, and {accepted} were to be")
        if self.counted is not None:
            ledger = Ledger("ticks", Every(EVERY_MS), self._first_ms, self._missed == "all")
            for fault in ledger.faults(sorted(self.ticks.values()), *self.counted):
                self.wrong(fault)
