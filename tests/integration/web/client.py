"""A client of the web application, with no socket between, and what its tests need."""

from __future__ import annotations

import httpx

from headrace import Headrace, wire
from headrace import operations as op
from headrace.keys import Keys, keys_of
from headrace.store import AsyncStore
from headrace.web import create_app
from tests.support.wait import WAIT_S

K = keys_of("queue")
OURS = "http://127.0.0.1"


def client_of(app: Headrace, store: AsyncStore) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(create_app(app, store)), base_url=OURS, timeout=WAIT_S
    )


def error_of(response: httpx.Response) -> str:
    """Give the error that a refusal must have, and check that it is a sentence."""
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == response.status_code
    assert problem["type"].startswith("/api/v1/problems/")
    detail = problem["detail"]
    assert " " in detail, detail
    return str(detail)


async def kill_one(
    store: AsyncStore, k: Keys, reason: wire.Reason, failure: Exception, failed_at: int = 1
) -> None:
    """Claim a job and end it in the dead letters."""
    (job,) = (await store.run(op.claim(k, 1, lease_ms=60_000, consumer="c", first=1))).jobs
    parts = wire.split(job)
    assert parts
    head, body = parts
    error = wire.error_of(reason, failure, failed_at=failed_at, consumer="c")
    dead = op.Outcome(head.id, 1, "dead", job=wire.letter(head, body, error))
    assert await store.run(op.settle(k, "c", [dead])) == []
