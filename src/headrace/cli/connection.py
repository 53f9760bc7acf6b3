"""The connection of a command that asks Redis and ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from headrace import operations as op
from headrace.keys import CONNECTION_PREFIX
from headrace.operations import Operation
from headrace.settings import DEFAULT_QUEUE, redis_url
from headrace.store import Store

R = TypeVar("R")


@contextmanager
def connected(url: str | None) -> Iterator[Store]:
    """Return a store for as long as it is needed.

    Args:
        url: what the command line says; None the environment or the default.

    Raises:
        InvalidSetting: the URL is not valid.
    """
    store = Store(redis_url(url).url, name=f"{CONNECTION_PREFIX}cli")
    try:
        yield store
    finally:
        store.close()


def answers(store: Store, operations: Sequence[Operation[R]]) -> list[R]:
    """Run operations of one kind in one round trip.

    Raises:
        StoreError: Redis cannot be reached, or one of them failed.
    """
    return op.unfailed(store.run_all(operations))


def known_queues(store: Store, named: Sequence[str] = ()) -> list[str]:
    """Return the queues that are meant: those named, else all known ones and the default.

    Raises:
        StoreError: Redis did not answer.
    """
    return list(dict.fromkeys(named)) or sorted({DEFAULT_QUEUE, *store.run(op.queues())})
