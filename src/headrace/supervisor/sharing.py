"""How a consumer shares partitioned queues with others: which partitions there are, and which it takes first.

The consumers of a queue number themselves in the order in which they came (``partitions/attend.lua``). Each
takes its own partitions first, and those of others when its own are empty: so nothing waits beside an idle
consumer, and who is at home where decides only who takes what first. Nothing is handed over when one comes
or goes: who has gone is counted no more after some seconds, and the others are numbered anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from headrace import operations as op
from headrace.clock import monotonic
from headrace.consumer import Consumer, ConsumerOptions
from headrace.consumer.options import QueueWeight
from headrace.errors import StoreError
from headrace.keys import keys_of
from headrace.lanes import operations as lanes
from headrace.lanes.declared import declared
from headrace.partitions import requests
from headrace.partitions.names import split
from headrace.partitions.requests import ONE, Count, Share, own_of
from headrace.partitions.view import parts_of

if TYPE_CHECKING:
    from headrace.app import Headrace

log: logging.Logger = logging.getLogger("headrace.consumer")

EVERY_S: Final = 1.5
"""How often a consumer of a partitioned queue says that it is there."""

_EVERY_UNDIVIDED_S: Final = 30.0
"""How long it takes to notice that a queue is divided that was not."""

_LIST_EVERY_S: Final = 30.0
"""So often the registry is read, for partitions that are no more, but for a job that came late."""

_HOME: Final = 100.0
"""By so much more weight a consumer takes from its own partitions, where it takes by weight."""


class Sharing:
    """The partitioned queues of one consumer.

    Args:
        app: its application.
    """

    def __init__(self, app: Headrace) -> None:
        self._app = app
        self._store = app.producer().astore()
        self._queues: tuple[QueueWeight, ...] = ()
        self._counts: dict[str, Count] = {}
        self._limits: dict[str, dict[str, str]] = {}  # as they are declared, of partitions
        self._registered: list[str] = []  # partitions that are
        self._list_at = 0.0

    async def options(self, options: ConsumerOptions) -> ConsumerOptions:
        """Return the options of a consumer with all partitions of its queues, as far as Redis says."""
        self._queues = options.queues
        said = {q.name: n for q in self._queues if (n := self._app.partitions.declared.get(q.name))}
        # If Redis does not answer, it begins with the first ones, and hears of others.
        with contextlib.suppress(StoreError):
            asked = [requests.declare(queue, n) for queue, n in said.items()]
            op.unfailed(await self._store.run_all(asked) if asked else ())
            await self._look("")
            for queue, n in said.items():
                if self._counts[queue].filled != n:
                    _tell(queue, self._counts[queue].filled, n)
        return replace(options, queues=self._order({}))

    async def run(self, consumer: Consumer) -> None:
        """Keep a consumer's queues and their order as they should be, until cancelled."""
        before = self._order({})
        try:
            while True:
                with contextlib.suppress(StoreError):  # it goes on with what it knows
                    order = self._order(await self._look(consumer.name))
                    await self._declare_limits(order)
                    if order != before and consumer.ready and not consumer.stopping:
                        consumer.consume(order)
                        if new := {queue.name for queue in order} - {
                            queue.name for queue in before
                        }:
                            log.info("%s consumes %s, too", consumer.name, ", ".join(sorted(new)))
                        before = order
                await asyncio.sleep(EVERY_S if self._divided() else _EVERY_UNDIVIDED_S)
        finally:
            with contextlib.suppress(StoreError):  # else it is missed soon
                asked = [one for q in self._divided() for one in requests.leave(q, consumer.name)]
                await self._store.run_all(asked)

    async def _declare_limits(self, queues: Sequence[QueueWeight]) -> None:
        """Declare the limits of partitions that are new, or whose shares have changed.

        Raises:
            StoreError: Redis has not taken them.
        """
        divided = self._divided()
        for queue in [queue.name for queue in queues if split(queue.name)[0] in divided]:
            limits = declared(self._app, queue)
            if limits and limits != self._limits.get(queue):
                op.unfailed(await self._store.run_all(lanes.declaration(keys_of(queue), limits)))
                self._limits[queue] = limits

    async def _look(self, consumer: str) -> dict[str, Share]:
        """Ask how many partitions there are, and say that this consumer is there, unless it is "".

        Raises:
            StoreError: Redis has not answered.
        """
        names = [queue.name for queue in self._queues if not split(queue.name)[1]]
        if not names:
            return {}
        asked: list[op.Operation[Any]] = [requests.counts(names)]
        divided = self._divided()
        asked += [requests.attend(queue, consumer) for queue in divided if consumer]
        listing = bool(divided) and monotonic() >= self._list_at
        answers = op.unfailed(await self._store.run_all([*asked, *([op.queues()] * listing)]))
        if listing:
            self._list_at = monotonic() + _LIST_EVERY_S
            self._registered = [name for name in answers[-1] if split(name)[0] in divided]
        self._counts = answers[0]
        self._app.partitions.said(self._counts)
        return dict(zip(divided, answers[1:], strict=False)) if consumer else {}

    def _divided(self) -> list[str]:
        return [queue for queue, count in self._counts.items() if count != ONE]

    def _order(self, shares: Mapping[str, Share]) -> tuple[QueueWeight, ...]:
        order: list[QueueWeight] = []
        for queue in self._queues:
            count = self._counts.get(queue.name, ONE)
            names = parts_of(queue.name, count, self._registered)
            order += weighed(queue, names, shares.get(queue.name))
        return tuple(order)


def weighed(queue: QueueWeight, names: Sequence[str], share: Share | None) -> list[QueueWeight]:
    """Return the partitions of a queue in the order, or by the weights, that a consumer takes from them."""
    if share is None:
        return [QueueWeight(name, queue.weight / len(names)) for name in names]
    own = own_of(len(names), share)
    # Then those behind its own, so that not all help the same one.
    others = (*range(own[0] + 1, len(names)), *range(own[0]))
    order = (*own, *(number for number in others if number not in own))
    ratios = [_HOME if number in own else 1.0 for number in order]
    whole = sum(ratios)
    return [
        QueueWeight(names[number], queue.weight * ratio / whole)
        for number, ratio in zip(order, ratios, strict=True)
    ]


def _tell(queue: str, there: int, declared: int) -> None:
    log.warning(
        "queue %s has %d partitions, and the application declares %d: headrace partition %s %d",
        queue, there, declared, queue, declared,
    )  # fmt: skip
