"""Runs the maintenance beside a program: in a thread with an event loop and a connection of its own.

A task that keeps a consumer's event loop busy, or a server that answers many requests, must not keep
due jobs and the jobs of lost consumers waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Final

from headrace.maintenance.duties import DutyMaker
from headrace.maintenance.maintenance import Maintenance
from headrace.policy import LeasePolicy
from headrace.store import AsyncStore

_ENDS_WITHIN_S: Final = 1.5  # so long a program that ends waits for the lead to be given up
_CANCEL_AGAIN_S: Final = 0.4  # redis-py may swallow a cancellation


class MaintenanceThread:
    """Runs ``Maintenance`` in a thread.

    Args:
        url: where Redis is.
        label: what its connection is called in ``CLIENT LIST``.
        name: who this is, unique among consumers and servers.
        policy: how long claims last.
        duties: make what else the leader does.
    """

    def __init__(
        self,
        url: str,
        label: str,
        name: str,
        policy: LeasePolicy,
        duties: Sequence[DutyMaker] = (),
    ) -> None:
        self._url = url
        self._label = label
        self._name = name
        self._policy = policy
        self._duties = duties
        self._maintenance: Maintenance | None = None

    @property
    def leads(self) -> bool:
        """Whether it led at its last look."""
        return self._maintenance is not None and self._maintenance.leads

    async def run(self) -> None:
        """Maintain until cancelled; then wait a moment for the lead to be given up.

        Raises:
            Exception: the maintenance failed, which is a bug.
        """
        loop, end, ended = asyncio.new_event_loop(), asyncio.Event(), Future[None]()
        ended.set_running_or_notify_cancel()
        args = (loop, end, ended)
        threading.Thread(
            target=self._run, args=args, name="headrace-maintenance", daemon=True
        ).start()
        waiting = asyncio.wrap_future(ended)
        try:
            await asyncio.shield(waiting)
        finally:
            with contextlib.suppress(RuntimeError):  # it has ended already
                loop.call_soon_threadsafe(end.set)
            await asyncio.wait({waiting}, timeout=_ENDS_WITHIN_S)
            waiting.cancel()

    def _run(
        self, loop: asyncio.AbstractEventLoop, end: asyncio.Event, ended: Future[None]
    ) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(self._maintain(end))
        except BaseException as error:
            ended.set_exception(error)
        else:
            ended.set_result(None)

    async def _maintain(self, end: asyncio.Event) -> None:
        store = AsyncStore(self._url, name=self._label)
        self._maintenance = Maintenance(store, self._name, self._policy, self._duties)
        running = asyncio.create_task(self._maintenance.run())
        ending = asyncio.create_task(end.wait())
        await asyncio.wait({running, ending}, return_when=asyncio.FIRST_COMPLETED)
        while not running.done():
            running.cancel()
            await asyncio.wait({running}, timeout=_CANCEL_AGAIN_S)
        ending.cancel()
        await store.close()
        if not running.cancelled():
            running.result()
