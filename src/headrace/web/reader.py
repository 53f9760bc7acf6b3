"""Reads queues, as many as there are, in one round trip."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final, get_args

from headrace import operations as op
from headrace.app import Headrace
from headrace.keys import Keys, keys_of
from headrace.operations import Operation, Snapshot
from headrace.store import AsyncStore
from headrace.web.shapes import Place

PLACES: Final[tuple[Place, ...]] = get_args(Place)


def key_of(k: Keys, place: Place) -> str:
    """Give the key that holds a place."""
    key: str = getattr(k, place)
    return key


class Reader:
    """Reads the queues of one Redis.

    Args:
        store: the Redis.
        headrace: names queues that are shown before anybody has used them.
    """

    def __init__(self, store: AsyncStore, headrace: Headrace) -> None:
        self._store = store
        self._headrace = headrace

    async def ask(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        """Run operations in one round trip.

        Raises:
            StoreError: Redis did not answer, or answered one of them with an error.
        """
        return op.unfailed(await self._store.run_all(operations))

    async def names(self) -> list[str]:
        """List the queues: those that were used, and those of the application."""
        own = {self._headrace.queue, *(t.config.queue for t in self._headrace.tasks.values())}
        return sorted({*own, *await self._store.run(op.queues())})

    async def read(
        self, also: Collection[str] = (), peeks: Sequence[Operation[list[bytes]]] = ()
    ) -> tuple[list[Snapshot], list[list[bytes]]]:
        """Count all queues, and these as well; and read stretches of some, at the same time."""
        names = sorted({*await self.names(), *also})
        answers = await self.ask([*(op.snapshot(keys_of(name)) for name in names), *peeks])
        return answers[: len(names)], answers[len(names) :]
