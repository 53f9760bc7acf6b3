"""What is said of a job that waits in a lane: for whose limit, and for how long."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import unquote

from headrace.doctor.humanize import ordinal, span, subject
from headrace.lanes.limit import WHOLE_QUEUE
from headrace.lanes.operations import Wait


def reasons(wait: Wait) -> Iterator[str]:
    """Say where it waits, then why."""
    name, _, key = wait.lane.partition("/")
    whose = "the queue" if name == WHOLE_QUEUE else f"task {unquote(name)}"
    yield f"limited, {ordinal(wait.before + 1)} in the lane of {whose}{key and f', key {unquote(key)}'}"
    held_back = [one for one in wait.bounds if one.holds_back]
    for one in held_back:
        what = "queue's limit" if one.name == WHOLE_QUEUE else f"limit {unquote(one.name)}"
        if one.wait_s:
            rate = f"{one.limit.rate:,.6g} a second"
            yield f"The {what} has no token: {rate}, the next in {span(one.wait_s)}."
        if one.limit.concurrency and one.used >= one.limit.concurrency:
            yield f"All {one.limit.concurrency:,} slots of the {what} are taken."
    if wait.lanes > 1:
        yield f"{wait.lanes:,}{' or more' if wait.lanes >= 1000 else ''} lanes have their turns."
    if not held_back:
        yield f"{subject(wait.out, 'job')} let out of lanes before it, and not at a consumer yet."
