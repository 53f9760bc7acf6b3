"""Live updates: one look at Redis a second for everybody who watches, and none when nobody does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Final

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from headrace.doctor import balance_of, equation
from headrace.doctor.places import PLACES, Place, key_of
from headrace.errors import HeadraceError
from headrace.keys import keys_of
from headrace.web.answers import encode
from headrace.web.listing import Lister
from headrace.web.reader import Poller, Reader
from headrace.web.shapes import JobView
from headrace.web.views import queue_view

log: logging.Logger = logging.getLogger(__name__)

EVERY_S: Final = 1.0
_WITHIN_S: Final = 2.0  # a Redis that hangs is not shown as if it were live
BEAT_S: Final = 5.0
"""A stream that has nothing to say shows this often that it lives; the page counts on it."""

_JOBS: Final = 25  # of each list
_LEAST_JOBS: Final = 5  # of each partition: all may be in one
_BEAT: Final = b"event: beat\ndata: 1\n\n"


@dataclass(slots=True)
class _Topic:
    """A queue that somebody watches.

    Attributes:
        subscribers: how many watch it.
        seen: what was last found, without its instant.
        message: what was last told …
        at_ms: … and the instant that it is of, by Redis' clock, ms: the message's id; 0 of one without.
    """

    subscribers: int = 0
    seen: bytes = b""
    message: bytes = b""
    at_ms: int = 0


class Updates:
    """Looks at the queues and keeps the latest message for each queue that is watched."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._lister = Lister(reader.ask)
        self._poller = Poller(reader)
        self._topics: dict[str, _Topic] = {}
        self._news = asyncio.Event()  # set, and replaced, when a message is new
        self._hurry = asyncio.Event()
        self._polling: asyncio.Task[None] | None = None
        self._closed = False

    async def close(self) -> None:
        """End all streams, now and from now on, and wait until nobody looks."""
        self._closed = True
        self._tell()
        self._hurry.set()
        if self._polling is not None:
            self._polling.cancel()
            await asyncio.wait({self._polling}, timeout=_WITHIN_S)

    @contextmanager
    def subscribed(self, queue: str) -> Iterator[None]:
        """Count as one who watches a queue."""
        topic = self._topics.setdefault(queue, _Topic())
        topic.subscribers += 1
        self._hurry.set()
        if self._polling is None and not self._closed:
            self._polling = asyncio.create_task(self._poll())
        try:
            yield
        finally:
            topic.subscribers -= 1
            if not topic.subscribers:
                del self._topics[queue]
                self._hurry.set()

    async def messages(self, queue: str, after_ms: int = 0) -> AsyncIterator[bytes]:
        """Return the latest message, and each that is new, as server-sent events.

        Args:
            queue: a queue that is subscribed to.
            after_ms: the id of the last one that was heard: each is a whole state, so there is nothing
                to make up for but the latest, if that is newer.
        """
        yield b"retry: 1000\n\n"
        topic = self._topics[queue]
        sent = topic.message if 0 < topic.at_ms <= after_ms else b""
        while not self._closed:
            news = self._news
            if topic.message != sent:
                sent = topic.message
                yield sent
                continue
            try:
                async with asyncio.timeout(BEAT_S):
                    await news.wait()
            except TimeoutError:
                yield _BEAT

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def _poll(self) -> None:
        """Look while anybody watches. Not ended by cancelling alone, which redis-py may swallow."""
        while self._topics and not self._closed:
            self._hurry.clear()
            try:
                async with asyncio.timeout(_WITHIN_S):
                    await self._look(dict(self._topics))
            except Exception as error:
                if not isinstance(error, HeadraceError | TimeoutError):
                    log.exception("The queues could not be shown")
                away = encode({"error": str(error) or await self.why_late()})
                for topic in self._topics.values():
                    self._note(topic, b"", b"event: away\ndata: %b\n\n" % away)
            with suppress(TimeoutError):
                async with asyncio.timeout(EVERY_S):
                    await self._hurry.wait()
        self._polling = None

    async def current(self, queue: str) -> dict[str, Any]:
        """Look once: give what the page shows, as each message has it.

        Raises:
            StoreError: Redis did not answer.
            TimeoutError: nor did it in time.
        """
        async with asyncio.timeout(_WITHIN_S):
            return (await self._views([queue]))[0]

    async def why_late(self) -> str:
        """Say why a look took too long."""
        if await self._reader.why_down():
            return "Redis does not answer"
        return f"Redis answers, but slowly: the queues were not read within {_WITHIN_S:g} s"

    async def _look(self, topics: dict[str, _Topic]) -> None:
        views = await self._views([*topics])
        for topic, view in zip(topics.values(), views, strict=True):
            now_ms = view.pop("now_ms")
            seen = encode(view)
            message = b'data: {"now_ms":%d,%b\nid: %d\n\n' % (now_ms, seen[1:], now_ms)
            self._note(topic, seen, message, now_ms)

    async def _views(self, queues: list[str]) -> list[dict[str, Any]]:
        overview = await self._poller.look(queues)
        shown = {
            "now_ms": max(one.now_ms for one in overview.shown),
            "queues": [queue_view(one) for one in overview.shown],
            "others": overview.others,
        }
        sums = {
            one.queue: equation(balance_of(one)) for one in overview.shown if one.queue in queues
        }
        return [
            shown | {"queue": queue, "sum": sums[queue], "lists": await self._lists(queue)}
            for queue in queues
        ]

    async def _lists(self, queue: str) -> list[dict[str, Any]]:
        k = keys_of(queue)
        found = await self.listed(queue, PLACES, _JOBS)
        places = zip(PLACES, found, strict=True)
        return [{"place": p, "key": key_of(k, p), "jobs": jobs} for p, jobs in places]

    async def listed(self, queue: str, places: Sequence[Place], limit: int) -> list[list[JobView]]:
        """Read the first jobs of places of a queue; of one that is divided, the first of each partition first.

        Raises:
            StoreError: Redis did not answer, or answered with an error.
        """
        parts = self._reader.parts(queue)
        each = max(_LEAST_JOBS, -(-limit // len(parts))) if len(parts) > 1 else limit
        found = [await self._lister.listed(keys_of(part), places, each) for part in parts]
        rows = (zip_longest(*of_place) for of_place in zip(*found, strict=True))
        return [[job for row in some for job in row if job is not None][:limit] for some in rows]

    def _note(self, topic: _Topic, seen: bytes, message: bytes, at_ms: int = 0) -> None:
        """Keep a message, and wake the streams, if it says anything new."""
        if (seen or message) != (topic.seen or topic.message):
            topic.seen, topic.message, topic.at_ms = seen, message, at_ms
            self._tell()


class EventStream(StreamingResponse):
    """One stream of updates on a queue."""

    def __init__(self, updates: Updates, queue: str, after_ms: int = 0) -> None:
        super().__init__(updates.messages(queue, after_ms), media_type="text/event-stream")
        self._updates = updates
        self._queue = queue

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, and count as a watcher for so long."""
        with self._updates.subscribed(self._queue):
            await super().__call__(scope, receive, send)
