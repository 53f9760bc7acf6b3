"""Every request to Redis as data: what to run, on which keys, and how to read the answer.

Each is written once; two thin stores run them, one that blocks and one that is awaited.

A *flow* is several requests in a row, each depending on the answers before: a generator that yields
operations and is sent their answers. A store's ``follow`` drives it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Literal, TypeAlias, TypeVar

from headrace import keys
from headrace.keys import Keys
from headrace.scripts import MAX_BYTES, MAX_ITEMS, Script, script

R = TypeVar("R")
Argument: TypeAlias = str | bytes | int | float
Flow: TypeAlias = Generator["Operation[Any]", Any, R]

CANCEL_REQUEST_TTL_MS: Final = 3_600_000
"""How long a running job can find out that it should stop; longer than any lease by far."""


@dataclass(frozen=True, slots=True)
class Operation(Generic[R]):
    """One request.

    Attributes:
        name: what it is called in logs and by fault-injecting stores.
        script: the script to run, or None for a plain command.
        keys: the keys it touches, all of them.
        args: its arguments; for a plain command the whole command, keys included.
        parse: turns the raw answer into what the caller wants.
        wait_s: how long Redis may block before it answers, seconds; added to the read timeout.
    """

    name: str
    script: Script | None
    keys: tuple[str, ...]
    args: tuple[Argument, ...]
    parse: Callable[[Any], R]
    wait_s: float = 0

    def command(self) -> tuple[Argument, ...]:
        """Give the command as it is sent: EVALSHA for a script."""
        if self.script is None:
            return self.args
        return ("EVALSHA", self.script.sha, len(self.keys), *self.keys, *self.args)


def _run(
    name: str, keys_used: Sequence[str], args: Iterable[Argument], parse: Callable[[Any], R]
) -> Operation[R]:
    return Operation(name, script(name), tuple(keys_used), tuple(args), parse)


def command(*args: Argument, parse: Callable[[Any], R], wait_s: float = 0) -> Operation[R]:
    """Describe a plain command, which changes no job's place."""
    return Operation(str(args[0]), None, (), args, parse, wait_s)


def _text(raw: Any) -> str:
    return raw.decode() if isinstance(raw, bytes) else str(raw)


def _texts(raw: Any) -> list[str]:
    return [_text(item) for item in raw]


def _is_one(raw: Any) -> bool:
    return bool(raw == 1)


def _nothing(_: Any) -> None:
    return None


# — producers —


@dataclass(frozen=True, slots=True)
class Enqueued:
    """What became of an enqueue.

    Attributes:
        word: ``ok``, ``full`` (nothing was enqueued) or ``exists`` (a job has that key already).
        existing_id: that job's id.
        waiting: how many jobs wait, when full.
    """

    word: str
    existing_id: str = ""
    waiting: int = 0


def _enqueued(raw: Any) -> Enqueued:
    word = _text(raw[0])
    if word == "exists":
        return Enqueued(word, existing_id=_text(raw[1]))
    return Enqueued(word, waiting=raw[1] if word == "full" else 0)


@dataclass(frozen=True, slots=True)
class Unique:
    """A key under which at most one job is enqueued while it lives.

    Attributes:
        key: the user's key.
        job_id: the id of the job that would take it.
        ttl_ms: how long it is kept.
    """

    key: str
    job_id: str
    ttl_ms: int


def enqueue(
    k: Keys,
    jobs: Sequence[bytes],
    *,
    due: str = "",
    max_pending: int = 0,
    unique: Unique | None = None,
) -> Operation[Enqueued]:
    """Accept jobs, all or none; ``due`` is "", "+ms" from now or "@ms" since 1970."""
    used = [k.pending, k.priority, k.delayed, k.nudge, k.stats]
    if unique is None:
        return _run("enqueue", used, (max_pending, due, "", 0, *jobs), _enqueued)
    used.append(k.unique(unique.key))
    return _run("enqueue", used, (max_pending, due, unique.job_id, unique.ttl_ms, *jobs), _enqueued)


def register(queue: str) -> Operation[None]:
    """Make a queue known, so that servers sweep it and show it."""
    return command("SADD", keys.QUEUES, queue, parse=_nothing)


def queues() -> Operation[list[str]]:
    """List the queues that producers and consumers have used."""
    return command("SMEMBERS", keys.QUEUES, parse=lambda raw: sorted(_texts(raw)))


# — consumers —


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a claim gave.

    Attributes:
        paused: the queue is paused.
        due_ms: until the next delayed job is due; None when there is none.
        jobs: the jobs' bytes, in the order in which they are to run.
    """

    paused: bool
    due_ms: int | None
    jobs: list[bytes]


def _claimed(raw: Any) -> Claimed:
    return Claimed(raw[0] == b"paused", int(raw[1]) if raw[1] != b"" else None, raw[2:])


def claim(k: Keys, count: int, *, lease_ms: int, consumer: str, first: int) -> Operation[Claimed]:
    """Claim up to ``count`` jobs; the i-th gets the claim number ``first + i``. Never re-sent."""
    used = (
        k.pending, k.processing, k.priority, k.delayed, k.leases, k.claims, k.nudge, k.stats, k.meta
    )  # fmt: skip
    return _run("claim", used, (min(count, MAX_ITEMS), lease_ms, consumer, first), _claimed)


AdoptAnswer = Literal["ok", "lost", "duplicate", "paused", "cancelled"]


def adopt(
    k: Keys, *, token: str, lease_ms: int, moved: bytes, job_id: str, job: bytes
) -> Operation[AdoptAnswer]:
    """Lease an item that stands in processing without one, and give it its canonical bytes."""
    used = (k.pending, k.processing, k.leases, k.claims, k.stats, k.meta, k.cancelled)
    parse: Callable[[Any], AdoptAnswer] = _text  # type: ignore[assignment]
    return _run("adopt", used, (token, lease_ms, moved, job_id, job), parse)


Verb = Literal["done", "retry", "park", "release", "dead", "drop", "cancel"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one claim ends.

    Attributes:
        job_id: the job's id.
        claim: the claim number; negative when its item is nearer to the old end of processing.
        verb: what happens to the job.
        delay_ms: for ``retry`` and ``park``: until it is due.
        job: for ``retry`` and ``park`` the job's new bytes, for ``dead`` the letter's.
        result_ttl_ms: how long ``result`` is kept for whoever waits for it; 0 not at all.
        result: how the job ended, encoded.
    """

    job_id: str
    claim: int
    verb: Verb
    delay_ms: int = 0
    job: bytes = b""
    result_ttl_ms: int = 0
    result: bytes = b""


def settle(k: Keys, consumer: str, outcomes: Sequence[Outcome]) -> Operation[list[str]]:
    """End claims; answers the ids that were lost. Sent again, it changes nothing."""
    used = [
        k.pending, k.processing, k.priority, k.delayed, k.dead, k.leases, k.claims, k.nudge, k.stats,
        k.cancelled,
    ]  # fmt: skip
    args: list[Argument] = [consumer]
    for o in outcomes:
        args += (o.job_id, o.claim, o.verb, o.delay_ms, o.job, o.result_ttl_ms, o.result)
        if o.result_ttl_ms:
            used.append(k.result(o.job_id))
    return _run("settle", used, args, _texts)


@dataclass(frozen=True, slots=True)
class Extended:
    """Which of the extended claims are lost, and which somebody wants cancelled (ids)."""

    lost: list[str]
    cancelled: list[str]


def extend(
    k: Keys, consumer: str, claims: Sequence[tuple[str, int]], *, lease_ms: int
) -> Operation[Extended]:
    """Move the deadlines of claims, given as id and claim number."""
    args: list[Argument] = [lease_ms, consumer]
    for job_id, number in claims:
        args += (job_id, number)
    return _run(
        "extend",
        (k.leases, k.claims, k.cancelled),
        args,
        lambda raw: Extended(_texts(raw[0]), _texts(raw[1])),
    )


def blocking_move(k: Keys, wait_s: float) -> Operation[bytes | None]:
    """Move the oldest pending job to processing, waiting for one. Never re-sent, never cancelled."""
    args = ("BLMOVE", k.pending, k.processing, "RIGHT", "LEFT", wait_s)
    return command(*args, parse=lambda raw: raw, wait_s=wait_s)


def await_nudge(nudges: Sequence[str], wait_s: float) -> Operation[bool]:
    """Wait for a hint that there may be work; answers whether one came."""
    return command("BLPOP", *nudges, wait_s, parse=lambda raw: raw is not None, wait_s=wait_s)


def claims_of(k: Keys, consumer: str) -> Flow[list[tuple[str, int]]]:
    """Find all claims of a consumer, as id and claim number: after a lost answer, or its death."""
    found: list[tuple[str, int]] = []
    cursor = "0"
    start = f"{consumer}:".encode()
    while True:
        page = command("HSCAN", k.claims, cursor, "COUNT", 100, parse=lambda raw: raw)
        cursor_raw, pairs = yield page
        items = (
            pairs.items() if isinstance(pairs, dict) else zip(pairs[::2], pairs[1::2], strict=True)
        )
        for job_id, value in items:
            if value.startswith(start):
                number = value[len(start) : value.index(b" ")]
                found.append((_text(job_id), int(number)))
        cursor = _text(cursor_raw)
        if cursor == "0":
            return found


# — maintenance —


@dataclass(frozen=True, slots=True)
class Promoted:
    """How many jobs fell due, and ms until the next does (None: none waits)."""

    moved: int
    due_ms: int | None


def promote(k: Keys, limit: int = MAX_ITEMS) -> Operation[Promoted]:
    """Move due delayed jobs to where they wait their turn."""
    used = (k.pending, k.priority, k.delayed, k.nudge, k.stats)
    return _run(
        "promote",
        used,
        (limit,),
        lambda raw: Promoted(raw[0], int(raw[1]) if raw[1] != b"" else None),
    )


@dataclass(frozen=True, slots=True)
class Reclaimed:
    """What a look at expired leases did.

    Attributes:
        quiet_ms: how much longer nothing is reclaimed, after sweeps were missing.
        back: how many jobs are runnable again.
        died: how many crashed too often.
    """

    quiet_ms: int = 0
    back: int = 0
    died: int = 0


def _reclaimed(raw: Any) -> Reclaimed:
    if raw[0] == b"quiet":
        return Reclaimed(quiet_ms=raw[1])
    return Reclaimed(back=raw[1], died=raw[2])


def reclaim(
    k: Keys, *, grace_ms: int, gap_ms: int, max_crashes: int, limit: int = 100
) -> Operation[Reclaimed]:
    """Make jobs with an expired lease runnable again."""
    used = (
        k.pending, k.processing, k.priority, k.dead, k.leases, k.claims, k.nudge, k.stats, k.meta,
        k.cancelled,
    )  # fmt: skip
    return _run("reclaim", used, (limit, grace_ms, gap_ms, max_crashes), _reclaimed)


@dataclass(frozen=True, slots=True)
class Swept:
    """How many bare items got a lease, and where the next step begins (0: the list is through)."""

    given: int
    next_offset: int


def sweep(
    k: Keys, *, bare_lease_ms: int, offset: int = 0, only_if_unequal: bool = True
) -> Operation[Swept]:
    """Give bare items of processing a lease."""
    args = (offset, MAX_ITEMS, bare_lease_ms, "if-unequal" if only_if_unequal else "all")
    return _run("sweep", (k.processing, k.leases, k.claims), args, lambda raw: Swept(*raw))


def lead(who: str, lease_ms: int) -> Operation[str]:
    """Take or keep the lead; 0 ms gives it up. Answers who leads."""
    return _run("lead", (keys.LEADER,), (who, lease_ms), _text)


# — operators and handles —


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A queue at one instant.

    Attributes:
        queue: its name.
        now_ms: the instant, by Redis' clock.
        pending: jobs that wait their turn in the list.
        priority: jobs that wait their turn by priority.
        delayed: jobs that wait for an instant.
        processing: jobs that are claimed.
        dead: dead letters.
        leases: claimed jobs with a lease.
        claims: claimed jobs with an owner, or leased by the sweep.
        paused: nothing is claimed.
        oldest: the first bytes of the pending job that has waited longest; b"" none.
        first_priority: the first bytes of the next prioritised job; b"" none.
        due_at_ms: when the next delayed job is due; None when there is none.
        counters: what happened to jobs so far, by name.
    """

    queue: str
    now_ms: int
    pending: int
    priority: int
    delayed: int
    processing: int
    dead: int
    leases: int
    claims: int
    paused: bool
    oldest: bytes
    first_priority: bytes
    due_at_ms: int | None
    counters: dict[str, int]

    @property
    def waiting(self) -> int:
        """Jobs that could be claimed now."""
        return self.pending + self.priority

    @property
    def foreign(self) -> int:
        """How many jobs plain clients brought (or, negative, took): the rest of the sum I3."""
        count = self.counters.get
        ended = count("done", 0) + count("cancel", 0) + count("drop", 0) + count("purged", 0)
        return (
            self.waiting + self.processing + self.delayed + self.dead + ended - count("enqueued", 0)
        )


def snapshot(k: Keys) -> Operation[Snapshot]:
    """Count every place of a queue at one instant."""
    used = (
        k.pending, k.processing, k.priority, k.delayed, k.dead, k.leases, k.claims, k.stats, k.meta
    )  # fmt: skip

    def parse(raw: Any) -> Snapshot:
        now, pending, priority, delayed, processing, dead, leases, claims, paused = raw[:9]
        pairs = raw[12]
        return Snapshot(
            queue=k.queue,
            now_ms=now,
            pending=pending,
            priority=priority,
            delayed=delayed,
            processing=processing,
            dead=dead,
            leases=leases,
            claims=claims,
            paused=paused == 1,
            oldest=raw[9],
            first_priority=raw[10],
            due_at_ms=int(raw[11]) if raw[11] != b"" else None,
            counters={
                _text(name): int(value) for name, value in zip(pairs[::2], pairs[1::2], strict=True)
            },
        )

    return _run("snapshot", used, (), parse)


def pause(k: Keys, *, paused: bool) -> Operation[bool]:
    """Pause or resume a queue; answers whether that changed anything."""
    return _run("pause", (k.meta, k.nudge), (int(paused),), _is_one)


def peek(key: str, start: int, stop: int) -> Operation[list[bytes]]:
    """Read a stretch of a list."""
    return command("LRANGE", key, start, stop, parse=lambda raw: raw)


def redrive(k: Keys, pairs: Sequence[tuple[bytes, bytes]]) -> Operation[int]:
    """Put dead letters back, given with the job that each becomes; answers how many."""
    used = (k.pending, k.priority, k.dead, k.nudge, k.stats)
    return _run("redrive", used, [part for pair in pairs for part in pair], int)


def purge(k: Keys, letters: Sequence[bytes]) -> Operation[int]:
    """Delete dead letters for good; answers how many were there."""
    return _run("purge", (k.dead, k.stats), letters, int)


CancelAnswer = Literal["cancelled", "requested", "absent"]


def cancel(
    k: Keys, job_id: str, job: bytes, *, result_ttl_ms: int = 0, result: bytes = b""
) -> Operation[CancelAnswer]:
    """Take out a waiting job, or ask a running one to stop."""
    used = (
        k.pending, k.processing, k.priority, k.delayed, k.claims, k.stats, k.cancelled, k.result(job_id)
    )  # fmt: skip
    parse: Callable[[Any], CancelAnswer] = _text  # type: ignore[assignment]
    args = (job_id, job, CANCEL_REQUEST_TTL_MS, result_ttl_ms, result)
    return _run("cancel", used, args, parse)


def await_result(k: Keys, job_id: str, wait_s: float) -> Operation[bytes | None]:
    """Wait for a job's end. The list has one element and is moved onto itself: it stays for others."""
    key = k.result(job_id)
    args = ("BLMOVE", key, key, "LEFT", "LEFT", wait_s)
    return command(*args, parse=lambda raw: raw, wait_s=wait_s)


def chunks(jobs: Sequence[bytes]) -> Iterable[Sequence[bytes]]:
    """Cut jobs into runs of at most 1,000 and about 1 MiB: what one call may carry."""
    start = size = 0
    for index, job in enumerate(jobs):
        if index > start and (index - start >= MAX_ITEMS or size + len(job) > MAX_BYTES):
            yield jobs[start:index]
            start, size = index, 0
        size += len(job)
    if start < len(jobs):
        yield jobs[start:]
