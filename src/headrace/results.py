"""How a job ended, as it is told to whoever waits for its result."""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from headrace import wire
from headrace.errors import JobCancelled, JobFailed, NoResult
from headrace.wire import Error


class End(msgspec.Struct, frozen=True, omit_defaults=True):
    """A job's end.

    Attributes:
        state: done, dead or cancelled.
        value: what the task returned.
        error: why it failed; without its traceback when it is long.
        unreadable: the type of a return value that cannot be written as JSON, or "".
    """

    state: Literal["done", "dead", "cancelled"]
    value: Any = None
    error: Error | None = None
    unreadable: str = ""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(End).decode

CANCELLED: Final = _encode(End("cancelled"))


def encode_value(value: Any) -> bytes:
    """Encode a return value. One that is no JSON is told as such: the job is done all the same."""
    try:
        return _encode(End("done", value))
    except Exception:  # an int beyond 64 bits overflows; a foreign object may raise anything
        return _encode(End("done", unreadable=type(value).__name__))


def encode_error(error: Error) -> bytes:
    """Encode a final failure."""
    return _encode(
        End("dead", error=msgspec.structs.replace(error, payload=None, payload_base64=None))
    )


def value_of(job_id: str, raw: bytes) -> Any:
    """Give the value of an end.

    Raises:
        JobFailed: the job is dead.
        JobCancelled: it was cancelled.
        NoResult: its value could not be written as JSON.
    """
    end = _decode(raw)
    if end.state == "cancelled":
        raise JobCancelled(f"job {job_id} was cancelled")
    if end.error is not None:
        error = end.error
        raise JobFailed(
            f"job {job_id} failed ({error.reason}): {error.type or 'no exception'}: {error.message}",
            reason=error.reason,
            error_type=error.type,
            traceback=error.traceback,
        )
    if end.unreadable:
        raise NoResult(f"job {job_id} is done, but its result ({end.unreadable}) is not JSON")
    return end.value


def of_fate(state: str, letter: bytes) -> bytes:
    """Encode the end of a job that is found cancelled, or as this dead letter."""
    error = wire.read_error(letter) if state == "dead" else None
    return CANCELLED if error is None else encode_error(error)


def state_of(raw: bytes) -> Literal["done", "dead", "cancelled"]:
    """Give the state that an end says."""
    return _decode(raw).state
