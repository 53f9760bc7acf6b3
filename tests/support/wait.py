"""The tests' one answer to time: wait for a condition, with bounds that fit the machine.

A bound costs time only when a test fails, so each is generous, and none is tuned: all are multiplied
by one factor, ``PATIENCE``, which is measured once when the tests start. HEADRACE_TEST_PATIENCE sets
it instead: 1 for bounds as they are on a quiet machine, less to see failures sooner.

What is claimed of durations is claimed by the simulation, which has a clock of its own.
"""

from __future__ import annotations

import asyncio
import inspect
import linecache
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")

PATIENCE_VARIABLE = "HEADRACE_TEST_PATIENCE"
POLL_S = 0.005
_POLL_AT_MOST_S = 0.02  # between two looks of a long wait: hundreds of tests look, on few cores

# At least so much more than on a quiet machine: others may come while the tests run. And at most so
# much: a test that fails is to end.
_LEAST, _MOST = 3.0, 15.0
# What `_work` takes on a quiet machine with cores of 2.5 GHz.
_REFERENCE_S = 0.05


def _work() -> int:
    return sum(i * i % 7 for i in range(700_000))


def _measure() -> float:
    """Measure how much slower this machine is than the reference, by its speed and by its load."""
    since = time.perf_counter()
    _work()
    slowness = (time.perf_counter() - since) / _REFERENCE_S
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    return min(_MOST, _LEAST * max(1.0, slowness, load))


PATIENCE = float(os.environ.get(PATIENCE_VARIABLE) or _measure())


def bound(quiet_s: float) -> float:
    """Return a bound for this machine, of one for a quiet machine; seconds."""
    return quiet_s * PATIENCE


WAIT_S = bound(20.0)
"""How long anything that a test waits for may take: the longest takes 10 s on a quiet machine."""


def wait_until(
    predicate: Callable[[], T],
    what: str = "",
    *,
    within_s: float = WAIT_S,
) -> T:
    """Poll until the predicate returns something true, and return that.

    Args:
        predicate: the condition.
        what: what is waited for; by default the predicate's own source.
        within_s: a longer bound, for what is long: see ``bound``.
    """
    what = what or _source(predicate)
    deadline, pause_s = time.monotonic() + within_s, POLL_S
    while not (value := predicate()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s:.0f} s: {what}")
        time.sleep(pause_s)
        pause_s = min(_POLL_AT_MOST_S, 1.1 * pause_s)
    return value


@overload
async def await_until(
    predicate: Callable[[], Awaitable[T]], what: str = ..., *, within_s: float = ...
) -> T: ...
@overload
async def await_until(
    predicate: Callable[[], T], what: str = ..., *, within_s: float = ...
) -> T: ...
async def await_until(
    predicate: Callable[[], Any],
    what: str = "",
    *,
    within_s: float = WAIT_S,
) -> Any:
    """Do as ``wait_until`` does, without blocking the loop; the predicate may be async."""
    what = what or _source(predicate)
    deadline, pause_s = time.monotonic() + within_s, POLL_S
    while True:
        answer = predicate()
        value = await answer if inspect.isawaitable(answer) else answer
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s:.0f} s: {what}")
        await asyncio.sleep(pause_s)
        pause_s = min(_POLL_AT_MOST_S, 1.1 * pause_s)


def _source(predicate: Callable[[], object]) -> str:
    """Return the line where a predicate is written."""
    code = getattr(predicate, "__code__", None)
    line = linecache.getline(code.co_filename, code.co_firstlineno) if code is not None else ""
    return line.strip() or repr(predicate)
