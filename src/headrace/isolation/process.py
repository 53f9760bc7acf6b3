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
from headrace.isolation.child import NEW_STACK, Begun, ChildRequest, Ended, NotBegun
from headrace.isolation.fork_server import Exited, Started

LOOK_S: Final = 0.05
"""How late it is noticed that a job has to end."""

BEGIN_S: Final = 60.0
"""How long it may take to start Python and import an application, on a machine that swaps."""

LEAVE_S: Final = 1.0
"""How long a process may take to end when it is told to, and to leave after its answer."""

_MESSAGE_BYTES: Final = 1_000_000
_STACK_BYTES: Final = 64_000  # kept of what it writes
_MAX_STACK: Final = 8_000  # characters of it in a letter: the innermost frames come first


class ForkServer:
    """The fork server's process, and the pipes to it and its children: requests, messages, stacks."""

    requests: Connection
    messages: Connection
    stacks: Connection

    def __init__(self) -> None:
        # Spawned, never forked: this process has threads.
        context = multiprocessing.get_context("spawn")
        self.child: int | None = None  # the process of the one that there is
        self.requests, requests = context.Pipe()
        self.messages, messages = context.Pipe()
        self.stacks, stacks = context.Pipe(duplex=False)
        self._process = context.Process(
            target=fork_server.main,
            args=(requests, messages, stacks),
            name="headrace-fork-server",
            daemon=False,
        )
        try:
            self._process.start()
        except (OSError, AssertionError) as error:  # no more processes, or none of a daemon's
            for pipe in (self.requests, self.messages, self.stacks):
                pipe.close()
            raise IsolationUnavailable(f"no process can be started: {error}") from error
        finally:
            for pipe in (requests, messages, stacks):
                pipe.close()

    def start(self, request: ChildRequest) -> int | None:
        """Start a child for a request; return its process, or None: this server is no more."""
        try:
            self.requests.send(request)
            if not self.requests.poll(BEGIN_S):
                return None
            message: Started = self.requests.recv()
        except (EOFError, OSError):
            return None
        self.child = message.pid
        return message.pid

    def close(self) -> None:
        """End it, and its child."""
        self.requests.close()  # which tells it to end
        if self.child is not None:
            with suppress(ProcessLookupError):
                os.kill(self.child, signal.SIGKILL)
        self._process.join(LEAVE_S)
        self._process.kill()
        self._process.join()
        self._process.close()
        self.messages.close()
        self.stacks.close()


class Child:
    """One child, from its start until its process has ended."""

    def __init__(self, server: ForkServer, pid: int) -> None:
        self._server = server
        self._pid = pid
        self._open: list[Connection] = [server.messages, server.stacks]
        self._exit: Exited | None = None
        self._stack = b""
        self._heard = bytearray()  # of messages: perhaps half a one
        # If so, the next one must not get these pipes: something may be left in them.
        self.unclean: bool = False

    def end(self) -> None:
        """Let the process end, by force if need be."""
        until = monotonic() + LEAVE_S
        while not self.has_ended():
            if monotonic() > until:
                self.kill()
            self.hear(LOOK_S)
        if self._heard or wait([self._server.messages], 0):
            self.unclean = True

    def has_ended(self) -> bool:
        """Whether the process has ended."""
        if self._exit is None:
            try:
                if self._server.requests.poll():
                    self._exit = self._server.requests.recv()
            except (EOFError, OSError):  # the server was killed, and its child with it
                self._exit = Exited(-signal.SIGKILL, 0)
            if self._exit is not None:
                self._server.child = None
        return self._exit is not None

    def hear(self, within_s: float) -> Begun | NotBegun | Ended | None:
        """Return the next message of the process, or None if none came in time; take all stacks."""
        if (message := self._message()) is not None:
            return message
        ready = wait([*self._open, self._server.requests], within_s)
        while self._server.stacks in ready:
            some = os.read(self._server.stacks.fileno(), _STACK_BYTES)
            self._stack = (self._stack + some)[-_STACK_BYTES:]
            if not some:
                self._open.remove(self._server.stacks)
            ready = wait(self._open, 0)
        if self._server.messages in ready:
            try:
                some = os.read(self._server.messages.fileno(), _MESSAGE_BYTES)
            except OSError:
                some = b""
            self._heard += some
            if not some:
                self._open.remove(self._server.messages)
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
                self._open.remove(self._server.messages)
        if not isinstance(message, Begun | NotBegun | Ended):
            self.unclean = True
            return None
        return message

    def tell(self, reason: StopReason) -> None:
        """Tell the process to end, and why."""
        self.unclean = True  # it may end before it reads this
        with suppress(OSError):  # the server has ended just now
            self._server.messages.send(reason)
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the process."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if not self.has_ended():
            with suppress(ProcessLookupError):
                os.kill(self._pid, number)

    def death(self) -> ProcessDied:
        """Return how the process died."""
        assert self._exit is not None
        stack = self._stack.rpartition(NEW_STACK)[2].decode(errors="replace")
        if (fatal := stack.find("Fatal Python error")) >= 0:
            what, thread, frames = stack[fatal:].partition("Current thread")
            stack = what.splitlines()[0] + "\n\n" + thread + frames
        stack, peak_mib = stack[:_MAX_STACK], self._exit.peak_kib // 1024
        if self._exit.exit_code >= 0:
            return ProcessDied("", self._exit.exit_code, peak_mib, stack)
        try:
            name = signal.Signals(-self._exit.exit_code).name
        except ValueError:  # a real-time signal
            name = f"signal {-self._exit.exit_code}"
        return ProcessDied(name, None, peak_mib, stack)
