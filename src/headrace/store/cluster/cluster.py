"""The nodes of a cluster, and round trips to several of them at once.

A slot can be elsewhere than the slot map says: after a failover, or because it is being moved. Then the
node says where, having run nothing, and the request goes there (MOVED, ASK), or a moment later again
(TRYAGAIN). What was sent and not answered is lost, as with one server: nothing is sent twice.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, ClassVar, Final, Generic, NamedTuple

from redis.exceptions import AskError, ClusterDownError, MovedError, TryAgainError

from headrace.clock import monotonic
from headrace.errors import ClusterUnsupported, StoreError, StoreRefused
from headrace.operations import Operation, command, nothing
from headrace.settings import redacted
from headrace.store import exchange
from headrace.store.address import AnyAddress, C
from headrace.store.cluster import slots
from headrace.store.cluster.parts import Part, Whole, take_apart
from headrace.store.cluster.slots import SlotMap
from headrace.store.guides import Guides, Host
from headrace.store.node import Node

_TRY_AGAIN_S: Final = 0.02  # a key that is on its way takes about a millisecond
_AT_ONCE: Final = 2  # so many redirects in a row; after that the nodes do not agree yet
_ASKING: Final = command(
    "ASKING", parse=nothing
)  # let the next request in, though the slot is not yours yet

Together = Callable[[Sequence[Coroutine[Any, Any, list[Any]]]], Awaitable[list[list[Any]]]]


class Cluster(Generic[C]):
    """The nodes of one cluster.

    Args:
        url: where some of them are.
        address: what a connection is made of; ``at`` names the node.
        node: makes a node of an address.
        together: runs round trips to several nodes at once.
        sleep: lets time pass, seconds.
        within_s: how long a request is sent again that meets a slot on its way.
    """

    joins_queues: ClassVar[bool] = False

    def __init__(  # noqa: PLR0917  what a store has, and nobody else calls it
        self,
        url: str,
        address: AnyAddress[C],
        node: Callable[[AnyAddress[C]], Node[C]],
        together: Together,
        sleep: Callable[[float], Awaitable[None]],
        within_s: float,
    ) -> None:
        assert address.group is not None
        self._address = address
        self._new_node = node
        self._together = together
        self._sleep = sleep
        self._within_s = within_s
        self._guides = Guides(address.group.hosts, f"the nodes of {redacted(url)}")
        self._map: SlotMap | None = None
        self._stale = False
        self._nodes: dict[Host, Node[C]] = {}

    async def trip(
        self, operations: Sequence[Operation[Any]], meanwhile: Callable[[], None] | None = None
    ) -> list[Any]:
        """Run operations in one round trip to each node concerned; as ``Node.trip``.

        Where some nodes answer and others do not, the failures stand in the places of the answers.
        """
        slot_map = await self._known()
        wholes: list[Whole | StoreError] = []
        for operation in operations:
            try:
                wholes.append(take_apart(operation, slot_map.primaries))
            except ValueError as error:
                wholes.append(ClusterUnsupported(str(error)))
        parts = [part for whole in wholes if isinstance(whole, Whole) for part in whole.parts]
        answers = iter(await self._send(parts, slot_map, meanwhile))
        return [
            whole if isinstance(whole, StoreError) else _joined(whole, operation, [
                next(answers) for _ in whole.parts
            ])
            for whole, operation in zip(wholes, operations, strict=True)
        ]  # fmt: skip

    async def route(self, operation: Operation[Any]) -> tuple[Node[C], Operation[Any]]:
        """Return where a request of one slot goes, and how it is sent there; without keys, anywhere.

        Raises:
            StoreUnavailable: nobody says where, or nobody serves it.
        """
        slot_map = await self._known()
        [part] = take_apart(operation, slot_map.primaries[:1]).parts
        host = random.choice(slot_map.primaries) if part.slot is None else slot_map.owner(part.slot)
        if host is None:
            raise self._unserved()
        return self._node(host), part.operation

    def explained(self, error: StoreError) -> StoreError:
        """Return what a request that was routed is to raise; and ask anew where all are."""
        cause = error.__cause__
        self._map = None
        if not isinstance(cause, AskError):
            said: StoreError = self._said(error)
            return said
        moved = StoreRefused(
            f"the slot of this queue is at {cause.host}:{cause.port} now, or will be"
        )
        moved.__cause__ = cause
        return moved

    def nodes(self) -> list[Node[C]]:
        """Return the nodes that were spoken to."""
        return [*self._nodes.values()]

    async def close(self, *, nowait: bool = False) -> None:
        """Close the connections to all nodes: idle ones now, busy ones after use."""
        for node in self.nodes():
            await node.close(nowait=nowait)

    async def _send(
        self, parts: Sequence[Part], slot_map: SlotMap, meanwhile: Callable[[], None] | None
    ) -> list[Any]:
        answers: list[Any] = [None] * len(parts)
        failures: list[StoreError] = []
        left = {n: _Way(host) for n, host in enumerate(_hosts_of(parts, slot_map))}
        until, rounds = monotonic() + self._within_s, 0
        while left:
            by_node: dict[Host | None, list[int]] = {}
            for n in sorted(left):
                by_node.setdefault(left[n].host, []).append(n)
            calls = [self._of_node(host, [(parts[n], left[n].ask) for n in ns], failures,
                                   meanwhile if i == len(by_node) else None)
                     for i, (host, ns) in enumerate(by_node.items(), 1)]  # fmt: skip
            went, left, rounds, meanwhile = left, {}, rounds + 1, None
            pause = rounds > _AT_ONCE
            for ns, got in zip(by_node.values(), await self._together(calls), strict=True):
                for n, answer in zip(ns, got, strict=True):
                    answers[n] = answer
                    way = self._way_on(answer, went[n])
                    if way is not None and monotonic() < until:
                        left[n] = way
                        pause |= way == went[n]
            _wait_again(parts, left)
            if left and pause:
                await self._sleep(_TRY_AGAIN_S)
        if failures and len(failures) == len(parts):
            raise failures[0]
        return [self._said(answer) for answer in answers]

    async def _of_node(
        self,
        host: Host | None,
        parts: Sequence[tuple[Part, bool]],
        failures: list[StoreError],
        meanwhile: Callable[[], None] | None,
    ) -> list[Any]:
        if host is None:
            error: StoreError = self._unserved()
        else:
            asked = [one for part, ask in parts for one in ([_ASKING] * ask + [part.operation])]
            try:
                answers = iter(await self._node(host).trip(asked, meanwhile))
                return [[next(answers) for _ in range(ask + 1)][-1] for _, ask in parts]
            except StoreError as lost:
                self._map = None
                error = lost
        failures += [error] * len(parts)
        return [error] * len(parts)

    def _way_on(self, answer: Any, went: _Way) -> _Way | None:
        """Return where to send a request whose slot is elsewhere, or on its way."""
        cause = answer.__cause__ if isinstance(answer, StoreError) else None
        if isinstance(cause, AskError):  # or MovedError, which is one
            host = (cause.host or (went.host or ("",))[0], int(cause.port))
            if isinstance(cause, MovedError) and self._map is not None:
                self._map.moved(cause.slot_id, host)
                self._stale = True
            return _Way(host, ask=not isinstance(cause, MovedError))
        return went if isinstance(cause, TryAgainError) else None

    def _said(self, answer: Any) -> Any:
        """Say of a request that no node would carry out that it can be sent again."""
        cause = answer.__cause__ if isinstance(answer, StoreError) else None
        if not isinstance(cause, (AskError, TryAgainError, ClusterDownError)):
            return answer
        self._map = None
        return self._guides.away(f"do not agree yet who serves this queue: {cause}")

    async def _known(self) -> SlotMap:
        if self._map is not None and not self._stale:
            return self._map
        answers: dict[Host, Any] = {}
        for host in self._guides.hosts:
            answers[host] = await self._address.ask(host, "CLUSTER", "SLOTS")
            if isinstance(answers[host], list) and answers[host]:
                self._map, self._stale = slots.read(answers[host], host), False
                self._guides.asked(answers, (*self._map.primaries, *self._map.replicas))
                return self._map
        refused = [one for one in answers.values() if isinstance(one, exchange.SERVER_ERRORS)]
        if refused:
            raise exchange.refused("CLUSTER SLOTS", refused[0])
        raise self._guides.unknown(answers)

    def _node(self, host: Host) -> Node[C]:
        if host not in self._nodes:
            self._nodes[host] = self._new_node(self._address.at(host))
        return self._nodes[host]

    def _unserved(self) -> StoreError:
        return self._guides.away("know of none that serves this queue: they fail over, or are down")


class _Way(NamedTuple):
    """Where a request goes, and whether the node there has to be told that the slot is on its way."""

    host: Host | None
    ask: bool = False


def _hosts_of(parts: Sequence[Part], slot_map: SlotMap) -> list[Host | None]:
    own = [part.host if part.slot is None else slot_map.owner(part.slot) for part in parts]
    beside = next((host for host in own if host), None) or random.choice(slot_map.primaries)
    hosts: list[Host | None] = []
    for part, host in zip(parts, own, strict=True):
        if host is not None:
            beside = host
        hosts.append(beside if part.slot is None else host)
    return hosts


def _wait_again(parts: Sequence[Part], left: dict[int, _Way]) -> None:
    """Let a WAIT go after what is sent again before it, with the write in front of it."""
    for n, part in enumerate(parts):
        before = [m for m in left if m < n]
        if part.operation.name == "WAIT" and before:
            left[n - 1] = left[n] = left[max(before)]


def _joined(whole: Whole, operation: Operation[Any], answers: list[Any]) -> Any:
    if whole.join is None:
        return answers[0]
    good = [answer for answer in answers if not isinstance(answer, StoreError)]
    if len(good) < len(answers) and (whole.needs_all or not good):
        return next(answer for answer in answers if isinstance(answer, StoreError))
    return operation.parse(whole.join(good))
