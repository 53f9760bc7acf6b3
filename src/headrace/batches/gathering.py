"""Gathering: jobs that come one by one are given to the function together.

When there are enough of them, or the first has waited long enough. All of it on the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from typing import Any, Generic, TypeVar

from headrace.batches.batch import Batch, BatchItem, decide, told_by
from headrace.context import current_job
from headrace.hooks import ConsumerHooks, consumer_hooks

T = TypeVar("T")


class Member(BatchItem[T]):
    """A job that waits for others, or for the end of their call.

    Attributes:
        ended: done when it was said what becomes of it.
        hooks: those of its consumer, or None where it runs alone.
        gone: nobody waits for it any more: it was told to end.
    """

    def __init__(self, value: T) -> None:
        loop, context = asyncio.get_running_loop(), current_job.get()
        assert context is not None  # whoever runs a job sets it
        self.ended: asyncio.Future[None] = loop.create_future()
        self.hooks: ConsumerHooks | None = consumer_hooks.get()
        self.gone = False
        super().__init__(value, context, told_by(loop, self.ended))


class Gathering(Generic[T]):
    """Collects the jobs of one task in one event loop.

    Args:
        function: takes a batch.
        asynchronous: whether it has to be awaited; else it is called in a thread.
        size: how many jobs a batch has at most.
        within_s: how long the first of them waits at most, seconds.
    """

    def __init__(
        self,
        function: Callable[[Batch[T]], Any],
        *,
        asynchronous: bool,
        size: int,
        within_s: float,
    ) -> None:
        self._function = function
        self._asynchronous = asynchronous
        self._size = size
        self._within_s = within_s
        self._waiting: list[Member[T]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._calls: dict[asyncio.Task[None], list[Member[T]]] = {}

    async def join(self, value: T) -> Any:
        """Run one job: wait for the call of its batch, and return or raise what that has for it."""
        member = Member(value)
        self._waiting.append(member)
        _lend(member, 1)  # it takes no slot while it waits; its batch takes one
        # Alone, in a process of its own, there is nobody to wait for.
        if len(self._waiting) >= self._size or member.hooks is None:
            self._begin()
        elif self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._within_s, self._begin)
        try:
            await member.ended
        except asyncio.CancelledError:
            member.gone = True
            self._leave(member)
            raise
        finally:
            _lend(member, -1)
        return member.outcome()

    def _begin(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        members, self._waiting, self._timer = self._waiting, [], None
        if not members:
            return
        hooks = members[0].hooks
        context = hooks.context.copy() if hooks is not None else copy_context()
        context.run(current_job.set, None)  # it is no job's alone
        call = asyncio.get_running_loop().create_task(self._call(members), context=context)
        self._calls[call] = members
        call.add_done_callback(self._calls.pop)

    async def _call(self, members: list[Member[T]]) -> None:
        batch: Batch[T] = Batch()
        batch.items = [*members]
        _lend(members[0], -1)
        try:
            if self._asynchronous:
                returned = await self._function(batch)
            else:
                returned = await asyncio.to_thread(self._function, batch)
            decide(batch.items, returned)
        except BaseException as error:  # also SystemExit: it does not end the consumer
            for member in members:
                member.fail(error)
        finally:
            _lend(members[0], 1)

    def _leave(self, member: Member[T]) -> None:
        if member in self._waiting:
            self._waiting.remove(member)
            return
        for call, members in self._calls.items():
            if member in members and all(one.gone for one in members):
                call.cancel()


def _lend(member: Member[Any], slots: int) -> None:
    if member.hooks is not None:
        member.hooks.lend(slots)
