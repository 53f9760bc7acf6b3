"""How a job ended, as it is told to whoever waits for its result."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, Literal, NoReturn

import msgspec

from headrace import wire
from headrace.errors import JobCancelled, JobFailed, NoResult
from headrace.faithful import PLAIN, fault
from headrace.plain import name_of
from headrace.remote import Raised, RemoteTraceback, describe, made_again
from headrace.wire import Error


class End(msgspec.Struct, frozen=True, omit_defaults=True):
    """A job's end.

    Attributes:
        state: done, dead or cancelled.
        value: what the task returned.
        error: why it failed; without its traceback when it is long.
        unreadable: why what the task returned cannot be told, or "".
        raised: what a waiter needs to make its exception again.
    """

    state: Literal["done", "dead", "cancelled"]
    value: Any = None
    error: Error | None = None
    unreadable: str = ""
    raised: Raised | None = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(End).decode

CANCELLED: Final = _encode(End("cancelled"))


def encode_value(value: Any) -> bytes:
    """Encode a return value.

    One that does not come back equal from JSON, or is larger than a job may be, is told as such: the
    job is done all the same. Tuples come back as lists: ``return a, b`` is too usual to be refused when
    its work is done already.
    """
    why, most = "", wire.DEFAULT_MAX_BYTES
    # An int beyond 64 bits overflows; a foreign object may raise anything, also when it is compared.
    with suppress(BaseException):
        end = _encode(End("done", value))
        # To look at the type first costs less than to decode.
        if type(value) in PLAIN or _decode(end).value == _with_lists(value):
            if len(end) <= most:
                return end
            why = f"{len(end):,} bytes; the limit is {most:,}"
    with suppress(BaseException):
        why = why or fault(value, sequences=(list, tuple)).removeprefix(": ")
    return encode_unreadable(value, why)


def _with_lists(value: Any) -> Any:
    """Return a value with lists in place of its tuples."""
    kind = type(value)
    if issubclass(kind, list | tuple):
        return [_with_lists(part) for part in value]
    if issubclass(kind, dict):
        return {key: _with_lists(part) for key, part in value.items()}
    return value


def encode_unreadable(value: Any, why: str = "") -> bytes:
    """Encode that there was a return value, which is not kept, and why, or its type."""
    return _encode(End("done", unreadable=why or name_of(type(value))))


def encode_error(error: Error, problem: BaseException | None = None) -> bytes:
    """Encode a final failure; ``problem``: a plain copy of what was raised."""
    told = msgspec.structs.replace(error, payload=None, payload_base64=None)
    return _encode(End("dead", error=told, raised=describe(problem)))


def value_of(job_id: str, raw: bytes, raises: Sequence[type[BaseException]] = ()) -> Any:
    """Return the value of an end.

    Raises:
        JobFailed: the job is dead; its cause is the task's exception, if that can be made again.
        Exception: the task's exception itself, if it is one of ``raises``.
        JobCancelled: it was cancelled.
        NoResult: its value cannot be told.
    """
    end = _decode(raw)
    if end.state == "cancelled":
        raise JobCancelled(f"job {job_id} was cancelled")
    if end.error is not None:
        _raise(job_id, end.error, end.raised, tuple(raises))
    if end.unreadable:
        raise NoResult(f"job {job_id} is done, but its result is not told: {end.unreadable}")
    return end.value


def _raise(
    job_id: str, error: Error, raised: Raised | None, raises: tuple[type[BaseException], ...]
) -> NoReturn:
    failed = JobFailed(
        f"job {job_id} failed ({error.reason}): {error.type or 'no exception'}: {error.message}",
        reason=error.reason,
        error_type=error.type,
        traceback=error.traceback,
    )
    remote = RemoteTraceback(error.traceback) if error.traceback else None
    again = made_again(raised, error.message, raises)
    if again is None:
        raise failed from remote
    again.__cause__ = remote
    if isinstance(again, raises):
        again.add_note(f"raised in job {job_id}, which failed: {error.reason}")
        raise again
    raise failed from again


def of_place(place: str, raw: bytes) -> bytes | None:
    """Encode the end of a job that is found there, with these bytes; None when it goes on."""
    if place == "dead":
        return encode_error(wire.read_error(raw) or Error("unknown"))
    return {"ended": raw, "cancelled": CANCELLED}.get(place)


def state_of(raw: bytes) -> Literal["done", "dead", "cancelled"]:
    """Return the state that an end says."""
    return _decode(raw).state
