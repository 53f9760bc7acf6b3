"""Code that blocks, run in a thread of its own, but never at the same time as anything else."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.support.wait import WAIT_S

if TYPE_CHECKING:
    from tests.simulation.world import Node


class Killed(BaseException):
    """Raised where a fiber waits whose process was killed."""


class Fiber:
    """Hands the turn over: ``wake`` lets it run until it waits again, which is ``park``."""

    def __init__(self, node: Node, target: Callable[[], Any]) -> None:
        self.node = node
        self.problem: BaseException | None = None
        self._target = target
        self._mine, self._theirs = threading.Lock(), threading.Lock()
        self._mine.acquire()
        self._theirs.acquire()
        self._parks = 0
        self._parked = self._killed = self._over = False
        self._why = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        node.fibers.append(self)
        node.world.at(node.world.now, self._start)

    def park(self, timeout_s: float | None) -> bool:
        """Wait, on its own thread; tells whether it was called rather than the time over."""
        if self._killed:
            raise Killed
        self._parks += 1
        self._parked = True
        if timeout_s is not None:
            self.node.world.later(max(0.0, timeout_s), self.wake, self._parks, False)
        self._theirs.release()
        self._mine.acquire()
        if self._killed:
            raise Killed
        return self._why

    def call(self) -> None:
        """Wake it soon, from anywhere."""
        self.node.world.at(self.node.world.now, self.wake, self._parks, True)

    def wake(self, park: int, why: bool) -> None:
        node = self.node
        if self._over or node.dead or not self._parked or park != self._parks:
            return
        if node.stopped_until > node.world.now:
            node.world.at(node.stopped_until, self.wake, park, why)
            return
        self._why = why
        self._give_turn(self._mine.release)

    def kill(self) -> None:
        self._killed = True
        if self._parked and not self._over:
            self._give_turn(self._mine.release)
        if self._thread.is_alive():
            self._thread.join(WAIT_S)

    def _start(self) -> None:
        if not self.node.dead and not self._over:
            self._give_turn(self._thread.start)

    def _give_turn(self, go: Callable[[], Any]) -> None:
        node = self.node
        self._parked = False
        node.world.current, node.fiber = node, self
        try:
            go()
            self._theirs.acquire()
        finally:
            node.world.current = node.fiber = None

    def _run(self) -> None:
        try:
            self._target()
        except Killed:
            pass
        except BaseException as error:
            self.problem = error
        finally:
            self._over = True
            self._theirs.release()


class Flag:
    """A ``threading.Event`` for one fiber."""

    def __init__(self, fiber: Fiber) -> None:
        self._fiber = fiber
        self._set = False
        self._awaited = False

    def set(self) -> None:
        self._set = True
        if self._awaited:
            self._fiber.call()

    def is_set(self) -> bool:
        return self._set

    def wait(self, timeout_s: float) -> bool:
        if not self._set:
            self._awaited = True
            self._fiber.park(timeout_s)
            self._awaited = False
        return self._set
