"""The end of a member on another node than its workflow: a job tells of it there (see ``forwarding``)."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from headrace import wire
from headrace.handoff import FollowUp
from headrace.ids import new_id
from headrace.operations import Operation, run
from headrace.workflows.member import Member, failure_of

TELL: Final = "headrace.tell"
"""The task of such jobs."""

_MOST: Final = wire.DEFAULT_MAX_BYTES - 10_000  # of a result, so that it fits into such a job

_json = msgspec.json.Encoder().encode


def told_at_home(member: Member, value: bytes, why: bytes, queue: str) -> FollowUp:
    """Return the job that tells, to be enqueued in the member's queue with its end.

    Args:
        member: the member.
        value: its result, as JSON; b"" if nobody wants it.
        why: how it failed, as JSON; b"" if it did not.
        queue: its queue.
    """
    if len(value) > _MOST:
        said = f"a result of more than {_MOST:,} bytes does not travel to another node"
        value, why = b"", failure_of("too_large", "", said, member.job_id, queue)
    # What is not there is an empty list: it may be any JSON.
    args = b"[%b],[%b]]}" % (value, why)
    body = wire.encode_call(TELL, (member.id, member.n, member.queues[0]), {})
    head = wire.Head(f"{member.job_id}-{new_id()}", priority=wire.MAX_PRIORITY)
    job = wire.join(head, body.removesuffix(b"]}")) + b"," + args
    return FollowUp(queue, "", "", 0, "", job)


def hear(member: Member, value: bytes, why: bytes) -> Operation[int]:
    """Note at its workflow's home that a member has ended; return 0 if that was known."""
    used = (*member.keys(), *member.places())
    return run("workflows/hear", used, (member.n, value, why), int)


def heard(workflow_id: str, n: int, home: str, value: list[Any], why: list[Any]) -> Operation[int]:
    """Note what such a job tells; given its arguments."""
    said = [_json(one[0]) if one else b"" for one in (value, why)]
    return hear(Member(workflow_id, n, (home,)), *said)
