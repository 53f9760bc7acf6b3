"""The protocol in plain Python: what each transition does to a queue, on the same bytes.

Times are ms of a clock that moves only where a test moves it. Lists begin with the item that goes
next, or has been there longest; Redis has it on the right.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha1
from typing import Any

from headrace import operations as op
from headrace import wire


def id_of(job: bytes) -> str | None:
    """Give a job's id; None when it is bare."""
    parts = wire.split(job)
    return parts[0].id if parts else None


def returned(job: bytes, crash: int) -> tuple[bytes, int]:
    """Give a job as it goes back from processing, and its crashes so far."""
    parts = wire.split(job)
    assert parts
    head = replace(parts[0], delivery=parts[0].delivery + 1, crashes=parts[0].crashes + crash)
    return wire.join(head, parts[1]), head.crashes


def crash_letter(job: bytes, owner: str, crashes: int) -> bytes | None:
    """Give the dead letter of a job that lost its consumers; None when it is no JSON object."""
    said = f"its consumer was lost {crashes} times while it ran"
    error = (
        f',"error":{{"reason":"crashed","type":"","message":"{said}","traceback":"","failed_at":0,'
        f'"consumer":"{owner.partition(":")[0]}"}}}}'
    )
    body = re.fullmatch(rb"(.*)}\s*", job, re.DOTALL)
    return body[1] + error.encode() if body else None


def take(items: list[bytes], job: bytes, *, oldest: bool = False) -> bool:
    """Remove one of the equal items, as LREM does; tell whether there was one."""
    if job not in items:
        return False
    del items[items.index(job) if oldest else len(items) - 1 - items[::-1].index(job)]
    return True


@dataclass
class Lease:
    """A lease by id: who holds it (a token, or "-": the sweep gave it), for which bytes, until when."""

    owner: str
    job: bytes
    deadline: int


@dataclass
class Model:
    """One queue. The attributes are the places of the protocol; ``bare`` the leases without an id."""

    now: int = 0
    pending: list[bytes] = field(default_factory=list)
    processing: list[bytes] = field(default_factory=list)
    dead: list[bytes] = field(default_factory=list)
    delayed: dict[bytes, int] = field(default_factory=dict)
    priority: dict[bytes, int] = field(default_factory=dict)
    leases: dict[str, Lease] = field(default_factory=dict)
    bare: dict[bytes, list[int]] = field(default_factory=dict)
    cancelled: dict[str, int] = field(default_factory=dict)
    unique: dict[str, str] = field(default_factory=dict)
    results: dict[str, bytes] = field(default_factory=dict)
    expiry: dict[str, int] = field(default_factory=dict)
    stats: Counter[str] = field(default_factory=Counter)
    paused: bool = False
    swept: int | None = None
    quiet: int = 0
    foreign: int = 0  # jobs that plain clients brought, less those that they took
    taken: Counter[bytes] = field(default_factory=Counter)  # what they took out of processing

    def state(self) -> dict[str, Any]:
        """Give what is to be found in Redis."""
        plain = "pending processing dead delayed priority cancelled unique results paused swept quiet"
        return {name: getattr(self, name) for name in plain.split()} | {
            "leases": {i: (held.owner, held.job, held.deadline) for i, held in self.leases.items()},
            "bare": {job: sorted(deadlines) for job, deadlines in self.bare.items()},
            "stats": {name: count for name, count in self.stats.items() if count},
        }

    def advance(self, ms: int) -> None:
        self.now += ms
        for name, at in list(self.expiry.items()):
            if at <= self.now:
                kind, _, rest = name.partition(":")
                getattr(self, kind).pop(rest, None) if rest else getattr(self, kind).clear()
                del self.expiry[name]

    def enqueue(self, jobs: Sequence[bytes], delay: int, bound: int = 0, key: str = "") -> str:
        if key in self.unique:
            return "exists"
        waiting = len(self.pending) + len(self.priority) + len(self.delayed)
        if bound and waiting + len(jobs) > bound:
            return "full"
        if key:
            self.unique[key] = id_of(jobs[0]) or ""
        for job in jobs:
            if delay > 0:
                self._sort_in(self.delayed, job, self.now + delay)
            else:
                self._place(job)
        self.stats["enqueued"] += len(jobs)
        return "ok"

    def claim(self, count: int, lease: int, consumer: str, first: int) -> list[bytes]:
        if self.paused:
            return []
        sorted_in = sorted(self.priority, key=lambda job: (self.priority[job], job))
        before = [job for job in sorted_in if self.priority[job] < 0]
        got = [*before, *self.pending, *sorted_in[len(before) :]][:count]
        for n, job in enumerate(got):
            if self.priority.pop(job, None) is None:
                self.pending.pop(0)
            while id_of(got[n]) in self.leases:
                got[n] = self._renamed(got[n])
            if job_id := id_of(got[n]):
                self.leases[job_id] = Lease(f"{consumer}:{first + n}", got[n], self.now + lease)
        self.processing += got
        return got

    def adopt(self, token: str, lease: int, moved: bytes, job_id: str, job: bytes) -> str:
        held = self.leases.get(job_id)
        mine = held is not None and held.owner == token
        if held and not mine and (held.owner, held.job) != ("-", moved):
            others = self.processing.count(moved) - (held.job == moved)
            return "duplicate" if others > 0 else "lost"
        present = held.job if held and mine else moved
        if present not in self.processing:
            return "lost"
        stop = job_id in self.cancelled
        if not mine and (self.paused or stop):
            take(self.processing, moved)
            self.leases.pop(job_id, None)
            if stop:
                self.stats["cancel"] += 1
            else:
                self.pending.insert(0, moved)
            self._take_over(moved)
            return "cancelled" if stop else "paused"
        if present != job:
            take(self.processing, present)
            self.processing.append(job)
        self.leases[job_id] = Lease(token, job, self.now + lease)
        if not mine:
            self._take_over(moved)
        return "ok"

    def settle(self, consumer: str, outcomes: Sequence[op.Outcome]) -> list[str]:
        lost = []
        for i, outcome in enumerate(outcomes):
            job_id, verb = outcome.job_id, outcome.verb
            held = self.leases.get(job_id)
            seen = any(other.job_id == job_id for other in outcomes[:i])
            if seen or held is None or held.owner != f"{consumer}:{abs(outcome.claim)}":
                lost.append(job_id)
                continue
            del self.leases[job_id]
            if not take(self.processing, held.job, oldest=outcome.claim < 0):
                lost.append(job_id)
                continue
            if verb in {"retry", "park", "release"} and job_id in self.cancelled:
                verb = "cancel"
            if verb == "dead":
                self.dead.append(outcome.job)
            elif verb == "release":
                self._place(returned(held.job, 0)[0], front=True)
            elif verb in {"retry", "park"} and outcome.delay_ms:
                self._sort_in(self.delayed, outcome.job, self.now + outcome.delay_ms)
            elif verb in {"retry", "park"}:
                self._place(outcome.job)
            if verb != "cancel":
                self.cancelled.pop(job_id, None)
            self.stats[verb] += 1
            self._tell(job_id, outcome.result, outcome.result_ttl_ms)
        self.stats["lost"] += len(lost)
        return lost

    def extend(self, consumer: str, claims: Sequence[tuple[str, int]], lease: int) -> list[str]:
        lost = []
        for job_id, number in claims:
            held = self.leases.get(job_id)
            if held and held.owner == f"{consumer}:{number}":
                held.deadline = self.now + lease
            else:
                lost.append(job_id)
        return lost

    def promote(self, limit: int) -> list[bytes]:
        due = sorted((at, job) for job, at in self.delayed.items() if at <= self.now)[:limit]
        for _, job in due:
            self._place(job)
            del self.delayed[job]
        return [job for _, job in due]

    def sweep(self, lease: int, offset: int = 0, *, only_if_unequal: bool = False) -> int:
        given, seen = 0, Counter[bytes]()
        if only_if_unequal and len(self.processing) == self.leased():
            return 0
        for job in self.processing[offset:]:
            seen[job] += 1
            job_id = id_of(job)
            copies = seen[job] if job_id else self.processing.count(job)
            while self.leased(job) < copies:
                given += 1
                if job_id and job_id not in self.leases:
                    self.leases[job_id] = Lease("-", job, self.now + lease)
                else:
                    self.bare.setdefault(job, []).append(self.now + lease)
        return given

    def reclaim(self, limit: int, grace: int, gap: int, max_crashes: int) -> op.Reclaimed:
        if self.swept is None or self.now - self.swept > gap:
            self.quiet = self.now + grace
        self.swept = self.now
        if self.now < self.quiet:
            return op.Reclaimed(quiet_ms=self.quiet - self.now)
        before = self.stats["reclaimed"], self.stats["dead"]
        for _, _, job_id, job in sorted(self._expired(), key=lambda entry: entry[:2])[:limit]:
            if sum((self.stats["reclaimed"], self.stats["dead"])) - sum(before) >= limit:
                break
            if job_id in self.leases:
                held = self.leases.pop(job_id)
                if job in self.processing:
                    self._give_back(job, held.owner, max_crashes)
            elif not job_id and self._drop_bare(job):
                self._give_back(job, "-", max_crashes)
        return op.Reclaimed(
            back=self.stats["reclaimed"] - before[0], died=self.stats["dead"] - before[1]
        )
