"""Workflows in memory: what their scripts do in Redis (``workflows/*.lua``), under the clock of the test.

A member's end, and what follows from it, is noted when its outcome is settled; no leader has to look for those
that end without a consumer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from headrace import results, wire
from headrace.flows import Flow
from headrace.operations import Operation
from headrace.producer import Call
from headrace.workflows.member import Member, failure_of, read_member

MAX_RESULTS: Final = 1 << 20  # bytes, as workflows/lib/ended.lua has it
_TOO_LARGE: Final = failure_of(
    "too_large", "", "the results of a workflow take more than 1 MiB together", "", ""
)

_MARKS: Final = (":workflow:", ":forwarded:")  # in keys of workflows, before their ids

_unpack: Final = msgspec.msgpack.Decoder().decode


@dataclass(eq=False, slots=True)
class MemoryFlow:
    """A workflow, and how far it is. Its fields are those of its hash in Redis."""

    id: str
    policy: str
    keep_ms: int
    window: int
    last: Any
    edges: list[tuple[int, int, list[int]]]
    queues: list[str]
    rest: deque[bytes]
    nodes: dict[int, bytes]
    needs: dict[int, int]
    total: int
    left: int
    state: str = "running"
    running: int = 0
    size: int = 0
    results: dict[int, bytes] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)
    dead: dict[int, bytes] = field(default_factory=dict)
    end: bytes = b""
    over_at_ms: int = 0

    def __repr__(self) -> str:
        """Return it as a failed wait shows it."""
        return f"workflow {self.id}"

    @property
    def over(self) -> bool:
        """Whether who waits for it is told something."""
        return bool(self.end)

    def field(self, name: str) -> bytes | None:
        """Return a field of its hash."""
        if name == "queues":
            return b" "  # in none of them is a member left that a cancel has to look for
        if name == "failed":
            return b"%d" % len(self.dead)
        value = getattr(self, name, None)
        return None if value is None else str(value).encode()


class MemoryFlows:
    """All workflows of a test.

    Args:
        accept: puts a job where jobs wait.
        now_ms: the instant by the test's clock, ms since 1970.
        waiting: how many jobs wait in a queue.
        cancel: cancels the members of a workflow that are not over.
    """

    def __init__(
        self,
        accept: Callable[[Call[Any]], object],
        now_ms: Callable[[], int],
        waiting: Callable[[str], int],
        cancel: Callable[[str], None],
    ) -> None:
        self._accept = accept
        self._now_ms = now_ms
        self._waiting = waiting
        self._cancel = cancel
        self._rest: dict[str, list[bytes]] = {}
        self._flows: dict[str, MemoryFlow] = {}
        self._answers: dict[str, Callable[[Operation[Any]], Any]] = {
            "GET": lambda _: None,  # what is handed on begins at once
            "HGET": self._fields,
            "HMGET": self._fields,
            "HSCAN": self._dead,
            "workflows/fill": self._fill,
            "workflows/start": self._start,
            "workflows/stop": self._stop,
            "register": lambda _: 1,
        }

    def find(self, workflow_id: str) -> MemoryFlow | None:
        """Return a workflow, if it is known, and not over for longer than its time."""
        flow = self._flows.get(workflow_id)
        if flow is None or (flow.over_at_ms and self._now_ms() >= flow.over_at_ms + flow.keep_ms):
            return None
        return flow

    def answers(self, operation: Operation[Any]) -> bool:
        """Whether it is a request that is about workflows."""
        if operation.script is None and not any(mark in str(operation.args[1]) for mark in _MARKS):
            return False
        return operation.name in self._answers

    def answer(self, operation: Operation[Any]) -> Any:
        """Answer such a request."""
        return self._answers[operation.name](operation)

    def clear(self) -> None:
        """Forget all of them."""
        self._flows.clear()
        self._rest.clear()

    def begin(self, steps: Flow[None]) -> None:
        """Start one, as a starter does."""
        answers: Any = None
        while True:
            try:
                asked = steps.send(answers)
            except StopIteration:
                return
            if isinstance(asked, list):
                answers = [one.parse(self.answer(one)) for one in asked]
            else:
                answers = asked.parse(self.answer(asked))

    def lost(self, job: bytes, reason: str, message: str, queue: str = "") -> None:
        """Note that a job, if it is a member, has ended without a consumer."""
        if (raw := wire.read_body(job).workflow) and (member := read_member(bytes(raw))):
            why = failure_of(reason, "", message, member.job_id, queue)
            self.ended(member, b"", why)

    def ended(self, member: Member, value: bytes, why: bytes) -> None:
        """Note a member's end, and open what waited for it, as ``note_end`` in Redis does."""
        flow, n = self._flows.get(member.id), member.n
        if flow is None or flow.state not in ("running", "failed") or n in flow.ended:
            return
        if not why and flow.size + len(value) > MAX_RESULTS:
            why = _TOO_LARGE
        if flow.dead.pop(n, None) is None:
            flow.running -= 1
        if why:
            flow.dead[n] = why
            if flow.policy == "stop":
                flow.state, flow.end = "failed", b'{"state":"dead","error":%b}' % why
                self._open_rest(flow, 2)
                return
            value = b'{"error":%b}' % why
        flow.ended.add(n)
        if value:
            flow.results[n] = value
        flow.size, flow.left = flow.size + len(value), flow.left - 1
        self._open_after(flow, n)
        self._open_rest(flow, 2)
        if not flow.left:
            value = _filled(_unpack(flow.last), flow.results)
            self._over(flow, "done", b'{"state":"done","value":%b}' % value)
        elif flow.state == "failed" and not flow.dead:
            flow.state, flow.end = "running", b""

    def _over(self, flow: MemoryFlow, state: str, end: bytes) -> None:
        flow.state, flow.end, flow.over_at_ms = state, end, self._now_ms()
        flow.rest.clear()

    def _open_after(self, flow: MemoryFlow, n: int) -> None:
        for first, last, others in flow.edges:
            for other in others if first <= n <= last else ():
                flow.needs[other] -= 1
                if not flow.needs[other]:
                    self._open(flow, flow.nodes.pop(other))

    def _open_rest(self, flow: MemoryFlow, most: int) -> None:
        for _ in range(min(most, len(flow.rest), flow.window - flow.running)):
            self._open(flow, flow.rest.popleft())

    def _open(self, flow: MemoryFlow, record: bytes) -> None:
        to, due, parts = _unpack(record)
        job = _filled(parts, flow.results)
        head, _ = wire.split(job) or (wire.Head(""), b"")
        flow.running += 1
        self._accept(Call(flow.queues[to], head.id, job, due, head.priority))

    def _fill(self, operation: Operation[Any]) -> int:
        (_, hash_, _), (before, _, *records) = operation.keys, operation.args
        if _id_of(hash_) in self._flows:
            return -1
        rest = self._rest.setdefault(hash_, [])
        if len(rest) == before:
            rest += records  # type: ignore[arg-type]
        return len(rest)

    def _start(self, operation: Operation[Any]) -> list[Any]:
        args: Any = operation.args
        workflow_id, count, policy, keep_ms, window, most, last, edges, bound, _, names = args[:11]
        queues, waiting = args[11 : 11 + names], args[11 + names :]
        for queue in queues if bound else ():
            if self._waiting(queue) + most > bound:
                return [b"full", self._waiting(queue)]
        if workflow_id in self._flows:
            return [b"exists"]
        numbers, needs, records = waiting[::3], waiting[1::3], waiting[2::3]
        flow = MemoryFlow(
            *(workflow_id, policy, keep_ms, window, last, _unpack(edges), [*queues]),
            rest=deque(self._rest.pop(operation.keys[0], ())),
            nodes=dict(zip(numbers, records, strict=True)),
            needs=dict(zip(numbers, needs, strict=True)),
            total=count + len(numbers),
            left=count + len(numbers),
        )
        self._flows[workflow_id] = flow
        self._open_rest(flow, most)
        return [b"ok"]

    def _stop(self, operation: Operation[Any]) -> bytes:
        flow = self.find(_id_of(operation.keys[0]))
        if flow is None:
            return b"unknown"
        before = flow.state
        if before in ("running", "failed"):
            self._over(flow, "cancelled", results.CANCELLED)
            self._cancel(flow.id)
        return before.encode()

    def _fields(self, operation: Operation[Any]) -> Any:
        name, key, *fields = map(str, operation.args)
        flow = self.find(_id_of(key))
        found = [None if flow is None else flow.field(one) for one in fields]
        return found if name == "HMGET" else found[0]

    def _dead(self, operation: Operation[Any]) -> Any:
        flow = self.find(_id_of(str(operation.args[1])))
        dead = () if flow is None else flow.dead.items()
        return b"0", [text for n, why in dead for text in (b"dead:%d" % n, why)]


def _filled(parts: Any, values: dict[int, bytes]) -> bytes:
    """Return a job's bytes, with the results that belong there: see ``filled`` in workflows/lib."""
    out: list[bytes] = []
    for part in parts:
        if isinstance(part, str):
            out.append(part.encode())
        elif isinstance(part, int):
            out.append(values.get(part, b"null"))
        else:
            found = [values.get(n, b"null") for a, b in part for n in range(a, b + 1)]
            out.append(b"[%b]" % b",".join(found))
    return b"".join(out)


def _id_of(key: str) -> str:
    return key.rpartition(":")[2]
