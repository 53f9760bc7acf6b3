"""How a program that has started a server ends: by signal too, it runs its clean-up first."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def ended_by_signals(exit_code: Callable[[int], int]) -> Iterator[None]:
    """Let SIGTERM and SIGHUP run what is to be done at a program's end.

    Args:
        exit_code: gives the program's exit code for the signal's number.

    Raises:
        SystemExit: such a signal has come.
    """

    def end(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(exit_code(number))

    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) != signal.SIG_IGN]
    before = {number: signal.signal(number, end) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
