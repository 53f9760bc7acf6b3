"""The protocol in plain Python: what each transition does to a queue, on the same bytes.

Times are ms of a clock that moves only where a test moves it. Lists begin with the item that goes
next, or has been there longest; Redis has it on the right.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from copy import copy
from dataclasses import astuple, dataclass, field
from hashlib import sha1
from typing import Any

from headrace import operations as op
from headrace import wire

KEY_TTL = 10 * 3_600_000  # ms
WEEK = 7 * 24 * 3_600_000  # ms: when a key is forgotten whose job a plain client took
ENDED = -1  # the deadline of a lease that was ended; Redis has 0


def id_of(job: bytes) -> str | None:
    """Give a job's id; None when it is bare."""
    parts = wire.split(job)
    return parts[0].id if parts else None


def returned(job: bytes, crash: int) -> tuple[bytes, int]:
    """Give a job as it goes back from processing, and its crashes so far."""
    parts = wire.split(job)
    assert parts
    head = parts[0]._replace(delivery=parts[0].delivery + 1, crashes=parts[0].crashes + crash)
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
    """Who holds it (a token, or "-": the sweep gave it), for which bytes, until when."""

    owner: str
    job: bytes
    deadline: int


@dataclass
class Model:
    """One queue: the places of the protocol, and its leases by id, or by digest and ordinal."""

    now: int = 0
    pending: list[bytes] = field(default_factory=list)
    processing: list[bytes] = field(default_factory=list)
    dead: list[bytes] = field(default_factory=list)
    delayed: dict[bytes, int] = field(default_factory=dict)  # due
    priority: dict[bytes, int] = field(default_factory=dict)  # -priority
    leases: dict[str, Lease] = field(default_factory=dict)
    cancelled: dict[str, int] = field(default_factory=dict)
    unique: dict[str, str] = field(default_factory=dict)
    results: dict[str, bytes] = field(default_factory=dict)
    ends: dict[tuple[str, str], int] = field(default_factory=dict)  # when a key expires
    stats: Counter[str] = field(default_factory=Counter)
    paused: bool = False
    swept: int | None = None
    quiet: int = 0
    foreign: int = 0  # jobs that plain clients brought, less those that they took
    taken: Counter[bytes] = field(default_factory=Counter)  # what they took out of processing

    def state(self) -> dict[str, Any]:
        """Give what is to be found in Redis."""
        names = (
            "pending processing dead delayed priority cancelled unique results paused swept quiet"
        )
        return {name: copy(getattr(self, name)) for name in names.split()} | {
            "leases": {name: astuple(lease) for name, lease in self.leases.items()},
            "stats": {name: count for name, count in self.stats.items() if count},
        }

    def leased(self, job: bytes) -> int:
        """Count the leases of equal items."""
        return sum(lease.job == job for lease in self.leases.values())

    def advance(self, ms: int) -> None:
        self.now += ms
        for (kind, name), at in list(self.ends.items()):
            if at <= self.now:
                kept = getattr(self, kind)
                kept.pop(name, None) if name else kept.clear()
                del self.ends[kind, name]

    def enqueue(
        self, jobs: Sequence[bytes], delay: int, bound: int = 0, key: str = "", ttl: int = KEY_TTL
    ) -> str:
        if key in self.unique:
            return "exists"
        waiting = len(self.pending) + len(self.priority) + len(self.delayed)
        if bound and waiting + len(jobs) > bound:
            return "full"
        if key:
            self.unique[key] = str(id_of(jobs[0]))
            self.ends["unique", key] = self.now + (ttl or max(0, delay) + WEEK)
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
        by_priority = sorted((score, job) for job, score in self.priority.items())
        waiting: list[tuple[bytes, Any]] = [
            (job, self.priority) for score, job in by_priority if score < 0
        ]
        waiting += [(job, self.pending) for job in self.pending]
        waiting += [(job, self.priority) for score, job in by_priority if score > 0]
        got = []
        for number, (job, place) in enumerate(waiting[:count], first):
            place.pop(job if place is self.priority else 0)
            while (job_id := id_of(job)) in self.leases:
                job = self._renamed(job)
            if job_id:
                self.leases[job_id] = Lease(f"{consumer}:{number}", job, self.now + lease)
            got.append(job)
        self.processing += got
        return got

    def adopt(
        self,
        token: str,
        lease: int,
        moved: bytes,
        job_id: str,
        job: bytes,
        begun: bool | int = False,
    ) -> str:
        held = self.leases.get(job_id)
        mine = held is not None and held.owner == token
        twin = self.leases.get(id_of(moved) or "")
        owned = twin is not None and twin.owner != "-" and twin.job == moved
        if not mine and self.processing.count(moved) <= owned:
            return "lost"
        if held and not mine and (held.owner, held.job) != ("-", moved):
            return "duplicate"
        present = held.job if held and mine else moved
        if present not in self.processing:
            return "lost"
        answer = "cancelled" if job_id in self.cancelled else "paused" if self.paused else "ok"
        if mine or begun or answer == "ok":
            if present != job:
                take(self.processing, present)
                self.processing.append(job)
            self.leases[job_id] = Lease(token, job, self.now + lease)
            answer = "ok"
        else:
            take(self.processing, moved)
            if answer == "cancelled":
                self.stats["cancel"] += 1
                self._release(job)
            else:
                self.pending.insert(0, moved)
        given = held is None or answer != "ok"  # else its lease was the sweep's, and is ours now
        if given and self.leased(moved) > self.processing.count(moved):
            self._drop_given(moved)
        return answer

    def settle(self, consumer: str, outcomes: Sequence[op.Outcome]) -> list[str]:
        lost: list[str] = []
        over: set[str | None] = set()
        for outcome in outcomes:
            job_id, verb = outcome.job_id, outcome.verb
            held = self.leases.get(job_id)
            if held is None or held.owner != f"{consumer}:{abs(outcome.claim)}":
                lost.append(job_id)
                continue
            del self.leases[job_id]
            if not take(self.processing, held.job, oldest=outcome.claim < 0):
                lost.append(job_id)
                over.add(job_id)
                continue
            if verb in {"retry", "park", "release"} and job_id in self.cancelled:
                verb = "cancel"
            if verb not in {"retry", "park", "release"}:
                over.add(job_id)
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
            if outcome.verb != "retry":  # which tells of a run: the job has not ended
                self._tell(job_id, outcome.result, outcome.result_ttl_ms)
        # A key names an id: of two jobs of one id, one has got another since.
        for key in {outcome.key for outcome in outcomes}:
            if self.unique.get(key) in over:
                self._forget_key(key)
        self.stats["lost"] += len(lost)
        return lost

    def extend(self, consumer: str, claims: Sequence[tuple[str, int]], lease: int) -> list[str]:
        lost = []
        for job_id, number in claims:
            held = self.leases.get(job_id)
            if held and held.owner == f"{consumer}:{number}":
                held.deadline = self.now + lease if lease else ENDED
            else:
                lost.append(job_id)
        return lost

    def promote(self, limit: int) -> int:
        due = sorted((at, job) for job, at in self.delayed.items() if at <= self.now)[:limit]
        for _, job in due:
            self._place(job)
            del self.delayed[job]
        return len(due)

    def sweep(self, lease: int, offset: int = 0, *, only_if_unequal: bool = False) -> int:
        given = 0
        seen: Counter[bytes] = Counter()
        if only_if_unequal and len(self.processing) == len(self.leases):
            return 0
        for job in self.processing[offset:]:
            seen[job] += 1
            job_id = id_of(job)
            copies = seen[job] if job_id else self.processing.count(job)
            while not job_id and self._bare(job) > copies:  # a plain LREM: the last lease goes
                del self.leases[self._bare_name(job, self._bare(job))]
            while self.leased(job) < copies:
                named = job_id is not None and job_id not in self.leases
                name = job_id if job_id and named else self._bare_name(job, self._bare(job) + 1)
                self.leases[name] = Lease("-", job, self.now + lease)
                given += 1
        return given

    def reclaim(
        self, limit: int, grace: int, gap: int, max_crashes: int, rested: int | None = None
    ) -> op.Reclaimed:
        swept = max([at for at in (self.swept, rested) if at is not None], default=None)
        if swept is None or self.now - swept > gap or swept > self.now:
            self.quiet = self.now + grace
        self.swept = self.now
        past = ENDED if self.now < self.quiet else self.now
        words: Counter[str] = Counter()
        expired = [(held.deadline, n) for n, held in self.leases.items() if held.deadline <= past]
        for _, name in sorted(expired)[:limit]:
            while words["reclaimed"] + words["dead"] < limit and name in self.leases:
                held = self.leases[name]
                if held.deadline > past:
                    break
                if name.startswith("~"):
                    # Equal items are alike: none of them expired while there are more leases.
                    named = self.leased(held.job) - self._bare(held.job)
                    surplus = self.processing.count(held.job) - named < self._bare(held.job)
                    self._drop_bare(held.job, name)
                else:
                    del self.leases[name]
                    surplus = held.job not in self.processing
                word = "gone" if surplus else self._give_back(held, max_crashes)
                words[word] += 1
                # With a digest, another job of this id is there as well.
                if word != "reclaimed" and name == id_of(held.job):
                    self._release(held.job)
        self.stats["reclaimed"] += words["reclaimed"]
        self.stats["dead"] += words["dead"]
        quiet_ms = max(0, self.quiet - self.now)
        return op.Reclaimed(quiet_ms, words["reclaimed"], words["dead"])

    def redrive(self, pairs: Sequence[tuple[bytes, bytes]]) -> int:
        moved = 0
        for letter, job in pairs:
            if take(self.dead, letter):
                self._place(job)
                self.results.pop(id_of(letter) or "", None)
                moved += 1
        self.stats["redriven"] += moved
        return moved

    def purge(self, letters: Sequence[bytes]) -> int:
        purged = sum(take(self.dead, letter) for letter in letters)
        self.stats["purged"] += purged
        return purged

    def cancel(self, job_id: str, job: bytes, result: bytes, result_ttl: int) -> str:
        if job_id in self.leases or job in self.processing:
            answer = "requested"
        elif taken := self._take_waiting(job):
            answer = "cancelled"
            self.stats["cancel"] += taken
            self._tell(job_id, result, result_ttl)
            self._release(job)
        else:
            return "absent"
        self._remember(job_id)
        return answer

    def copies(self, job_id: str) -> int:
        """Count the jobs of an id, wherever they are."""
        places = (self.pending, self.processing, self.dead, self.delayed, self.priority)
        return sum(id_of(job) == job_id for place in places for job in place)

    def replace(self, job: bytes, key: str, mode: str, delay: int) -> tuple[str, str]:
        """Let a job come in under a key; of who has it there is one at most."""
        other = self.unique.get(key, "")
        waiting = [job for job in self._waiting() if id_of(job) == other]
        if other and other not in self.leases and waiting:
            if mode == "debounce" and waiting[0] in self.delayed:
                self.delayed[waiting[0]] = self.now + delay
                self.ends["unique", key] = self.now + delay + WEEK
            if mode == "debounce":
                return "exists", other
            self._take_waiting(waiting[0])
            self._remember(other)
            self.stats.update(("cancel", "replaced"))
        if other:
            self._forget_key(key)
        return self.enqueue([job], delay, key=key, ttl=0), ""

    def _waiting(self) -> list[bytes]:
        return [*self.pending, *self.delayed, *self.priority]

    def _remember(self, job_id: str) -> None:
        oldest = self.now - op.CANCEL_REQUEST_TTL_MS
        self.cancelled = {i: at for i, at in self.cancelled.items() if at > oldest}
        self.cancelled[job_id] = self.now
        self.ends["cancelled", ""] = self.now + op.CANCEL_REQUEST_TTL_MS

    def find(self, job: bytes) -> op.Found:
        job_id = id_of(job) or ""
        places: list[tuple[Any, bool]] = [
            ("processing", job_id in self.leases),
            ("delayed", job in self.delayed),
            ("pending", job in self.priority or job in self.pending),
            ("processing", job in self.processing),
            ("ended", job_id in self.results),
            ("cancelled", job_id in self.cancelled),
        ]
        word: Any = next((word for word, there in places if there), "unknown")
        return op.Found(word, self.results[job_id] if word == "ended" else b"")

    def push(self, job: bytes) -> None:
        """A plain LPUSH."""
        self.pending.append(job)
        self.foreign += 1

    def move(self) -> bytes | None:
        """A plain LMOVE from pending to processing."""
        if self.pending:
            self.processing.append(self.pending.pop(0))
            return self.processing[-1]
        return None

    def remove(self, job: bytes) -> bool:
        """A plain LREM of one item in processing."""
        if not take(self.processing, job):
            return False
        self.foreign -= 1
        self.taken[job] += 1
        return True

    def _release(self, job: bytes) -> None:
        """Free the key of a job that is over, if it names that job."""
        parts = wire.split(job)
        if parts and parts[0].key and self.unique.get(parts[0].key) == parts[0].id:
            self._forget_key(parts[0].key)

    def _forget_key(self, key: str) -> None:
        del self.unique[key], self.ends["unique", key]

    def _take_waiting(self, job: bytes) -> int:
        taken = sum(p.pop(job, None) is not None for p in (self.delayed, self.priority))
        return taken or take(self.pending, job)

    def _place(self, job: bytes, *, front: bool = False) -> None:
        parts = wire.split(job)
        if parts and parts[0].priority:
            self._sort_in(self.priority, job, -parts[0].priority)
        elif front:
            self.pending.insert(0, job)
        else:
            self.pending.append(job)

    def _sort_in(self, place: dict[bytes, int], job: bytes, score: int) -> None:
        while job in place:
            job = self._renamed(job)
        place[job] = score

    def _renamed(self, job: bytes) -> bytes:
        parts = wire.split(job)
        assert parts
        self.stats["renamed"] += 1
        job_id = f"{parts[0].id[:100]}.{self.stats['renamed']}"
        return wire.join(parts[0]._replace(id=job_id), parts[1])

    def _give_back(self, held: Lease, max_crashes: int) -> str:
        """Make an item runnable again whose lease has expired; answers what is counted."""
        self.processing.remove(held.job)
        job_id = id_of(held.job)
        if job_id is None:
            self.pending.append(held.job)
            return "reclaimed"
        if job_id in self.cancelled:
            self.stats["cancel"] += 1
            return "cancel"
        job, crashes = returned(held.job, 1)
        letter = crash_letter(job, held.owner, crashes) if crashes >= max_crashes else None
        if letter:
            self.dead.append(letter)
            return "dead"
        self._place(job)
        return "reclaimed"

    def _bare_name(self, job: bytes, ordinal: int) -> str:
        return f"~{sha1(job, usedforsecurity=False).hexdigest()}:{ordinal}"

    def _bare(self, job: bytes) -> int:
        """Count the leases that equal items have by their digest."""
        return sum(n[0] == "~" for n, lease in self.leases.items() if lease.job == job)

    def _drop_bare(self, job: bytes, name: str = "") -> None:
        """Drop a numbered lease, or the last one; the last takes its place, so there are no gaps."""
        last = self.leases.pop(self._bare_name(job, self._bare(job)))
        if name in self.leases:
            self.leases[name] = last

    def _drop_given(self, job: bytes) -> None:
        """Drop the lease that the sweep gave to an item which has another now."""
        job_id = id_of(job) or ""
        if self._bare(job):
            self._drop_bare(job)
        elif job_id in self.leases and (self.leases[job_id].owner, job) == (
            "-",
            self.leases[job_id].job,
        ):
            del self.leases[job_id]

    def _tell(self, job_id: str, result: bytes, ttl: int) -> None:
        if ttl:
            self.results[job_id], self.ends["results", job_id] = result, self.now + ttl
