"""A member: a job that belongs to a workflow, and what it knows of that. Pure."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from headrace import keys
from headrace.handoff import HandOff
from headrace.keys import keys_of
from headrace.operations import Verb
from headrace.workflows.keys import places_of, workflow_keys

_NUMBER: Final = 6  # digits of a member's number in its id, so that ids sort as the members stand
MAX_MEMBERS: Final = 10**_NUMBER
_ID = re.compile(rf"(.+)-(\d{{{_NUMBER}}})")
_MAX_MESSAGE: Final = 300  # characters of an error that a workflow keeps


class Member(msgspec.Struct, frozen=True, omit_defaults=True):
    """What stands in a member's body as ``workflow``.

    Attributes:
        id: the workflow's id.
        n: its number in it.
        queues: the queues that the workflow uses, its home first; on a cluster the home alone.
        keep: what it returns is wanted: 1 by whoever waits for the workflow, 2 by another member; 0 by nobody.
    """

    id: str
    n: int
    queues: tuple[str, ...]
    keep: int = 0

    @property
    def job_id(self) -> str:
        """The id that it was made with."""
        return job_id_of(self.id, self.n)

    def is_apart(self, queue: str) -> bool:
        """Whether its queue may be on another node than its workflow: a job tells there of its end."""
        return queue not in self.queues

    def keys(self) -> tuple[str, ...]:
        """The keys of its workflow, as the scripts take them."""
        return workflow_keys(keys_of(self.queues[0]), self.id)

    def places(self) -> list[str]:
        """The keys of the workflow's queues, as the scripts take them."""
        return [key for queue in self.queues for key in places_of(keys_of(queue))]


class Failed(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a member failed, as its workflow keeps it.

    Attributes:
        reason: one of the words of a dead letter, or ``cancelled``.
        type: the exception's class name, or "".
        message: the beginning of what it said.
        job_id: the member's id.
        queue: where its dead letter is, if it has one.
    """

    reason: str
    type: str = ""
    message: str = ""
    job_id: str = ""
    queue: str = ""


class _End(msgspec.Struct, frozen=True):
    """A job's end, as ``results`` encodes it; what it returned stays as it is."""

    state: str
    value: msgspec.Raw = msgspec.Raw(b"null")
    error: Failed | None = None
    unreadable: str = ""


class MemberHandOff(HandOff):
    """What one run of a member has to hand on, beside its end.

    Attributes:
        member: what it knows of its workflow.
    """

    __slots__ = ("member",)

    def __init__(self, member: Member) -> None:
        super().__init__()
        self.member: Member = member


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Member).decode
_decode_end = msgspec.json.Decoder(_End).decode
_decode_failed = msgspec.json.Decoder(Failed).decode


def job_id_of(workflow_id: str, n: int) -> str:
    """Return the id of a member's job."""
    return f"{workflow_id}-{n:0{_NUMBER}}"


def of_job_id(job_id: str) -> tuple[str, int] | None:
    """Return the workflow's id and the number, if it is a member's id."""
    match = _ID.fullmatch(job_id)
    return (match[1], int(match[2])) if match else None


def read_member(raw: bytes) -> Member | None:
    """Read the field ``workflow`` of a job; None if it is not what we write: then it is another's."""
    try:
        member = _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    fits = 0 <= member.n < MAX_MEMBERS and member.queues and all(map(keys.is_name, member.queues))
    return member if fits else None


def hand_off_of(raw: bytes) -> MemberHandOff | None:
    """Return what a run of a job with this field ``workflow`` begins with."""
    member = read_member(raw)
    return None if member is None else MemberHandOff(member)


def ended(member: Member, verb: Verb, end: bytes, queue: str) -> tuple[bytes, bytes]:
    """Return what its workflow is to know of a member's end: its result and how it failed, as JSON.

    Args:
        member: the member.
        verb: how it ended.
        end: the same as it is told to whoever waits, encoded.
        queue: where its letter is, if it is dead.
    """
    told = _decode_end(end) if end else _End("done")
    if verb == "done" and not (told.unreadable and member.keep > 1):
        return (bytes(told.value) if member.keep else b""), b""
    error = told.error or Failed("cancelled")
    if verb == "done":  # an argument of another one is missing
        error = Failed("unreadable", message=f"its result cannot be told: {told.unreadable}")
    return b"", failure_of(error.reason, error.type, error.message, member.job_id, queue)


def failure_of(reason: str, kind: str, message: str, job_id: str, queue: str) -> bytes:
    """Encode how a member failed."""
    return _encode(Failed(reason, kind, message[:_MAX_MESSAGE], job_id, queue))


def read_failure(raw: bytes) -> Failed:
    """Read what ``failure_of`` has written."""
    return _decode_failed(raw)
