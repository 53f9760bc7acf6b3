"""Listeners in tests: each has heard of an event before the test goes on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from contextvars import copy_context
from typing import Any
from weakref import WeakKeyDictionary

from headrace.hooks.events import Event, Listener
from headrace.hooks.telling import ConsumerHooks, call


class ListenersHere(ConsumerHooks):
    """Tells of events as a consumer does, and waits until they are told.

    Args:
        tasks: the tasks of the application.
    """

    def __init__(self, tasks: Mapping[str, Any]) -> None:
        self._tasks = tasks
        self._decided = WeakKeyDictionary()

    def tell(self, event: Event, listeners: Sequence[Listener]) -> None:
        """Have listeners told, in a thread, as in a consumer, for an event loop may run here."""

        def work() -> None:
            for listener in listeners:
                call(event, listener, asyncio.run)

        if listeners:
            thread = threading.Thread(target=copy_context().run, args=(work,))
            thread.start()
            thread.join()

    async def close(self) -> None:
        """Wait for nothing: all is told."""
