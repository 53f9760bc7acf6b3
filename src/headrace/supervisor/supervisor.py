"""Several consumers on one machine: starts them, restarts those that die, frees what they held.

A dead child's connections are closed on the server first, so that nothing it sent can still arrive;
then its leases end and its jobs are reclaimed, at once: nobody waits for a lease to run out.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import multiprocessing
import multiprocessing.connection
import os
import secrets
import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from types import FrameType
from typing import Any, Final

from headrace import flows
from headrace import operations as op
from headrace.clock import monotonic
from headrace.consumer.options import ConsumerOptions, new_name
from headrace.errors import LASTING_CODES, StoreError
from headrace.keys import CONNECTION_PREFIX, keys_of
from headrace.maintenance import reclaiming
from headrace.store import Store
from headrace.supervisor.health import Health, Signs, judged
from headrace.supervisor.heartbeat import Heartbeat, beat
from headrace.supervisor.program import watches
from headrace.supervisor.recycling import READY, Limits, watch

log: logging.Logger = logging.getLogger("headrace.consumer")

Program = Callable[[ConsumerOptions], int]
Observer = Callable[[Callable[[], Health]], contextlib.AbstractContextManager[None]]
"""Is entered while consumers run. It is given how to ask, in any thread, how they are."""

_SETTLED_S: Final = 5.0  # a child that lives so long has started well
_LONGEST_PAUSE_S: Final = 10.0
_STEP_S: Final = 0.05


@dataclass(slots=True, eq=False)
class _Child:
    """One process of the supervisor.

    Attributes:
        process: the process …
        name: … and its consumer's name.
        line: what it says of itself.
        heartbeat: its last signs.
        started: when it was started (monotonic).
        quick_deaths: how often those before it died soon after their start.
        replaces: the child that ends as soon as this one claims jobs.
        outgrown: why it is to be replaced, or "".
        retiring: it was told to end, for another has its place.
    """

    process: SpawnProcess
    name: str
    line: Connection
    heartbeat: Heartbeat
    started: float
    quick_deaths: int = 0
    replaces: _Child | None = None
    outgrown: str = ""
    retiring: bool = False


def supervise(
    program: Program,
    options: ConsumerOptions,
    workers: int,
    url: str,
    *,
    limits: Limits | None = None,
    observers: Sequence[Observer] = (),
) -> int:
    """Run several consumers until SIGTERM or SIGINT; a second signal ends them at once.

    Args:
        program: runs one consumer; importable, for it runs in a new process.
        options: how each of them works.
        workers: how many.
        url: where Redis is.
        limits: after what a child is replaced. Its successor is started first, and one child is
            replaced at a time, so that there are never fewer than ``workers`` that claim jobs.
        observers: hear how the consumers are, while they run.

    Returns:
        The exit code: 0, 1 when a consumer failed in burst mode, or that of an error that lasts.
    """
    supervisor = _Supervisor(program, options, workers, url, limits or Limits())
    with contextlib.ExitStack() as stack:
        for observer in observers:
            stack.enter_context(observer(supervisor.health))
        return supervisor.run()


class _Supervisor:
    def __init__(
        self, program: Program, options: ConsumerOptions, workers: int, url: str, limits: Limits
    ) -> None:
        self._program = program
        self._limits = limits
        self._options = options
        self._workers = workers
        self._store = Store(url, name=f"{CONNECTION_PREFIX}supervisor")
        self._context = multiprocessing.get_context("spawn")
        self._base = options.name or new_name()
        self._children: list[_Child] = []
        self._vacant: dict[str, Signs] = {}  # of those who died and are not replaced yet
        self._stopping = False
        self._failed = False
        self._exit_code = 0

    def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._forward)
        for _ in range(self._workers):
            if not self._stopping:
                self._start()
        while self._children:
            ends: dict[Any, _Child] = {child.process.sentinel: child for child in self._children}
            lines: dict[Any, _Child] = {
                child.line: child for child in self._children if not child.line.closed
            }
            for ready in multiprocessing.connection.wait([*lines, *ends]):
                if ready in lines:
                    self._hear(lines[ready])
                else:
                    self._bury(ends[ready])
            self._replace_one()
        self._store.close()
        return self._exit_code or int(self._failed)

    def health(self) -> Health:
        """Return how the consumers are. Called in other threads."""
        signs = {child.name: child.heartbeat.signs for child in [*self._children]} | self._vacant
        now = monotonic()  # after the signs were read: none is of the future
        workers = tuple(judged(name, given, now) for name, given in signs.items())
        queues = ", ".join(queue.name for queue in self._options.queues)
        return Health(workers, self._workers, self._stopping, queues)

    def _hear(self, child: _Child) -> None:
        try:
            word = child.line.recv_bytes().decode()
        except (EOFError, OSError):  # it has ended
            child.line.close()
            return
        if word != READY:
            child.outgrown = word
        elif child.replaces is not None and not self._stopping:
            old, child.replaces = child.replaces, None
            log.info("%s takes over from %s", child.name, old.name)
            old.retiring = True
            old.process.terminate()

    def _replace_one(self) -> None:
        """Start the successor of a child that asks for one, unless another is being replaced."""
        if self._stopping or any(child.replaces or child.retiring for child in self._children):
            return
        for child in self._children:
            if child.outgrown:
                log.info("replacing %s: %s", child.name, child.outgrown)
                self._start(replaces=child)
                return

    def _start(
        self, quick_deaths: int = 0, replaces: _Child | None = None, signs: Signs | None = None
    ) -> None:
        name = f"{self._base}-{secrets.token_hex(2)}"
        options = dataclasses.replace(self._options, name=name)
        line, its_line = self._context.Pipe(duplex=False)
        now = monotonic()
        heartbeat = Heartbeat(self._context, signs or Signs(now, now))
        args = (self._program, options, its_line, heartbeat, self._limits)
        process = self._context.Process(target=_child, args=args, name=name)
        process.start()
        its_line.close()
        child = _Child(process, name, line, heartbeat, now, quick_deaths, replaces)
        self._children.append(child)
        if self._stopping:  # the signal came before the child was listed
            process.terminate()

    def _forward(self, _number: int, _frame: FrameType | None) -> None:
        self._end_children()

    def _end_children(self) -> None:
        first, self._stopping = not self._stopping, True
        for child in self._children:
            if first and child.retiring:
                continue  # it has been told; a second signal would end it at once
            with contextlib.suppress(ProcessLookupError):
                child.process.terminate()

    def _bury(self, child: _Child) -> None:
        child.process.join()
        self._children.remove(child)
        child.line.close()
        successor = next((one for one in self._children if one.replaces is child), None)
        if successor is not None:
            successor.replaces = None
        if child.retiring:
            log.info("%s has been replaced", child.name)
        if child.process.exitcode == 0:
            return  # it was told to end, or its burst is over
        if self._stopping and child.process.exitcode == -signal.SIGTERM:
            return  # it was told to end before it had begun
        if child.process.exitcode in LASTING_CODES:  # another one would end alike
            self._exit_code = child.process.exitcode
            self._end_children()
            return
        self._failed = self._failed or self._options.burst
        log.error("consumer %s died (exit code %s)", child.name, child.process.exitcode)
        replaced = not (self._options.burst or child.retiring or successor is not None)
        if replaced:
            self._vacant[child.name] = dataclasses.replace(child.heartbeat.signs, ready=False)
        self._recover(child.name)
        if replaced:
            self._start_again(child)

    def _start_again(self, child: _Child) -> None:
        """Start another one in place of one that died; after several that did so soon, not at once."""
        quick = child.quick_deaths + 1 if monotonic() - child.started < _SETTLED_S else 0
        if quick > 1:
            self._pause(min(_LONGEST_PAUSE_S, 0.1 * 2.0**quick))
        if not self._stopping:
            old = child.replaces
            # Its signs count on: who dies again and again before it gives one is not healthy.
            signs = self._vacant[child.name]
            self._start(quick, old if old in self._children else None, signs)
        del self._vacant[child.name]

    def _pause(self, pause_s: float) -> None:
        """Wait, but not beyond the signal to end, whose handler must not touch a lock held here."""
        until = monotonic() + pause_s
        while not self._stopping and monotonic() < until:
            threading.Event().wait(_STEP_S)

    def _recover(self, name: str) -> None:
        try:
            self._store.follow(flows.disconnect(f"{CONNECTION_PREFIX}{name}"))
            for queue in self._options.queues:
                k = keys_of(queue.name)
                count = self._store.follow(flows.expire_leases(k, name))
                for _ in range(0, count, op.RECLAIM_LIMIT):
                    self._store.run(reclaiming(k, self._options.lease))
                if count:
                    log.warning("queue %s: %d jobs of %s run again", queue.name, count, name)
        except StoreError as error:  # then they are reclaimed later
            log.warning("the jobs of %s have to wait until they are reclaimed: %s", name, error)


def detach() -> None:
    """Let this process end when its parent says so, or dies.

    It has a group of its own: Ctrl-C reaches the parent alone, which tells each child once.
    """
    os.setpgid(0, 0)
    threading.Thread(target=_follow_parent, name="headrace-parent", daemon=True).start()


def _child(
    program: Program,
    options: ConsumerOptions,
    line: Connection,
    heartbeat: Heartbeat,
    limits: Limits,
) -> None:
    detach()
    watches.append(partial(watch, line=line, limits=limits))
    watches.append(partial(beat, heartbeat=heartbeat))
    raise SystemExit(program(options))


def _follow_parent() -> None:
    """End when the supervisor has died: nobody would restart this one, and nobody else can end it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
