"""The service: watches for webhooks, and sends, beside a server.

What is to be sent are jobs of a task and a queue of its own, which a consumer in this process runs: so
they are retried and outlive this process, and what cannot be sent becomes a dead letter of that queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from typing import Any, Final

from headrace.app import Headrace
from headrace.clock import now_ms
from headrace.consumer import Consumer, ConsumerOptions
from headrace.consumer.options import QueueWeight
from headrace.duties import DUTIES
from headrace.errors import StoreError
from headrace.isolation.runner import IsolatedRunner
from headrace.policy import LeasePolicy, ReconnectBackoff
from headrace.retry import Backoff
from headrace.store import AsyncStore
from headrace.webhooks.event import Event
from headrace.webhooks.hook import Webhook
from headrace.webhooks.sending import DeliveryFailed, post
from headrace.webhooks.watcher import QUEUE, Queues, Watcher

log: logging.Logger = logging.getLogger(__name__)

TASK: Final = "headrace.webhook"

LOOK_EVERY_S: Final = 5.0
"""How often the queues are looked at."""

BACKOFF: Final = Backoff(base_s=10.0, factor=3.0, max_s=21_600.0)
"""Between two tries: at most 10 s, 30 s, …, and then 6 h."""

ATTEMPTS: Final = 12
"""So often it is tried: for a day or so."""

_TOLD_ONCE_S: Final = 604_800.0  # a server that was away for a week tells nothing twice
_AT_ONCE: Final = 4  # to each webhook, over all servers: one that does not answer holds up no other
_MOST_AT_ONCE: Final = 64  # at this server
_TIMEOUT_S: Final = 30.0
_GRACE_S: Final = 0.5  # a server ends within two seconds
_AGAIN_S: Final = 1.0


class WebhookService:
    """Watches and sends, while it runs.

    Args:
        url: the Redis.
        store: the server's store.
        queues: knows which queues there are.
        hooks: the webhooks.
        policy: how long claims last.
        backoff: how long to wait before a message is sent again; None as usual.
    """

    def __init__(
        self,
        url: str,
        store: AsyncStore,
        queues: Queues,
        hooks: Sequence[Webhook],
        *,
        policy: LeasePolicy | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        self._hooks = {hook.name: hook for hook in hooks}
        self._policy = policy or LeasePolicy()
        self._watcher = Watcher(store, queues, hooks, self._tell)
        self._app = Headrace(url, queue=QUEUE)
        options: dict[str, Any] = {"max_attempts": ATTEMPTS, "timeout": _TIMEOUT_S}
        # Each server sends what any of them has to tell, and not all may have keys.
        options |= {"backoff": backoff or BACKOFF, "encrypted": False}
        options |= {"concurrency_limit": _AT_ONCE, "limit_by": "name"}
        self._task = self._app.task(name=TASK, **options)(self._send)
        self._consumer: Consumer | None = None
        self._parts: list[asyncio.Task[None]] = []
        self._closing = False

    def start(self) -> None:
        """Begin, on this event loop; without webhooks there is nothing to do."""
        if self._hooks:
            self._parts = [asyncio.create_task(part) for part in (self._watch(), self._consume())]

    async def close(self) -> None:
        """End: what is being sent is given back, and sent by whoever comes next."""
        self._closing = True
        if self._consumer is not None:
            self._consumer.stop()
            self._consumer.stop()
        if self._parts:
            watching, consuming = self._parts
            watching.cancel()
            await asyncio.wait({watching, consuming}, timeout=_GRACE_S + _AGAIN_S)
            consuming.cancel()
        await self._app.aclose()

    async def _tell(self, hook: Webhook, event: Event) -> None:
        once = self._task.options(key=event.message_id, key_ttl=_TOLD_ONCE_S)
        await once.aenqueue(hook.name, event.message_id, event.body.decode())

    def _send(self, name: str, message_id: str, body: str) -> None:
        hook = self._hooks.get(name)
        if hook is None:
            raise DeliveryFailed(f"this server's file has no webhook {name}")  # another's may
        post(hook, message_id, now_ms() // 1000, body.encode())

    async def _watch(self) -> None:
        reconnect = ReconnectBackoff("webhooks")
        while True:
            try:
                await self._watcher.look()
                reconnect.over()
            except StoreError as error:
                await reconnect.wait(error)
                continue
            except Exception:
                log.exception("webhooks: what there is to tell could not be seen")
            await asyncio.sleep(LOOK_EVERY_S)

    async def _consume(self) -> None:
        queues = (QueueWeight(QUEUE),)
        slots = min(_AT_ONCE * (len(self._hooks) + 1), _MOST_AT_ONCE)  # one more: unknown ones
        options = ConsumerOptions(queues, slots, self._policy, _GRACE_S)
        while not self._closing:
            self._consumer = Consumer(self._app, options, IsolatedRunner, DUTIES)
            try:
                await self._consumer.run()
            except Exception:
                log.exception("webhooks are not sent; it begins again")
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0 if self._closing else _AGAIN_S)
