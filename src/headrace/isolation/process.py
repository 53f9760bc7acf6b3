"""The handles of the fork server and of its children, by which a consumer drives them."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import struct
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Final

from headrace.clock import monotonic
from headrace.consumer.outcomes import IsolationUnavailable, ProcessDied
from headrace.context import StopReason
from headrace.isolation import fork_server
from headrace.isolation.child import END_OF_STACK, Begun, ChildRequest, Ended, NotBegun
from headrace.isolation.fork_server import Exited, NotStarted, Started

LOOK_S: Final = 0.05
"""How late it is noticed that a job has to end."""

BEGIN_S: Final = 60.0
"""How long it may take to start Python and import an application, on a machine that swaps."""

LEAVE_S: Final = 1.0
"""How long a process may take to end when it is told to, and to leave after its answer."""

_MESSAGE_BYTES: Final = 1_000_000
_STACK_BYTES: Final = 64_000  # kept of what it writes
_FATAL: Final = "Fatal Python error"  # as faulthandler begins, when the process dies of itself
_MAX_STACK: Final = 8_000  # characters of it in a letter: the innermost frames come first


class ForkServer:
    """The fork server's process, and how it is asked for children."""

    def __init__(self) -> None:
        # Spawned, never forked: this process has threads.
        context = multiprocessing.get_context("spawn")
        self._requests, requests = context.Pipe()
        self._process = context.Process(
            target=fork_server.main, args=(requests,), name="headrace-fork-server", daemon=False
        )
        try:
            self._process.start()
        except (OSError, AssertionError) as error:  # no more processes, or none of a daemon's
            self._requests.close()
            raise IsolationUnavailable(f"no process can be started: {error}") from error
        finally:
            requests.close()

    def request(self, request: ChildRequest) -> Child | None:
        """Ask for a child; return it, which may never start. None: this server is no more."""
        try:
            control, its_control = multiprocessing.Pipe(duplex=False)
            messages, its_messages = multiprocessing.Pipe()
            stacks, its_stacks = multiprocessing.Pipe(duplex=False)
        except OSError as error:  # too many files are open
            raise IsolationUnavailable(f"no pipe can be opened: {error}") from error
        theirs = [its_control, its_messages, its_stacks]
        child = Child(control, messages, stacks)
        try:
            self._requests.send(request)
            fork_server.send_pipes(self._requests, theirs)
        except OSError:
            child.close()
            return None
        finally:
            for pipe in theirs:
                pipe.close()
        return child

    def close(self) -> None:
        """End it, and its children."""
        self._requests.close()  # which tells it to end
        self._process.join(LEAVE_S)
        self._process.kill()
        self._process.join()
        self._process.close()


class Child:
    """One child, from its request until its process has ended.

    Args:
        control: the server tells over it that the child was started, and how its process ended.
        messages: the child tells over it how the run went, and is told to end.
        stacks: the child writes where it is.
    """

    def __init__(self, control: Connection, messages: Connection, stacks: Connection) -> None:
        self._control, self._messages, self._stacks = control, messages, stacks
        self._pid: int | None = None
        self._open: list[Connection] = [messages, stacks]
        self._exit: Exited | None = None
        self._stack = b""
        self._heard = bytearray()  # of messages: perhaps half a one

    def has_started(self) -> bool:
        """Wait for its process; False if there will be none, for the server has left.

        Raises:
            IsolationUnavailable: it takes too long, or is not possible.
        """
        try:
            if not self._control.poll(BEGIN_S):
                self.close()  # should it start all the same, it cannot say so, and ends
                raise IsolationUnavailable(f"no process has begun within {BEGIN_S:g} s")
            message: Started | NotStarted = self._control.recv()
        except (EOFError, OSError):
            self.close()
            return False
        if isinstance(message, NotStarted):
            self.close()
            raise IsolationUnavailable(f"no process can be forked: {message.why}")
        self._pid = message.pid
        return True

    def end(self) -> None:
        """Let the process end, by force if need be."""
        until = monotonic() + LEAVE_S
        while self._pid is not None and not self.has_ended():
            if monotonic() > until:
                self.kill()
            self.hear(LOOK_S)
        self.close()

    def close(self) -> None:
        """Close its pipes."""
        for pipe in (self._control, self._messages, self._stacks):
            pipe.close()

    def has_ended(self) -> bool:
        """Whether the process has ended."""
        if self._exit is None:
            try:
                if self._control.poll():
                    self._exit = self._control.recv()
            except (EOFError, OSError):  # the server was killed, and its children with it
                self._exit = Exited(-signal.SIGKILL, 0, 0.0)
        return self._exit is not None

    def hear(self, within_s: float) -> Begun | NotBegun | Ended | None:
        """Return the next message of the process, or None if none came in time; take all stacks."""
        if (message := self._message()) is not None:
            return message
        ready = wait([*self._open, self._control], within_s)
        while self._stacks in ready:
            some = os.read(self._stacks.fileno(), _STACK_BYTES)
            self._stack = (self._stack + some)[-_STACK_BYTES:]
            if not some:
                self._open.remove(self._stacks)
            ready = wait(self._open, 0)
        if self._messages in ready:
            try:
                some = os.read(self._messages.fileno(), _MESSAGE_BYTES)
            except OSError:
                some = b""
            self._heard += some
            if not some:
                self._open.remove(self._messages)
        return self._message()

    def _message(self) -> Begun | NotBegun | Ended | None:
        """Return a message of what was heard, if it is whole.

        ``Connection.recv`` waits for the rest of a message without end, and what the task writes into
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
            message = pickle.loads(frame)  # noqa: S301 - as `Connection.recv`, of a process of ours
        except Exception:  # the task wrote it: what the process says can be told no more
            message = None
            with suppress(ValueError):  # it is closed already
                self._open.remove(self._messages)
        return message if isinstance(message, Begun | NotBegun | Ended) else None

    def tell(self, reason: StopReason) -> None:
        """Tell the process to end, and why."""
        with suppress(OSError):  # it has ended just now
            self._messages.send(reason)
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the process."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if self._pid is not None and not self.has_ended():
            with suppress(ProcessLookupError):
                os.kill(self._pid, number)

    def death(self) -> ProcessDied:
        """Return how the process died."""
        assert self._exit is not None
        *whole, last = self._stack.decode(errors="replace").split(END_OF_STACK.decode())
        stack = whole[-1] if whole and _FATAL not in last else last
        if (fatal := stack.find(_FATAL)) >= 0:
            what, thread, frames = stack[fatal:].partition("Current thread")
            stack = what.splitlines()[0] + "\n\n" + thread + frames
        stack, peak_mib = stack[:_MAX_STACK], self._exit.peak_kib // 1024
        cpu_s = self._exit.cpu_s
        if self._exit.exit_code >= 0:
            return ProcessDied("", self._exit.exit_code, peak_mib, stack, cpu_s)
        try:
            name = signal.Signals(-self._exit.exit_code).name
        except ValueError:  # a real-time signal
            name = f"signal {-self._exit.exit_code}"
        return ProcessDied(name, None, peak_mib, stack, cpu_s)
