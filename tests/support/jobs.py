"""Jobs as they stand in Redis: read, and made dead, without a consumer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from redis import Redis

from headrace import operations as op
from headrace import wire
from headrace.ids import new_id
from headrace.keys import keys_of
from headrace.store import Store


def jobs(redis: Redis, queue: str = "queue") -> list[dict[str, Any]]:
    """Give the pending jobs, oldest first."""
    return [json.loads(job) for job in reversed(redis.lrange(queue, 0, -1))]


def bury(store: Store, queue: str = "queue", reason: Any = "max_attempts", **more: Any) -> str:
    """Make a dead letter as a consumer does: enqueue, claim, settle."""
    k, job_id = keys_of(queue), new_id()
    body = wire.encode_call(more.get("task", "send"), (more.get("arg", 42),), {})
    error = wire.error_of(
        reason,
        ValueError(more.get("message", "no such user")),
        traceback="Traceback (most recent call last):\n  …\nValueError: no such user\n",
        failed_at=more.get("failed_at", 1_700_000_000_000),
        consumer="c-1",
    )
    store.run(op.register(queue))
    store.run(op.enqueue(k, [wire.assemble(job_id, body)]))
    (job,) = store.run(op.claim(k, 1, lease_ms=60_000, consumer="c-1", first=1)).jobs
    head, body = wire.split(job) or pytest.fail("not canonical")
    letter = wire.letter(head, body, error)
    assert store.run(op.settle(k, "c-1", [op.Outcome(job_id, 1, "dead", job=letter)])) == []
    return job_id
