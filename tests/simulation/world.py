"""The virtual clock, and who runs next: one thing at a time, in an order that the seed decides."""

from __future__ import annotations

import asyncio
import heapq
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from itertools import count
from random import Random
from typing import Any

from tests.simulation.fiber import Fiber

START_S = 1_000.0
EPOCH_MS = 1_800_000_000_000
MOST_STEPS = 400_000  # of one seed: beyond that something spins
MOST_STEPS_AT_ONCE = 20_000  # without the clock moving
CHECK_EVERY, PRUNE_EVERY = 8, 128


class Stuck(AssertionError):
    """Something spins, or nothing will ever happen again."""


class World:
    """One run: the clock, what is to happen, who there is, and what has happened."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rng = Random(seed)
        self.now = START_S
        self.nodes: list[Node] = []
        self.current: Node | None = None
        self.trace: list[tuple[Any, ...]] = []
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._ids = count()

    def at(self, when: float, function: Callable[..., None], *args: Any) -> None:
        """Let something happen at an instant."""
        heapq.heappush(self._events, (max(when, self.now), next(self._ids), function, args))

    def later(self, delay_s: float, function: Callable[..., None], *args: Any) -> None:
        self.at(self.now + delay_s, function, *args)

    def note(self, *what: Any) -> None:
        """Write into the trace."""
        self.trace.append((round(self.now - START_S, 6), *what))

    def run(self, until: Callable[[], bool], limit_s: float) -> bool:
        """Let everything happen until a condition holds; tells whether it did within the time."""
        end = self.now + limit_s
        steps = at_once = 0
        while steps % CHECK_EVERY or not until():
            if steps % PRUNE_EVERY == 0:
                self.nodes = [node for node in self.nodes if not node.is_finished()]
            chosen: Node | None = None
            when = self._events[0][0] if self._events else float("inf")
            for node in self.nodes:  # ``due_at`` without the calls: this is the inner loop
                loop = node.loop
                if loop._ready:
                    its = self.now
                elif loop._scheduled:
                    its = loop._scheduled[0]._when
                else:
                    continue
                if its < node.held_until:
                    its = node.held_until
                if its < when:
                    chosen, when = node, its
            if when > end:
                self.now = end
                return until()
            at_once = 0 if when > self.now else at_once + 1
            self.now = max(self.now, when)
            steps += 1
            if steps > MOST_STEPS or at_once > MOST_STEPS_AT_ONCE:
                raise Stuck(f"I11: something spins: {chosen.name if chosen else 'the network'}")
            if chosen is not None:
                chosen.step()
            else:
                _, _, function, args = heapq.heappop(self._events)
                function(*args)
        return True

    def now_ms(self) -> int:
        """Tell the time by the clock of whoever runs."""
        skew_ms = self.current.skew_ms if self.current is not None else 0
        return EPOCH_MS + int(self.now * 1000) + skew_ms


class _NoSelector:
    """There is no I/O: replies are events of the world."""

    def select(self, _timeout: float | None) -> list[Any]:
        return []

    def close(self) -> None:
        pass


class NodeLoop(asyncio.BaseEventLoop):
    """An event loop whose time is the world's, and which is told when to go on."""

    # What asyncio keeps there and has no public name for.
    _ready: deque[Any]
    _scheduled: list[Any]
    _timer_cancelled_count: int

    def __init__(self, node: Node) -> None:
        super().__init__()
        self._node = node
        self._selector = _NoSelector()
        self._clock_resolution = 1e-9
        self.set_exception_handler(self._went_wrong)
        self.problems: list[str] = []

    def time(self) -> float:
        return self._node.world.now

    def is_idle(self) -> bool:
        """Tell whether there is nothing that it waits for but I/O."""
        return not self._ready and all(timer._cancelled for timer in self._scheduled)

    def step(self) -> None:
        """Do what ``_run_once`` does, without asking for I/O."""
        ready, scheduled, now = self._ready, self._scheduled, self._node.world.now
        events._set_running_loop(self)
        try:
            while scheduled and (scheduled[0]._cancelled or scheduled[0]._when <= now):
                timer = heapq.heappop(scheduled)
                timer._scheduled = False
                if timer._cancelled:
                    self._timer_cancelled_count -= 1
                else:
                    ready.append(timer)
            for _ in range(len(ready)):
                handle = ready.popleft()
                if not handle._cancelled:
                    handle._run()
        finally:
            events._set_running_loop(None)

    def _process_events(self, _events: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass

    def _went_wrong(self, _loop: Any, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is not None and not self._node.dead:
            self.problems.append(f"{context.get('message')}: {error!r}")


class Node:
    """A process: an event loop, its fibers, its clock. It can be killed, and be stopped for a while.

    Attributes:
        dead: killed; nothing of it runs again.
        leaving: it was told to end.
        stopped_until: it stands still, all of it.
        cut_off_until: nothing that it sends arrives, nor anything that is sent to it.
        busy_until: its event loop stands still, for a task keeps it; its fibers do not.
        disturbed_at: when a fault last touched it or its connections.
        shaken_at: when a fault last touched it, or all of its connections.
        troubles: when single messages of it were lost, or late.
        skew_ms: how far its clock is ahead.
        runs: how many jobs it runs now.
    """

    def __init__(self, world: World, name: str, *, skew_ms: int = 0) -> None:
        self.world = world
        self.name = name
        self.skew_ms = skew_ms
        self.dead = self.leaving = False
        self.stopped_until = self.busy_until = self.held_until = self.cut_off_until = 0.0
        self.disturbed_at = self.shaken_at = -1e9
        self.troubles: list[float] = []
        self.runs = 0
        self.killed_at: float | None = None
        self.connections: list[Any] = []
        self.fibers: list[Fiber] = []
        self.fiber: Fiber | None = None  # which of them runs
        self.loop = NodeLoop(self)
        self.main: asyncio.Task[Any] | None = None
        self.terminate: Callable[[], None] = lambda: None
        world.nodes.append(self)

    def start(self, main: Coroutine[Any, Any, Any]) -> None:
        self.world.current = self
        events._set_running_loop(self.loop)
        try:
            self.main = self.loop.create_task(main)
        finally:
            events._set_running_loop(None)
            self.world.current = None

    def hold(self, until: float, *, whole: bool) -> None:
        """Let it stand still: the whole process, or its event loop alone."""
        if whole:
            self.stopped_until = max(self.stopped_until, until)
        else:
            self.busy_until = max(self.busy_until, until)
        self.held_until = max(self.held_until, until)

    def step(self) -> None:
        self.world.current = self
        try:
            self.loop.step()
        finally:
            self.world.current = None

    def call(self, function: Callable[..., Any], *args: Any) -> None:
        """Run something on its loop, as a signal handler is."""
        if not self.dead:
            self.loop.call_soon(function, *args)

    def kill(self, *, silently: bool = False) -> None:
        """SIGKILL; ``silently``: the machine is gone, and nobody tells the server."""
        if self.dead:
            return
        self.dead = True
        self.killed_at = self.disturbed_at = self.shaken_at = self.world.now
        self.world.nodes = [node for node in self.world.nodes if node is not self]
        self.world.note(self.name, "is killed")
        for connection in list(self.connections):
            connection.deaf = connection.deaf or silently
            connection.drop()

    def is_finished(self) -> bool:
        """Tell whether nothing of it will ever run again."""
        return self.over and self.loop.is_idle()

    @property
    def over(self) -> bool:
        return self.dead or (self.main is not None and self.main.done())

    def bury(self) -> None:
        """Unwind what is left of it, at the end of a run, so that nothing is left to the collector."""
        self.dead = True
        for fiber in self.fibers:
            fiber.kill()
        events._set_running_loop(self.loop)  # what they begin in a ``finally`` is buried as well
        try:
            everybody: Callable[[], set[Any]] = partial(asyncio.all_tasks, self.loop)
            while tasks := [task for task in everybody() if task._log_destroy_pending]:
                for task in tasks:
                    task._log_destroy_pending = False
                    _unwind(task.get_coro())
        finally:
            events._set_running_loop(None)
        self.loop.close()


def _unwind(coroutine: Any) -> None:
    for _ in range(50):  # one for each await in a ``finally``
        try:
            coroutine.close()
        except BaseException:
            continue
        return
