"""How long the job waits that has waited longest: one answer, for the command line and the server."""

from __future__ import annotations

import pytest

from headrace.ids import new_id, time_ms_of
from headrace.operations import Snapshot
from headrace.web.views import queue_view

FIRST, SECOND = new_id(), new_id()
AT_MS = time_ms_of(FIRST) or 0


def head(job_id: str) -> bytes:
    return f'{{"id":"{job_id}","task":"t"}}'.encode()


def snapshot(oldest: bytes = b"", first_priority: bytes = b"", later_ms: int = 5_000) -> Snapshot:
    return Snapshot(
        queue="queue", now_ms=AT_MS + later_ms, pending=1, priority=1, delayed=0, processing=0, dead=0,
        leases=0, claims=0, paused=False, oldest=oldest, first_priority=first_priority, due_at_ms=None,
        counters={},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("seen", "age_s"),
    [
        (snapshot(), None),
        (snapshot(head(FIRST)), 5.0),
        (snapshot(head(SECOND), head(FIRST)), 5.0),
        (snapshot(head(FIRST), head(SECOND)), 5.0),
        # The other one may have waited longer: nobody knows.
        (snapshot(head(FIRST), head("mine")), None),
        (snapshot(b"oops", head(FIRST)), None),
        # 26 letters of another make: they tell an instant in 1970.
        (snapshot(head("0" * 26)), None),
        # Its producer's clock is ahead.
        (snapshot(head(FIRST), later_ms=-5_000), 0.0),
    ],
)
def test_the_command_line_and_the_server_give_one_answer(
    seen: Snapshot, age_s: float | None
) -> None:
    assert seen.oldest_s == age_s
    at_ms = queue_view(seen)["oldest_at_ms"]
    assert at_ms == (None if age_s is None else AT_MS)
