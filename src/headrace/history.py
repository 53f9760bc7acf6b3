"""The history of a job: its runs, kept beside its result, and never in its own bytes. Pure.

Its last run stands in how it ended. Those after which it was tried again stand in a list, written in
the step that has it tried again. Jobs whose result is not kept have none.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Final

import msgspec

MOST_RUNS: Final = 10
"""The last ones are kept; as in scripts/lib/tell.lua, with the one in the end."""


class Run(msgspec.Struct, frozen=True, omit_defaults=True):
    """One run of a job. Of one whose consumer was lost nothing is told: its delivery is missing.

    Attributes:
        consumer: which consumer ran it.
        started_at_ms: when it began, ms since 1970, about by Redis' clock …
        ended_at_ms: … and when it ended.
        outcome: what became of it: done, retry, dead, drop, cancel.
        delivery: how often the job had been handed out before.
        attempt: which attempt it was, from 1.
        error: the class of what it raised, or "" …
        message: … and what that said, cut to 200 characters.
    """

    consumer: str
    started_at_ms: int
    ended_at_ms: int
    outcome: str
    delivery: int = 0
    attempt: int = 1
    error: str = ""
    message: str = ""


class _End(msgspec.Struct, frozen=True):
    """What of a job's end, as ``results`` encodes it, tells of its last run."""

    run: Run | None = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Run).decode
_decode_end = msgspec.json.Decoder(_End).decode


def encode(run: Run) -> bytes:
    """Encode one run."""
    return _encode(run)


def with_run(end: bytes, run: Run) -> bytes:
    """Return the end of a job that tells of its last run, too."""
    return end[:-1] + b',"run":' + _encode(run) + b"}"


def last_of(end: bytes | None) -> Run | None:
    """Return the last run of a job that has ended so; None if that was not told."""
    return None if end is None else _decode_end(end).run


def of(listed: Iterable[bytes], last: Run | None) -> list[Run]:
    """Return the runs that a list holds, and the last one, oldest first."""
    runs = [] if last is None else [last]
    for raw in listed:
        with suppress(msgspec.MsgspecError, UnicodeDecodeError):  # somebody else wrote it
            runs.append(_decode(raw))
    # The end may be the older one: that of a dead job which was redriven.
    return sorted(runs, key=lambda run: run.delivery)[-MOST_RUNS:]
