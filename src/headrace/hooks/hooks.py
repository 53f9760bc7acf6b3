"""The hooks of one set of tasks, and who has to hear when there are more of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any
from weakref import WeakMethod

from headrace.hooks.events import EventName, Listener
from headrace.hooks.steps import Step


class Hooks:
    """What stands around the jobs of a set of tasks, in the order in which it was declared.

    Attributes:
        run: around each run.
        enqueue: around each enqueue.
        listeners: for each event.
    """

    def __init__(self) -> None:
        self.run: list[Step] = []
        self.enqueue: list[Step] = []
        self.listeners: dict[EventName, list[Listener]] = {}
        self._followers: list[WeakMethod[Callable[[], None]]] = []

    def follow(self, hear: Callable[[], None]) -> None:
        """Have a method called whenever there is another hook, as long as its object is there."""
        self._followers.append(WeakMethod(hear))

    def changed(self) -> None:
        """Tell those who follow."""
        alive = [(one, hear) for one in self._followers if (hear := one()) is not None]
        self._followers = [one for one, _ in alive]
        for _, hear in alive:
            hear()


Chain = Sequence[Hooks]
"""The hooks of whoever includes a task, and last those of the set that declares it."""


def listeners_of(chain: Iterable[Hooks]) -> dict[EventName, list[Listener]]:
    """Return who hears of the events of a task."""
    all_: dict[EventName, list[Any]] = {}
    for hooks in chain:
        for name, some in hooks.listeners.items():
            all_.setdefault(name, []).extend(some)
    return all_
