"""The two stores, opened and called in one way, and requests to them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar

from headrace.errors import StoreError
from headrace.flows import Flow
from headrace.keys import keys_of
from headrace.operations import Operation, command
from headrace.store import AsyncStore
from tests.support.wait import wait_until

R = TypeVar("R")

K = keys_of("queue")
A, B, C = (b'{"id":"%b","task":"t"}' % name for name in (b"a", b"b", b"c"))


class OpenStore(Protocol):
    def run(self, operation: Operation[R]) -> R: ...
    def run_all(self, operations: Sequence[Operation[Any]]) -> list[Any]: ...
    def follow(self, flow: Flow[R]) -> R: ...
    def close(self) -> None: ...


class Looped:
    """An ``AsyncStore`` on a loop of its own, called as the other one is."""

    def __init__(self, url: str, **options: Any) -> None:
        self._runner = asyncio.Runner()
        self._store = AsyncStore(url, **options)

    def run(self, operation: Operation[R]) -> R:
        return self._run(self._store.run(operation))

    def run_all(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        return self._run(self._store.run_all(operations))

    def follow(self, flow: Flow[R]) -> R:
        return self._run(self._store.follow(flow))

    def close(self) -> None:
        self._run(self._store.close())
        self._runner.close()

    def _run(self, call: Coroutine[Any, Any, R]) -> R:
        async def turned() -> R:
            for _ in range(3):  # between two calls a program's loop turns, and sees what has closed
                await asyncio.sleep(0)
            return await call

        return self._runner.run(turned())


Open = Callable[..., OpenStore]


def echo(text: str) -> Operation[bytes]:
    return command("ECHO", text, parse=lambda raw: raw)


def client_id() -> Operation[int]:
    return command("CLIENT", "ID", parse=int)


def insist(store: OpenStore, *operations: Operation[Any]) -> list[Any]:
    """Run requests until they are answered, whose own time is not what the test is about.

    A timeout that is short for the sake of another request may be too short for a slow machine.
    """

    def answers() -> list[Any] | None:
        try:
            return store.run_all(operations)
        except StoreError:
            return None

    found = wait_until(answers, "an answer comes in time")
    assert found is not None
    return found
