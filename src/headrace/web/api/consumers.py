"""Consumers: who is connected, who holds jobs, and what they do."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, TypedDict

from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from headrace.doctor import consumers
from headrace.store import AsyncStore
from headrace.web.access import may_use_all
from headrace.web.answers import answer
from headrace.web.openapi import Endpoint
from headrace.web.reader import Reader


class ConsumerView(TypedDict):
    """A consumer, as far as Redis knows it."""

    name: str
    host: Annotated[str | None, Meta(description="Null: its name does not say.")]
    pid: int | None
    address: Annotated[str | None, Meta(description="Where its connections come from.")]
    connected_s: Annotated[int | None, Meta(description="Null: it has no connection.")]
    jobs: Annotated[int, Meta(description="How many it holds.")]
    queues: Annotated[dict[str, int], Meta(description="And in which queues.")]
    waiting: Annotated[bool, Meta(description="It has a free slot, and waits for a job.")]
    leader: Annotated[bool, Meta(description="It keeps the queues in order.")]
    over_http: Annotated[bool, Meta(description="It claims through the server.")]
    state: str


class ConsumerList(TypedDict):
    """All consumers, by name."""

    consumers: list[ConsumerView]
    broken: Annotated[dict[str, str], Meta(description="Queues that cannot be read, and why.")]


class Consumers:
    """The endpoints of consumers.

    Args:
        store: the Redis.
        reader: knows which queues there are.
    """

    def __init__(self, store: AsyncStore, reader: Reader) -> None:
        self._store = store
        self._reader = reader

    def endpoints(self) -> list[Endpoint]:
        """Return what there is, in the order in which it is looked for."""
        return [
            Endpoint(
                path="/consumers", handle=self.consumers,
                says="Show the consumers that are connected, and those that hold jobs.",
                answers=(ConsumerList,), errors=(503,),
            ),
        ]  # fmt: skip

    async def consumers(self, request: Request) -> Response:
        """Show all consumers."""
        return answer(await self.look(request))

    async def look(self, request: Request) -> ConsumerList:
        """Read all consumers.

        Raises:
            Refusal: whoever asks has some queues alone.
            StoreError: Redis did not answer.
        """
        may_use_all(request)
        names = await self._reader.names()
        parts = [part for name in names for part in self._reader.parts(name)]
        found, broken = await self._store.follow(consumers.look(parts))
        shown: list[ConsumerView] = [{**asdict(one), "state": one.state} for one in found]  # type: ignore[typeddict-item]
        why = {queue: str(error) for queue, error in broken.items()}
        return ConsumerList(consumers=shown, broken=why)
