"""Aside: what an async task gave is described in a thread, if its own code may have a part in that.

On the event loop such code could hold the whole consumer for ever.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from headrace import results
from headrace.consumer.claimed import ClaimedJob
from headrace.consumer.run import End, failure, success
from headrace.plain import UNTOLD

ASIDE_S: Final = 10.0
"""How long it may take, when the job has no shorter limit."""

_MOST: Final = 16  # threads; those whose objects hang are never free again


class Aside:
    """Describes results and errors in threads, within a time. Belongs to the event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._threads = 0

    async def success(self, claimed: ClaimedJob, value: Any) -> End:
        """Encode a result; one that cannot be encoded in time is not kept. See ``ending.success``."""
        return await self._within(claimed, value, success) or results.encode_unreadable(value)

    async def failure(self, claimed: ClaimedJob, error: BaseException) -> End:
        """Describe an error; of one that takes too long, the type is told. See ``ending.failure``."""
        end = await self._within(claimed, error, failure)
        return end or failure(claimed, error, untold=f"{UNTOLD} within {ASIDE_S:g} s")

    async def _within(
        self, claimed: ClaimedJob, what: Any, describe: Callable[[ClaimedJob, Any], End]
    ) -> End | None:
        if self._threads >= _MOST:
            return None
        end: asyncio.Future[End] = self._loop.create_future()

        def work() -> None:
            try:
                described = describe(claimed, what)
            except BaseException as error:
                described = failure(claimed, error)
            with suppress(RuntimeError):  # the loop is closed: the consumer has left without us
                self._loop.call_soon_threadsafe(hear, described)

        def hear(described: End) -> None:
            self._threads -= 1
            if not end.done():
                end.set_result(described)

        run = contextvars.copy_context().run
        thread = threading.Thread(target=run, args=(work,), name="headrace-aside", daemon=True)
        try:
            thread.start()
            self._threads += 1
            return await asyncio.wait_for(end, ASIDE_S)
        except asyncio.CancelledError as stopped:  # the job has run out of its time, say
            return failure(claimed, stopped)
        except (TimeoutError, RuntimeError):  # or there can be no more threads
            return None
