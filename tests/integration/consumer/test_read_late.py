"""A loop that is held reads the answer to a claim late: what is left of the lease decides.

The lease keeper extends what the loop knows of, and has not heard of these jobs. A clock of the batcher
that jumps ahead while Redis answers stands for the loop that is held.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from headrace.clock import monotonic
from headrace.consumer import batcher
from headrace.operations import Operation
from headrace.policy import LeasePolicy
from headrace.store import AsyncStore
from tests.support.consuming import Site
from tests.support.wait import await_until

LEASE = LeasePolicy(lease_s=600, bare_lease_s=600)


def read_late(monkeypatch: pytest.MonkeyPatch, late_s: float) -> None:
    """Let the answer to the first claim that brings jobs be read so much later than it was sent."""
    ahead_s = [0.0]
    run_all = AsyncStore.run_all
    brought: list[int] = []

    async def held(self: AsyncStore, operations: Sequence[Operation[Any]], *rest: Any) -> list[Any]:
        answers = await run_all(self, operations, *rest)
        claims = [a for op, a in zip(operations, answers, strict=True) if op.name == "claim"]
        if any(answer.jobs for answer in claims) and not brought:
            brought.append(1)
            ahead_s[0] = late_s
        return answers

    monkeypatch.setattr(AsyncStore, "run_all", held)
    monkeypatch.setattr(batcher, "monotonic", lambda: monotonic() + ahead_s[0])


@pytest.mark.parametrize(
    ("late_s", "released"),
    [
        pytest.param(200, 0, id="long before it is extended, so that it begins"),
        pytest.param(400, 1, id="when it may end before it is extended, so that it goes back"),
    ],
)
async def test_a_claim_is_read(
    site: Site, monkeypatch: pytest.MonkeyPatch, late_s: float, released: int
) -> None:
    ran: list[int] = []
    site.app.task(name="note")(ran.append)
    await site.app.aenqueue("note", 1)
    read_late(monkeypatch, late_s)
    async with site.consumer(lease=LEASE) as running:
        await await_until(lambda: site.counters().get("done") == 1, "it has run")
        assert running.consumer._jobs.timings.ends["release"] == released
    assert ran == [1]
