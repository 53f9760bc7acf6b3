"""What jobs tell while they run is handed over without a lock: an interrupt may come anywhere."""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

import pytest

from headrace.context import Context
from headrace.keys import Keys, keys_of
from headrace.reports.reporter import Reporter
from tests.support.wait import WAIT_S


class Interrupt(BaseException):
    """Comes between two steps of a task's thread."""


@dataclass
class Claim:
    """A claimed job."""

    context: Context | None
    k: Keys = keys_of("queue")  # noqa: RUF009 - it is frozen
    number: int = 1
    job: bytes = b"{}"
    owned: bool = True
    result_ttl_ms: int = 60_000


ONE, OTHER = (
    Context(job_id=job_id, queue="queue", task="t", attempt=1, delivery=0, max_attempts=1)
    for job_id in ("one", "other")
)
CLAIMS = {context.job_id: Claim(context) for context in (ONE, OTHER)}


@pytest.fixture
def reporter() -> Iterator[Reporter]:
    """Give one whose thread never begins: what it would send is looked at here."""
    reporter = Reporter("", "", "c", lambda _, job_id: CLAIMS[job_id], lambda _: None)
    yield reporter
    reporter.close()


def interrupted(call: Callable[[], object], at: int) -> bool:
    """Call it, with an interrupt before its ``at``-th step; False when it takes fewer."""
    steps = itertools.count()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        frame.f_trace_opcodes = True
        if event == "opcode" and next(steps) == at:
            raise Interrupt
        return trace

    before = sys.gettrace()
    sys._getframe().f_trace_opcodes = (
        True  # Python 3.12 tells of opcodes when a frame has asked before
    )
    sys.settrace(trace)
    try:
        call()
    except Interrupt:
        return True
    finally:
        sys.settrace(before)
    return False


def returns(call: Callable[[], object]) -> bool:
    """Whether a call comes back, in a thread of its own."""
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(WAIT_S)
    return not thread.is_alive()


def test_a_task_that_is_interrupted_while_it_tells_progress_holds_nobody_up(
    reporter: Reporter,
) -> None:
    for at in itertools.count():
        if not interrupted(lambda: reporter.progress(ONE, 1, 2, "note"), at):
            break
        assert returns(lambda: reporter.progress(OTHER, 1, None, ""))
        assert returns(reporter._progress)
    assert at > 20


def test_a_task_that_is_interrupted_while_it_yields_holds_nobody_up(reporter: Reporter) -> None:
    room: list[None] = []
    one = reporter.open(ONE, lambda: room.append(None))
    assert one is not None
    for at in itertools.count():
        if not interrupted(lambda: one.put(b"1"), at):
            break
        assert returns(reporter._items)
        assert returns(lambda: reporter.progress(OTHER, 1, None, ""))
    assert at > 10
    assert returns(lambda: one.take("ok"))
