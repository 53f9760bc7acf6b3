"""The watcher: sees by the queues' counters what there is to tell, and has it told before it marks that.

One look is a count of the queues, as a scrape is, and one of the marks; letters are read only where a
counter has risen. A few letters at a look: what dies by the thousand is told one look after the other.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, Protocol, TypeAlias

from headrace import operations as op
from headrace.errors import InvalidJob
from headrace.keys import keys_of
from headrace.operations import Snapshot
from headrace.store import AsyncStore
from headrace.webhooks import marks
from headrace.webhooks.event import Event, aged, died
from headrace.webhooks.hook import Webhook

log: logging.Logger = logging.getLogger(__name__)

QUEUE: Final = "headrace-webhooks"
"""Where what is to be sent stands. It is not watched: its own dead letters would make more of them."""

_LETTERS: Final = 100  # of a queue, at a look
_MARGIN: Final = 20  # older ones, that may have been pushed out of their places
_SKEW_MS: Final = 3_600_000  # how far consumers' clocks may be behind Redis'

Enqueue: TypeAlias = Callable[[Webhook, Event], Awaitable[None]]
Marks: TypeAlias = Mapping[str, Sequence[int]]
"""Numbers by mark; none: it is over."""


class Queues(Protocol):
    """Knows which queues there are."""

    async def names(self) -> list[str]:
        """Return them by name; one that is divided is one."""

    def parts(self, queue: str) -> Sequence[str]:
        """Return the partitions of a queue; itself if it is not divided."""


class Watcher:
    """Watches the queues for some webhooks.

    Args:
        store: the Redis.
        queues: knows which there are.
        hooks: the webhooks.
        enqueue: enqueues an event for a webhook; a second time it does nothing.
    """

    def __init__(
        self, store: AsyncStore, queues: Queues, hooks: Sequence[Webhook], enqueue: Enqueue
    ) -> None:
        self._store = store
        self._queues = queues
        self._hooks = hooks
        self._enqueue = enqueue

    async def look(self) -> None:
        """Look once.

        Raises:
            HeadraceError: Redis did not do it. What is not marked is told at the next look.
        """
        names = [name for name in await self._queues.names() if name != QUEUE]
        parts = {name: self._queues.parts(name) for name in names}
        asked = [keys_of(part) for name in names for part in parts[name]]
        answers = await self._store.run_all([marks.read(), op.time_ms(), *op.snapshots(asked)])
        told, now_ms, *counted = op.unfailed(answers)
        found = {one.queue: one for some in counted for one in some}
        news: dict[str, Sequence[int]] = {}
        for hook in self._hooks:
            since_ms = told.get(hook.name, [None])[0]
            if since_ms is None:
                news[hook.name] = [int(now_ms)]
            for name in names:
                mine = [found[part] for part in parts[name]]
                if hook.watches("dead", name):
                    for one in mine:
                        news |= await self._letters(hook, name, one, told, since_ms)
                if hook.watches("age", name):
                    news |= await self._age(hook, name, mine, told)
        over = [mark for mark, said in news.items() if not said]
        over += self._left({*told}, {*found, *names})
        if news := {mark: said for mark, said in news.items() if said}:
            await self._store.run(marks.write(news))
        if over:
            await self._store.run(marks.drop(over))

    async def _letters(
        self,
        hook: Webhook,
        queue: str,
        one: Snapshot,
        told: Marks,
        since_ms: int | None,
    ) -> Marks:
        """Tell of letters that have come since the last were told of, a few of them; return the new mark."""
        mark, count = f"{hook.name} dead {one.queue}", one.counters.get("dead", 0)
        if since_ms is None:  # what died before it was there is not told
            return {mark: [count, one.now_ms]} if count else {}
        before = marks.Told(*[*told.get(mark, (0,)), since_ms][:2])
        if count == before.counted:
            return {}
        asking = marks.letters(keys_of(one.queue), before.counted, _LETTERS, _MARGIN)
        letters = await self._store.run(asking)
        for place, raw in enumerate([*letters.raw, *letters.older]):
            event = died(queue, raw, message_id(hook, one.queue, raw))
            # Letters may have been taken out since they were counted: then older ones stand here.
            is_old = 0 < event.at_ms < before.at_ms - _SKEW_MS
            counted = place < len(
                letters.raw
            )  # most of the others are told of: their keys are taken
            if not is_old and (counted or event.at_ms > since_ms):
                await self._tell(hook, event)
        return {mark: [letters.counted, one.now_ms if letters.all else before.at_ms]}

    async def _tell(self, hook: Webhook, event: Event) -> None:
        """Enqueue an event. One that can be no job must not keep back all others, again and again."""
        try:
            await self._enqueue(hook, event)
        except InvalidJob as error:
            log.error("webhook %s is not told of %s: %s", hook.name, event.message_id, error)

    async def _age(
        self, hook: Webhook, queue: str, parts: Sequence[Snapshot], told: Marks
    ) -> Marks:
        """Tell once that the jobs of a queue wait too long, until they do not; return the new mark."""
        mark = f"{hook.name} age {queue}"
        oldest = max(parts, key=lambda one: one.oldest_s or 0.0)
        late = oldest.waiting > 0 and (oldest.oldest_s or 0.0) > hook.max_age_s
        if not late:
            return {mark: []} if mark in told else {}
        if mark in told:
            return {}
        since = str(oldest.oldest_at_ms).encode()
        waiting = sum(one.waiting for one in parts)
        about = message_id(hook, queue, since)
        await self._tell(hook, aged(queue, oldest, waiting, hook.max_age_s, about))
        return {mark: [oldest.now_ms]}

    def _left(self, told: set[str], there: set[str]) -> list[str]:
        """Return the marks of queues that are forgotten."""
        mine = {hook.name for hook in self._hooks}
        return [mark for mark in told if _is_over(mark, mine, there)]


def _is_over(mark: str, hooks: set[str], there: set[str]) -> bool:
    name, *rest = mark.split(" ", 2)
    return name in hooks and len(rest) == 2 and rest[1] not in there


def message_id(hook: Webhook, queue: str, what: bytes) -> str:
    """Return what a message is called, each time that it is sent: the same for the same."""
    about = b"\0".join((hook.name.encode(), queue.encode(), what))
    return f"msg_{hashlib.sha256(about).hexdigest()[:32]}"
