"""The tasks that consumers know beside those of their application.

Each starts workflows that a job has handed on (see ``workflows.handing``). On a cluster it carries besides what goes
from one node to another (see ``forwarding``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from headrace import operations as op
from headrace.app import Headrace
from headrace.forwarding import arrive
from headrace.handoff import FORWARD, FollowUp
from headrace.retry import Backoff
from headrace.tasks import Tasks
from headrace.workflows.handing import START, begun
from headrace.workflows.telling import TELL, heard

_ATTEMPTS: Final = 1_000
"""Some eight hours, for a node that is away comes back, or is replaced; then it is a dead letter."""


def know_forwarding(app: Headrace) -> None:
    """Have the consumers of an application start, and carry to other nodes, what jobs leave for them."""
    if START in app.tasks:
        return

    async def forward(queue: str, due: str, key: str, key_ttl_ms: int, job: dict[str, Any]) -> None:
        store = app.producer().astore()
        one = FollowUp(queue, due, key, key_ttl_ms, job["id"], msgspec.json.encode(job))
        await store.run(op.register(queue))
        await store.run(arrive(one))

    async def tell(*said: Any) -> None:
        await app.producer().astore().run(heard(*said))

    async def start(*said: Any) -> None:
        await app.producer().astore().follow(begun(*said[3:4]))  # what is before it is for people

    # Such jobs are in any queue: these are among those that its consumers serve anyway.
    queue = next((task.config.queue for task in app.tasks.values()), app.queue)
    own = Tasks()  # so that no hook of the application is around them
    tasks: dict[str, Callable[..., Awaitable[None]]] = {START: start}
    if not app.producer().joins_queues:
        tasks |= {FORWARD: forward, TELL: tell}
    for name, function in tasks.items():
        declare = own.task(
            name=name, queue=queue, max_attempts=_ATTEMPTS, backoff=Backoff(1.0, max_s=60.0)
        )
        app.tasks[name] = declare(function)
