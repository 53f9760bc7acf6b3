"""Where a process was when it died, by what it had written until then."""

from __future__ import annotations

import signal
from multiprocessing import Pipe

import pytest

from headrace.isolation.fork_server import Exited
from headrace.isolation.process import Child

FATAL = "Fatal Python error: Segmentation fault\n\nCurrent thread 0x1 (most recent call first):\n  File x"


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("first\0second\0", "second"),
        ("first\0second\0thi", "second"),  # it was killed while it wrote the third
        ("fir", "fir"),
        ("", ""),
        (f"first\0{FATAL}", FATAL),
    ],
)
def test_the_last_whole_stack_is_told(written: str, told: str) -> None:
    pipes = [Pipe() for _ in range(3)]
    child = Child(*(ours for ours, _ in pipes))
    (_, control), _, (_, stacks) = pipes
    stacks._send(written.encode())  # type: ignore[attr-defined]
    control.send(Exited(-signal.SIGKILL, 1024, 3.0))
    stacks.close()
    assert child.has_ended()
    child.hear(0.0)
    assert child.death().stack == told
    child.close()
    for _, theirs in pipes:
        theirs.close()
