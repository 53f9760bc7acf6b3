"""What ``headrace info`` shows: a server and its queues at one instant."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from headrace.cli.connection import server_json
from headrace.cli.output import Cell, Column, Line, Row, Table, cell_text, on_terminal
from headrace.doctor.humanize import counted, span
from headrace.operations import Snapshot
from headrace.store import ServerInfo

COUNTS: Final = (
    Column("Waiting"),
    Column("Processing"),
    Column("Delayed"),
    Column("Dead", "red"),
    Column("Done"),
)
"""The columns of ``counts_of``."""

_COLUMNS: Final = (
    Column("Queue", "bold", least=16),
    *COUNTS,
    Column("Oldest"),
    Column("", "yellow", least=6),
)
_MOST_DRAWN: Final = 100  # queues on a terminal


@dataclass(frozen=True, slots=True)
class Overview:
    """What was seen at one instant.

    Attributes:
        url: where, without its password.
        server: the server there.
        snapshots: its queues.
        before: what was seen of queues before that, if anything.
    """

    url: str
    server: ServerInfo
    snapshots: Sequence[Snapshot]
    before: Sequence[Snapshot] = ()

    def as_json(self) -> dict[str, Any]:
        """Return all of it for programs."""
        queues = [
            _figures(s) | {"foreign": s.foreign, "counters": s.counters} for s in self.snapshots
        ]
        now_ms = max((s.now_ms for s in self.snapshots), default=None)
        server = server_json(self.server)
        return {"now_ms": now_ms, "url": self.url, "server": server, "queues": queues}

    def lines(self, *, counters: bool) -> Iterator[Line]:
        """Write it for people; ``counters``: with all that happened so far, where that is drawn."""
        if not on_terminal():
            yield f"# {self.server_line()}"
            figures = [_figures(s) for s in self.snapshots]
            yield Table([Column(name) for name in figures[0]], [[*f.values()] for f in figures])
            return
        yield from (self.server_line(), "", self.table(), "")
        yield from self._remarks(counters=counters)

    def log_lines(self) -> Iterator[str]:
        """Write a line for each queue, for logs."""
        for s in self.snapshots:
            at = datetime.fromtimestamp(s.now_ms / 1000, UTC).isoformat(timespec="seconds")
            shown = (f"{name}={cell_text(value)}" for name, value in _figures(s).items())
            yield f"{at.replace('+00:00', 'Z')} {' '.join(shown)}"

    def server_line(self) -> str:
        """Say what the server is, and whether it keeps what it is given."""
        aof = "on" if self.server.aof_enabled else "OFF: jobs are lost when it crashes"
        line = f"{self.server} at {self.url}, append-only file {aof}"
        if (policy := self.server.maxmemory_policy) not in ("", "noeviction"):
            line += f", drops keys when memory is short ({policy})"
        return line

    def table(self) -> Table:
        """Return the queues for a terminal, with how fast they are where that is known."""
        columns, rows = list(_COLUMNS), [_row(s) for s in self._drawn()]
        if self.before:
            before = {s.queue: s for s in self.before}
            columns.insert(6, Column("Done/s"))
            for row, s in zip(rows, self._drawn(), strict=True):
                row.insert(6, _per_second(before.get(s.queue, s), s))
        return Table(columns, rows)

    def _drawn(self) -> Sequence[Snapshot]:
        """Choose what is drawn: where there are very many queues, those that hold the most."""
        if len(self.snapshots) <= _MOST_DRAWN:
            return self.snapshots
        return sorted(
            heapq.nlargest(_MOST_DRAWN, self.snapshots, key=lambda s: s.size), key=lambda s: s.queue
        )

    def _remarks(self, *, counters: bool) -> Iterator[str]:
        for s in self.snapshots if counters else ():
            shown = ", ".join(f"{name} {count:,}" for name, count in sorted(s.counters.items()))
            yield f"{s.queue} so far: {shown or 'nothing'}"
        if (left := len(self.snapshots) - _MOST_DRAWN) > 0:
            held = sum(s.size for s in self.snapshots) - sum(s.size for s in self._drawn())
            yield (
                f"And {counted(left, 'more queue')}, with {counted(held, 'job')}. "
                "All of them: headrace info | less"
            )
        if any(s.dead for s in self.snapshots):
            yield "Look at dead letters: headrace dlq list"
        if not any(s.counters or s.waiting or s.processing for s in self.snapshots):
            yield "No jobs yet. Enqueue one: headrace produce echo hello"


def _per_second(before: Snapshot, now: Snapshot) -> int:
    done = now.counters.get("done", 0) - before.counters.get("done", 0)
    return round(done * 1000 / max(1, now.now_ms - before.now_ms))


def _figures(s: Snapshot) -> dict[str, Cell]:
    count = s.counters.get
    return {
        "queue": s.queue,
        "waiting": s.waiting,
        "priority": s.priority,
        "processing": s.processing,
        "delayed": s.delayed,
        "limited": s.limited,
        "dead": s.dead,
        "enqueued": count("enqueued", 0),
        "done": count("done", 0),
        "retried": count("retry", 0),
        "oldest_s": s.oldest_s,
        "due_in_s": None if s.due_at_ms is None else max(0.0, (s.due_at_ms - s.now_ms) / 1000),
        "paused": s.paused,
    }


def counts_of(s: Snapshot) -> Row:
    """Return how many jobs of a queue are where, and how many are done."""
    return [s.waiting, s.processing, s.delayed, s.dead, s.counters.get("done", 0)]


def _row(s: Snapshot) -> list[Cell]:
    remarks = ["paused"] if s.paused else []
    if s.due_at_ms is not None:
        left_s = (s.due_at_ms - s.now_ms) / 1000
        remarks.append(f"due in {span(left_s)}" if left_s > 0 else "due")
    if s.limited:
        remarks.append(f"{s.limited:,} limited")
    oldest = "" if s.oldest_s is None else span(s.oldest_s)
    return [s.queue, *counts_of(s), oldest, ", ".join(remarks)]
