"""Live updates: one look at Redis a second for everybody who watches, and none when nobody does."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from headrace.errors import HeadraceError
from headrace.keys import keys_of
from headrace.web.answers import encode
from headrace.web.reader import Place, Reader, key_of, peek
from headrace.web.views import job_view, queue_view

log = logging.getLogger(__name__)

EVERY_S: Final = 1.0
_WITHIN_S: Final = 2.0  # a Redis that hangs is not shown as if it were live
BEAT_S: Final = 5.0
"""A stream that has nothing to say shows this often that it lives; the page counts on it."""

LISTS: Final[tuple[Place, ...]] = ("pending", "processing", "dead")
"""What the page shows of the chosen queue, job by job."""

_JOBS: Final = 25  # of each list
_BYTES: Final = 1 << 18  # of each list: where jobs are large, fewer of them are read
_BEAT: Final = b"event: beat\ndata: 1\n\n"


class Watch:
    """Looks at the queues and keeps the latest message for each queue that is watched."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._watchers: Counter[str] = Counter()
        self._limits: dict[str, int] = {}
        self._seen: dict[str, bytes] = {}  # queue -> what was last found, without its instant
        self._messages: dict[str, bytes] = {}
        self._news = asyncio.Event()  # set, and replaced, when a message is new
        self._hurry = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None
        self._closed = False

    def close(self) -> None:
        """End all streams, now and from now on."""
        self._closed = True
        self._tell()

    @contextmanager
    def watching(self, queue: str) -> Iterator[None]:
        """Count as one who watches a queue."""
        self._watchers[queue] += 1
        self._hurry.set()
        if self._looking is None:
            self._looking = asyncio.create_task(self._look_on())
        try:
            yield
        finally:
            self._watchers[queue] -= 1
            if not self._watchers[queue]:
                for kept in (self._watchers, self._seen, self._messages):
                    kept.pop(queue, None)
            if not self._watchers:
                self._looking.cancel()
                self._looking = None

    async def updates(self, queue: str) -> AsyncIterator[bytes]:
        """Give the latest message, and each that is new, as server-sent events."""
        yield b"retry: 1000\n\n"
        sent = None
        while not self._closed:
            news, message = self._news, self._messages.get(queue)
            if message is not None and message is not sent:
                yield message
                sent = message
                continue
            try:
                async with asyncio.timeout(BEAT_S):
                    await news.wait()
            except TimeoutError:
                yield _BEAT

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def _look_on(self) -> None:
        while True:
            self._hurry.clear()
            try:
                async with asyncio.timeout(_WITHIN_S):
                    await self._look([*self._watchers])
            except Exception as error:
                if not isinstance(error, HeadraceError | TimeoutError):
                    log.exception("the queues could not be shown")
                self._seen.clear()
                message = b"event: away\ndata: %b\n\n" % encode({"error": str(error)})
                self._messages = dict.fromkeys(self._watchers, message)
                self._tell()
                self._hurry.clear()
            # Not wait_for: before Python 3.12 it can swallow that we are cancelled.
            with suppress(TimeoutError):
                async with asyncio.timeout(EVERY_S):
                    await self._hurry.wait()

    async def _look(self, queues: list[str]) -> None:
        lists = [(queue, place) for queue in queues for place in LISTS]
        peeks = [peek(keys_of(q), p, self._limits.get(q + p, _JOBS)) for q, p in lists]
        snapshots, found = await self._reader.read(queues, peeks)
        heads = dict(zip(lists, found, strict=True))
        for (queue, place), jobs in heads.items():
            mean = 1 + sum(map(len, jobs)) // max(1, len(jobs))
            self._limits[queue + place] = max(1, min(_JOBS, _BYTES // mean))
        rows = [queue_view(snapshot) for snapshot in snapshots]
        for queue in queues:
            shown = [_list_view(queue, place, heads[queue, place]) for place in LISTS]
            seen = encode({"queues": rows, "queue": queue, "lists": shown})
            if seen != self._seen.get(queue) and queue in self._watchers:
                self._seen[queue] = seen
                now_ms = snapshots[0].now_ms
                self._messages[queue] = b'data: {"now_ms":%d,%b\n\n' % (now_ms, seen[1:])
                self._tell()


def _list_view(queue: str, place: Place, jobs: list[bytes]) -> dict[str, Any]:
    return {
        "place": place,
        "key": key_of(keys_of(queue), place),
        "jobs": [job_view(job) for job in jobs],
    }


class EventStream(StreamingResponse):
    """One stream of updates on a queue."""

    def __init__(self, watch: Watch, queue: str) -> None:
        super().__init__(watch.updates(queue), media_type="text/event-stream")
        self._watch = watch
        self._queue = queue

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, and count as a watcher for so long."""
        with self._watch.watching(self._queue):
            await super().__call__(scope, receive, send)
