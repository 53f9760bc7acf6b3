"""A producer that goes on whatever happens to its server."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from headrace import Headrace, StoreError
from tests.support.wait import await_until


class Stream:
    """A producer that enqueues until it is told to end, and repeats what was not acknowledged.

    Its jobs are ``note(queue, n)``, of each queue one after the other.

    Attributes:
        acknowledged: the arguments of those that are certainly there.
        errors: what it has met.
    """

    def __init__(self, url: str, queues: str = "queue", **options: Any) -> None:
        self.app, self._queues = Headrace(url, **options), queues.split(",")
        self.acknowledged = set[tuple[str, int]]()
        self.errors: list[StoreError] = []
        self._ending = False
        self._tasks = [asyncio.create_task(self._run(queue)) for queue in self._queues]

    async def _run(self, queue: str) -> None:
        n = 0
        while not self._ending:
            options: Any = {"queue": queue, "key": f"{queue}-{n}"}
            call = self.app.call_with("note", (queue, n), {}, options)
            try:
                await self.app.aenqueue_many([call])
            except StoreError as error:
                self.errors.append(error)
                await asyncio.sleep(0.05)
            else:
                self.acknowledged.add((queue, n))
                n += 1

    async def more(self, count: int = 20) -> None:
        """Wait until so many more have been acknowledged of each queue."""
        so_far = Counter(queue for queue, _ in self.acknowledged)

        def enough() -> bool:
            now = Counter(queue for queue, _ in self.acknowledged)
            return all(now[queue] >= so_far[queue] + count for queue in self._queues)

        await await_until(enough, f"goes on: {self.errors[-3:]}")

    async def end(self) -> None:
        self._ending = True
        await asyncio.gather(*self._tasks)
        await self.app.aclose()
