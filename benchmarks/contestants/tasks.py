"""What the jobs do, the same for every contestant; each in a sync and an async form."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from typing import Any, Final

from benchmarks import tally

ARGS: Final = (
    *(12345, "send_welcome_email", "ada.lovelace@example.org", "Welcome to the Analytical Society"),
    *("en_GB", "2026-11-24T09:00", 3),
)
"""Of ``nothing``. With them a job of Headrace is 180 bytes on the wire."""

MIB: Final = bytes(1 << 20)


def nothing(*_: object) -> None:
    tally.ran()


def wait(for_ms: int) -> None:
    time.sleep(for_ms / 1000)
    tally.ran()


def digest() -> None:
    hashlib.sha256(MIB).digest()
    tally.ran()


def stamp(due_ns: int) -> None:
    """Note how late it is: against the instant at which it was sent, or is due (monotonic)."""
    tally.ran(time.monotonic_ns() - due_ns)


async def anothing(*_: object) -> None:
    tally.ran()


async def await_(for_ms: int) -> None:
    await asyncio.sleep(for_ms / 1000)
    tally.ran()


async def adigest() -> None:
    digest()


async def astamp(due_ns: int) -> None:
    stamp(due_ns)


SYNC: Final[dict[str, Callable[..., Any]]] = {
    "nothing": nothing,
    "wait": wait,
    "digest": digest,
    "stamp": stamp,
}
ASYNC: Final[dict[str, Callable[..., Any]]] = {
    "nothing": anothing,
    "wait": await_,
    "digest": adigest,
    "stamp": astamp,
}
