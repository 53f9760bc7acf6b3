"""Decides what docs/workflows.md promises, from outside: what follows when, what it gets, what a cancel ends."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from headrace import results, wire
from headrace.keys import keys_of
from headrace.workflows.keys import workflow_keys
from tests.simulation.checker import Checker, Run
from tests.simulation.queue import Queue
from tests.simulation.world import Node

K = keys_of("queue")
SOON_S = 1.0  # beyond the lease within which a consumer extends it, and learns that it is to stop
TICK = 0  # the key of all jobs of the schedule


@dataclass
class Flow:
    """Jobs that are accepted together, or not at all; of a workflow those that wait for others come later.

    Attributes:
        keys: of these jobs.
        there: whether they were; None if nobody knows.
        id: its workflow's, once it has started; "" if it is none.
        on_failure: what becomes of it at a dead member.
        last: the keys of those whose results are its own.
        cancelling_at: when somebody first asked for its end, as a whole.
        cancelled_at: when the answer came that it is cancelled.
        held: the jobs that consumers had then.
    """

    keys: list[int] = field(default_factory=list)
    there: bool | None = False
    id: str = ""
    on_failure: Literal["stop", "continue"] = "stop"
    last: Sequence[int] = ()
    cancelling_at: float | None = None
    cancelled_at: float | None = None
    held: frozenset[int] = frozenset()


class WorkflowChecker(Checker):
    """Knows, beside what ``Checker`` knows, what belongs together, and what follows what.

    Attributes:
        ask: asks the server.
        flows: what there is to do.
        follows: for each key those that have to have ended before it begins …
        gets: … and the keys that get the results of those.
        ids: of each job that was seen in Redis, with its key.
    """

    ask: Callable[[tuple[Any, ...]], Any]

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.flows: list[Flow] = []
        self.follows: dict[int, list[int]] = {}
        self.gets: set[int] = set()
        self.ids: dict[str, int] = {}
        self._flow_of: dict[int, Flow] = {}
        self._known: set[bytes] = set()  # bytes that were looked at
        self._given: dict[int, Any] = {}  # what a job got at its first run
        self._failed: dict[int, set[str]] = defaultdict(set)  # the reasons for which each may have

    # — what people ask for —

    def belongs(self, key: int, flow: Flow) -> None:
        """Note that a job is one of a flow."""
        flow.keys.append(key)
        self._flow_of[key] = flow

    def cancels(self, key: int) -> None:
        """Note that somebody asks for the end of one job: it may end so from now on."""
        self.jobs[key].cancelled = True
        self._failed[key].add("cancelled")

    def cancelled(self, flow: Flow, queue: Queue) -> None:
        """Note the answer that a workflow is cancelled: nobody waits, and nothing follows any more."""
        flow.cancelled_at = self.world.now
        flow.held = frozenset(filter(None, map(_key, queue.processing)))
        for place in ("pending", "delayed", "priority", "limited"):
            for key in filter(None, map(_key, getattr(queue, place))):
                if self._flow_of.get(key) is flow and not self._went_again(key, flow):
                    self.wrong(f"flow: job {key} is {place}, and its workflow is cancelled")

    def refuses(self, flow: Flow) -> None:
        """Note the answer that there is nothing to cancel: it is over."""
        missing = [key for key in flow.keys if not self._has_ended(key)]
        if (
            missing and not self._is_weak()
        ):  # then perhaps it is unknown, for its start is forgotten
            self.wrong(f"flow: it is said to be over, and {missing} have not ended")

    def _went_again(self, key: int, flow: Flow) -> bool:
        """Tell whether an operator redrove it, after somebody had begun to cancel all."""
        return self.jobs[key].redriven_at >= (flow.cancelling_at or 0.0) > 0.0

    # — what consumers do —

    def begin(self, key: int) -> Run | None:
        """Note that a run began, and whether it might."""
        run = super().begin(key)
        if run is None:
            return None
        for other in self.follows.get(key, ()):
            if not self._has_ended(other):
                self.wrong(f"flow: job {key} began, and {other}, which it follows, has not ended")
        flow = self._flow_of.get(key)
        if flow is not None and flow.cancelled_at is not None:
            if key not in flow.held and not self._went_again(key, flow):
                self.wrong(f"flow: job {key} began, and its workflow was cancelled before")
        return run

    def end(self, run: Run | None, how: str) -> None:
        """Note that a run ended; one that was asked to stop does so."""
        super().end(run, how)
        if run is None or how != "ok" or (flow := self._flow_of.get(run.key)) is None:
            return
        if flow.cancelled_at is None or self._went_again(run.key, flow):
            return
        since = max(flow.cancelled_at, run.began)
        if self._waited_s(since) <= self.policy.lease_s + SOON_S:
            return
        if not self.faults.excuses(run.node, since) and not self._was_busy(run.node):
            self.wrong(f"flow: job {run.key} ran to its end, and its workflow was cancelled before")

    def _has_ended(self, key: int) -> bool:
        """Tell whether what waits for a job may go on."""
        goes_on = self._flow_of[key].on_failure == "continue" if key in self._flow_of else False
        return bool(self.jobs[key].done()) or (goes_on and bool(self._failed[key]))

    def given(self, key: int, value: Any) -> None:
        """Note what a job got of those that it follows: the same each time it runs."""
        others = self.follows[key] if key in self.gets else []
        values = value if len(others) > 1 else [value] if others else value
        fits = len(values) == len(others) if isinstance(values, list) else not others
        fits = fits and all(map(self._is_result, others, values or ()))
        if not fits or self._given.setdefault(key, value) != value:
            self.wrong(f"flow: job {key} follows {others}, and was given {value!r:.200}")

    def _is_result(self, key: int, value: Any) -> bool:
        """Tell whether a value can be a member's: what it returned, or with ``continue`` how it failed."""
        if not isinstance(value, dict):
            return bool(value == key and self.jobs[key].done())
        goes_on = self._flow_of[key].on_failure == "continue"
        return goes_on and value.get("error", {}).get("reason") in self._failed[key]

    # — what Redis does, and holds —

    def before(self, script: str, queue: Queue) -> Any:
        """Look at what a script will change."""
        return super().before("settle" if script == "workflows/commit" else script, queue)

    def after(
        self, script: str, queue: Queue, before: Any, args: Sequence[Any], reply: Any, node: Node
    ) -> None:
        """Look at what a script has done."""
        super().after(script, queue, before, args, reply, node)
        if script == "workflows/commit" and reply == []:
            owner, _ = before.get(args[1], ("", b""))
            if owner != f"{args[0]}:{abs(int(args[2]))}":
                self.wrong(
                    f"I4: {args[0]} ended {args[1]} by {args[3]}, which {owner or 'nobody'} has"
                )

    def notice(self, queue: Queue) -> None:
        """See each job that there is, at every instant, and each dead letter."""
        for place in (queue.pending, queue.delayed, queue.priority, queue.limited):
            for raw in place:
                if raw not in self._known:
                    self._known.add(raw)
                    self._came(raw)
        for letter in queue.dead:
            if letter not in self._known:
                self._known.add(letter)
                error, key = wire.read_error(letter), _key(letter)
                if error is not None and key is not None:
                    self._failed[key].add(error.reason)

    def _came(self, raw: bytes) -> None:
        said = _said(raw)
        key, job_id = said["args"][0], said["id"]
        if job_id in self.ids:
            return
        if key != TICK and key in self.ids.values():
            self.wrong(f"flow: job {key} was accepted twice")
        self.ids[job_id] = key
        flow = self._flow_of.get(key)
        if flow is not None and flow.cancelled_at is not None:
            self.wrong(f"flow: job {key} was accepted, and its workflow was cancelled before")

    def save(self) -> Any:
        """Keep what was accepted until now, for a Redis that goes back."""
        return super().save(), dict(self.ids), self.world.now

    def restore(self, saved: Any) -> None:
        """Redis went back: what it has answered since is forgotten as a whole, and may happen again.

        What is promised is weaker then: a job that has ended in what is lost may end otherwise, and its
        followers get that; so of what has begun before, nothing is held against what begins from now on.
        """
        before, ids, at = saved
        super().restore(before)
        self.ids, came = dict(ids), set(ids.values())
        self._known.clear()
        self._given.clear()
        for flow in self.flows:
            if flow.there and not came.intersection(flow.keys):
                flow.there = None
            if flow.cancelled_at is not None and flow.cancelled_at >= at:
                flow.cancelled_at = None

    # — the end —

    def settled(self) -> int:
        """Decide which jobs of flows were accepted; return how many."""
        count, came = 0, set(self.ids.values())
        for flow in self.flows:
            state = self._end_of(flow)
            began = any(self.jobs[key].runs for key in flow.keys)
            if self._is_weak():
                accepted = came.intersection(flow.keys)
                is_over = not flow.id or state == "done"
            else:
                is_over = flow.cancelled_at is None
                accepted = set(flow.keys) if flow.there or (flow.there is None and began) else set()
                accepted = accepted if is_over else came.intersection(flow.keys)
            count += len(accepted)
            for key in accepted:
                self.jobs[key].cancelled |= not is_over
                self.jobs[key].copies = 1
            if flow.id:
                self._check_end(flow, state)
        return count

    def _end_of(self, flow: Flow) -> str:
        if not flow.id:
            return ""
        return (self.ask(("HGET", workflow_keys(K, flow.id).hash, "state")) or b"unknown").decode()

    def _check_end(self, flow: Flow, state: str) -> None:
        """Compare how a workflow ended with what whoever waits for it is told."""
        expected = {"done"} if flow.cancelled_at is None else {"cancelled"}
        if self._is_weak():  # its start, or its end, may be forgotten
            expected = {"done", "cancelled", "unknown"}
        if state not in expected:
            self.wrong(f"flow: workflow {flow.id} is {state} in the end, and not {expected}")
        if state not in ("done", "cancelled"):
            return
        used = workflow_keys(K, flow.id)
        (told,) = self.ask(("LRANGE", used.told, 0, -1)) or (b"",)
        if state == "cancelled":
            fits = told == results.CANCELLED
        else:
            value = json.loads(told)["value"]
            values = value if len(flow.last) > 1 else [value]
            fits = len(values) == len(flow.last) and all(map(self._is_result, flow.last, values))
        if not fits:
            self.wrong(f"flow: workflow {flow.id} is {state}, and tells {told[:200]!r}")


def _said(raw: bytes) -> Any:
    """Read a job; one that waits in its lane has words in front."""
    return json.loads(raw[raw.index(b"{") :])


def _key(raw: bytes) -> int | None:
    args = _said(raw)["args"]
    return args[0] if isinstance(args[0], int) else None
