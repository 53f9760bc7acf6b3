"""The cell: a suspect runs in a process of its own, so that its death names it and harms nobody else.

This is the consumer's side, called in a thread that waits. How the protocol goes: a warden is spawned,
once; it forks an inmate for each errand. The inmate says that it has begun, then how it ended; the
warden says how its process ended. To end it, we tell it why, send SIGTERM, and a moment later SIGKILL.
See docs/decisions/0010.
"""

from __future__ import annotations

import logging
import math
import multiprocessing
import os
import pickle
import signal
import struct
import sys
import threading
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any, Final, NoReturn

from headrace.clock import monotonic
from headrace.consumer import warden
from headrace.consumer.claimed import Claimed
from headrace.consumer.inmate import NEW_STACK, Begun, Ended, Errand, NotFound
from headrace.consumer.verdict import Answer, Bench, ProcessDied
from headrace.consumer.warden import Admitted, Left
from headrace.context import StopReason
from headrace.errors import JobStopped
from headrace.logs import JsonFormatter, TextFormatter
from headrace.plain import make
from headrace.task import Task

_LOOK_S: Final = 0.05  # how late it is noticed that a job has to end
_BEGIN_S: Final = 60.0  # to start Python and import an application, on a machine that swaps
_LEAVE_S: Final = 1.0  # to end when it is told to, and to leave after its answer
_LINE_BYTES: Final = 1_000_000
_STACK_BYTES: Final = 64_000  # kept of what it writes
_MAX_STACK: Final = 8_000  # characters of it in a letter: the innermost frames come first


class NoCell(Exception):
    """The job cannot run in a process of its own; the message says why. It has not begun."""


class Cell:
    """Where one consumer runs its suspects, one at a time.

    Args:
        bench: what verdicts need beside the job.
    """

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._lock = threading.Lock()
        # A run that is over and the consumer that ends may close at the same time.
        self._closing = threading.Lock()
        self._warden: _Warden | None = None

    def run(self, claimed: Claimed) -> Answer:
        """Run a job in a process of its own, and wait for how it ends.

        Raises:
            NoCell: it was not begun.
            JobStopped: it was told to end, and did.
            ProcessDied: its process ended without an answer.
        """
        errand = _errand(claimed, self._bench)
        timeout_s = claimed.deadline and claimed.deadline - monotonic()
        claimed.deadline, claimed.started = None, monotonic()  # its time begins when it does
        try:
            with self._lock:
                stay = self._admit(errand)
                try:
                    return _wait_for(stay, claimed, timeout_s)
                finally:
                    stay.leave()
                    if stay.unclean:
                        self.close()
        except NoCell:
            claimed.deadline = timeout_s and monotonic() + timeout_s
            raise

    def close(self) -> None:
        """Let the warden end, if there is one."""
        with self._closing:
            if self._warden is not None:
                self._warden.close()
                self._warden = None

    def _admit(self, errand: Errand) -> _Stay:
        # The warden that is there may have left just now, for nobody had come for a while.
        for _ in range(2):
            if self._warden is None:
                self._warden = _Warden()
            pid = self._warden.admit(errand)
            if pid is not None:
                return _Stay(self._warden, pid)
            self.close()
        raise NoCell(f"no process has begun within {_BEGIN_S:g} s")


def _wait_for(stay: _Stay, claimed: Claimed, timeout_s: float | None) -> Answer:
    assert claimed.context is not None
    begun, told_at = False, math.inf
    while True:
        died = stay.has_ended()  # asked before it is listened to: what it said last is not missed
        word = stay.hear(0.0 if died else _LOOK_S)
        if isinstance(word, Ended):
            return _answer(word)
        if isinstance(word, NotFound):  # once it has begun it must not begin again, in the consumer
            raise RuntimeError(f"its run was not judged: {word.why}") if begun else NoCell(word.why)
        if isinstance(word, Begun):
            begun, claimed.deadline = True, timeout_s and monotonic() + timeout_s
        elif died:
            _raise_for(stay.death(), claimed.context.stop_reason, begun=begun)
        elif claimed.context.stop_reason is not None and told_at == math.inf:
            told_at = monotonic()
            stay.tell(claimed.context.stop_reason)
        elif monotonic() > told_at + _LEAVE_S:
            stay.kill()
        elif not begun and monotonic() > claimed.started + _BEGIN_S:
            raise NoCell(f"its process did not begin within {_BEGIN_S:g} s")


def _answer(word: Ended) -> Answer:
    if not word.type:
        return Answer(word.outcome, None)
    error = make(word.type, word.text)
    error.add_note(word.traceback)  # for the log
    return Answer(word.outcome, error)


def _raise_for(death: ProcessDied, reason: StopReason | None, *, begun: bool) -> NoReturn:
    if reason is not None:
        raise JobStopped(reason)
    raise death if begun else NoCell(f"before it began, {death}")


class _Warden:
    """The warden's process and the pipes to it and its inmates: orders, the line, their stacks."""

    def __init__(self) -> None:
        # Spawned, never forked: this process has threads.
        context = multiprocessing.get_context("spawn")
        self.inmate: int | None = None  # who is there now
        self.orders, orders = context.Pipe()
        self.line, line = context.Pipe()
        self.stacks, stacks = context.Pipe(duplex=False)
        self._process = context.Process(
            target=warden.main, args=(orders, line, stacks), name="headrace-warden", daemon=False
        )
        try:
            self._process.start()
        except (OSError, AssertionError) as error:  # no more processes, or none of a daemon's
            for pipe in (self.orders, self.line, self.stacks):
                pipe.close()
            raise NoCell(f"no process can be started: {error}") from error
        finally:
            for pipe in (orders, line, stacks):
                pipe.close()

    def admit(self, errand: Errand) -> int | None:
        """Hand over an errand; gives the process of its inmate, or None: this warden is no more."""
        try:
            self.orders.send(errand)
            if not self.orders.poll(_BEGIN_S):
                return None
            word: Admitted = self.orders.recv()
        except (EOFError, OSError):
            return None
        self.inmate = word.pid
        return word.pid

    def close(self) -> None:
        """End it, and whoever is with it."""
        self.orders.close()  # which tells it to leave
        if self.inmate is not None:
            with suppress(ProcessLookupError):
                os.kill(self.inmate, signal.SIGKILL)
        self._process.join(_LEAVE_S)
        self._process.kill()
        self._process.join()
        self._process.close()
        self.line.close()
        self.stacks.close()


class _Stay:
    """One inmate, from its admission until its process has ended."""

    def __init__(self, warden: _Warden, pid: int) -> None:
        self._warden = warden
        self._pid = pid
        self._open: list[Connection] = [warden.line, warden.stacks]
        self._left: Left | None = None
        self._stack = b""
        self._heard = bytearray()  # of words: perhaps half a one
        self.unclean = False  # the next one must not get these pipes: something may be left in them

    def leave(self) -> None:
        """Let the process end, by force if need be."""
        until = monotonic() + _LEAVE_S
        while not self.has_ended():
            if monotonic() > until:
                self.kill()
            self.hear(_LOOK_S)
        if self._heard or wait([self._warden.line], 0):
            self.unclean = True

    def has_ended(self) -> bool:
        """Tell whether the process has ended."""
        if self._left is None:
            try:
                if self._warden.orders.poll():
                    self._left = self._warden.orders.recv()
            except (EOFError, OSError):  # the warden was killed, and its inmate with it
                self._left = Left(-signal.SIGKILL, 0)
            if self._left is not None:
                self._warden.inmate = None
        return self._left is not None

    def hear(self, within_s: float) -> Begun | NotFound | Ended | None:
        """Take the next word of the process, and all stacks before it; None: there was none in time."""
        if (word := self._word()) is not None:
            return word
        ready = wait([*self._open, self._warden.orders], within_s)
        while self._warden.stacks in ready:
            some = os.read(self._warden.stacks.fileno(), _STACK_BYTES)
            self._stack = (self._stack + some)[-_STACK_BYTES:]
            if not some:
                self._open.remove(self._warden.stacks)
            ready = wait(self._open, 0)
        if self._warden.line in ready:
            try:
                some = os.read(self._warden.line.fileno(), _LINE_BYTES)
            except OSError:
                some = b""
            self._heard += some
            if not some:
                self._open.remove(self._warden.line)
        return self._word()

    def _word(self) -> Begun | NotFound | Ended | None:
        """Take a word out of what was heard, if it is whole.

        ``Connection.recv`` waits for the rest of a word without end, and what the task writes into
        the pipe may look like the beginning of one: its length, before the bytes.
        """
        head = 4
        if len(self._heard) < head:
            return None
        (size,) = struct.unpack_from("!i", self._heard)
        if size == -1 and len(self._heard) >= head + 8:  # a long one: its length follows
            (size,) = struct.unpack_from("!Q", self._heard, head)
            head += 8
        if size < 0 or len(self._heard) < head + size:
            return None
        frame = bytes(self._heard[head : head + size])
        del self._heard[: head + size]
        try:
            word = pickle.loads(frame)  # noqa: S301 - as `Connection.recv`, of a process of ours
        except Exception:  # the task wrote it: what the process says can be told no more
            word = None
            with suppress(ValueError):  # it is closed already
                self._open.remove(self._warden.line)
        if not isinstance(word, Begun | NotFound | Ended):
            self.unclean = True
            return None
        return word

    def tell(self, reason: StopReason) -> None:
        """Tell the process to end, and why."""
        self.unclean = True  # it may end before it reads this
        with suppress(OSError):  # the warden has ended just now
            self._warden.line.send(reason)
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the process."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if not self.has_ended():
            with suppress(ProcessLookupError):
                os.kill(self._pid, number)

    def death(self) -> ProcessDied:
        """Say how the process died."""
        assert self._left is not None
        stack = self._stack.rpartition(NEW_STACK)[2].decode(errors="replace")
        if (fatal := stack.find("Fatal Python error")) >= 0:
            what, thread, frames = stack[fatal:].partition("Current thread")
            stack = what.splitlines()[0] + "\n\n" + thread + frames
        stack, peak_mib = stack[:_MAX_STACK], self._left.peak_kib // 1024
        if self._left.exit_code >= 0:
            return ProcessDied("", self._left.exit_code, peak_mib, stack)
        try:
            name = signal.Signals(-self._left.exit_code).name
        except ValueError:  # a real-time signal
            name = f"signal {-self._left.exit_code}"
        return ProcessDied(name, None, peak_mib, stack)


def _errand(claimed: Claimed, bench: Bench) -> Errand:
    task = claimed.task
    assert task is not None
    module, path = _address(task)
    handlers = [handler.formatter for handler in logging.getLogger().handlers]
    ours = [one for one in handlers if isinstance(one, JsonFormatter | TextFormatter)]
    level = logging.getLevelName(logging.getLogger().level).lower()
    return Errand(
        module,
        path,
        url=task.producer().url,
        queue=claimed.k.queue,
        number=claimed.number,
        job=claimed.job,
        consumer=bench.consumer,
        clock_ahead_ms=bench.clock_ahead_ms,
        log_level=level if ours else "",
        log_json=bool(ours) and isinstance(ours[0], JsonFormatter),
    )


def _address(task: Task[Any, Any]) -> tuple[str, str]:
    """Find the module and the name under which a new process finds the task again."""
    home = sys.modules.get(getattr(task.function, "__module__", ""))
    # An object's or a partial's module is that of its class.
    for module in [home, *sys.modules.values()]:
        names = [name for name, value in [*vars(module).items()] if value is task] if module else []
        if module and names:
            return module.__name__, names[0]
    found: Any = home
    path: str = getattr(task.function, "__qualname__", task.name)
    for name in path.split("."):  # a method's, say
        found = getattr(found, name, None)
    if found is not task or home is None:
        raise NoCell(f"a new process would not find {path} as a module's name")
    return home.__name__, path
