"""What producers ask of Redis."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from headrace import keys
from headrace.keys import Keys
from headrace.operations.request import Operation, command, nothing, run, text

log: logging.Logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Enqueued:
    """What became of an enqueue.

    Attributes:
        word: ``ok``, ``full`` (nothing was enqueued) or ``exists`` (a job has that key already).
        existing_id: that job's id.
        waiting: how many jobs wait, when full.
        new: nothing had been counted in this queue: it is new, or was forgotten.
    """

    word: str
    existing_id: str = ""
    waiting: int = 0
    new: bool = field(default=False, compare=False)


_OK: Final = Enqueued("ok")
_NEW: Final = Enqueued("ok", new=True)


def _pushed(raw: Any) -> Enqueued:
    return _NEW if raw == 2 else _OK


def enqueued(raw: Any) -> Enqueued:
    """Read the answer of a script that accepts jobs under a bound, or a key."""
    word = text(raw[0])
    if word == "exists":
        return Enqueued(word, existing_id=text(raw[1]))
    if word == "full":
        return Enqueued(word, waiting=raw[1])
    return _pushed(raw[1] + 1)


@dataclass(frozen=True, slots=True)
class Unique:
    """A key that one job has at a time.

    Attributes:
        key: the key, as ``keys.unique`` has it.
        job_id: the id of the job that would take it.
        ttl_ms: how long it is kept, whatever becomes of the job; 0 until the job ends.
    """

    key: str
    job_id: str
    ttl_ms: int


def push(k: Keys, jobs: Sequence[bytes]) -> Operation[Enqueued]:
    """Accept jobs for now that have no priority and no key, all or none."""
    return run("push", (k.pending, k.stats), jobs, _pushed)


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
        return run("enqueue", used, (max_pending, due, "", 0, *jobs), enqueued)
    used.append(k.unique(unique.key))
    return run("enqueue", used, (max_pending, due, unique.job_id, unique.ttl_ms, *jobs), enqueued)


def confirmation(k: Keys, count: int, timeout_s: float) -> list[Operation[Any]]:
    """Ask, right after enqueues and on their connection, whether so many replicas have the jobs.

    The last answer is how many do. WAIT is about a connection's last write: so there is one that
    changes nothing, for whoever is told that its job is there already has written nothing, and that
    job may not be replicated yet.
    """
    timeout_ms = max(1, round(timeout_s * 1000))  # 0 would be without end
    written = command("HINCRBY", k.stats, "enqueued", 0, parse=nothing)
    return [written, command("WAIT", count, timeout_ms, parse=int, wait_s=timeout_s)]


def register(queue: str) -> Operation[int]:
    """Make a queue known, so that servers sweep it and show it; return 1 when it was not, else 0."""
    return run("register", (keys.QUEUES,), (queue,), int)


_passed_over: Final[set[bytes]] = set()  # names that were told of in this process


def _names(raw: Any) -> list[str]:
    """Read the names of queues. Anybody may have put there what can be none: it is passed over."""
    bad = {name for name in raw if not _is_name(name)}
    for name in sorted(bad - _passed_over):
        shown = name.decode(errors="backslashreplace")
        log.warning(
            "%s lists %r, which cannot be a queue's name: it is passed over (headrace doctor)",
            keys.QUEUES,
            shown[:100],
        )
    _passed_over.update(bad)
    return sorted(text(name) for name in raw if name not in bad)


def _is_name(raw: bytes) -> bool:
    try:
        return keys.is_name(raw.decode())
    except UnicodeDecodeError:
        return False


def queues() -> Operation[list[str]]:
    """List the queues that producers and consumers have used, and tell of names that are not valid."""
    return command("SMEMBERS", keys.QUEUES, parse=_names)
