"""The wire: one job as one JSON object, read, written and rewritten. Pure: bytes in, bytes out.

A job is its *head* and its *body*. The head is ``{"id":"…"`` and then, each only where it is not 0
and in this order: ``priority``, ``delivery``, ``crashes``, ``attempt``, ``unknown_since``, ``key``.
They stand in front so that a script, which must not parse JSON, can read and raise them too; they
count only there. The body is every byte after the head: a rewrite keeps it, unknown fields included.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec

from headrace.errors import InvalidJob, PayloadTooLarge
from headrace.faithful import PLAIN, encode_args, encode_kwargs
from headrace.fields import body_of, without
from headrace.ids import LENGTH, new_id

DEFAULT_MAX_BYTES: Final = 1 << 20  # of a job: beyond this Redis copies, and everybody waits
MAX_TASK_NAME: Final = 255  # characters: it is written into logs and errors as it is
MIN_PRIORITY: Final = -100
MAX_PRIORITY: Final = 100
_MAX_MESSAGE: Final = 1_000  # characters of an error that a dead letter keeps
_MAX_TRACEBACK: Final = 8_000

Reason = Literal[
    "cancelled", "crashed", "expired", "invalid_arguments", "limit_exceeded", "malformed",
    "max_attempts", "rejected", "timeout", "too_large", "undecryptable", "unknown_task",
]  # fmt: skip
"""Why a job is dead."""

_HEAD = re.compile(
    rb'\{"id":"([!#-\[\]-}][!#-\[\]-~]{0,127})"'  # as ID in scripts/lib/head.lua
    rb'(?:,"priority":(-?\d{1,9}))?(?:,"delivery":(\d{1,9}))?(?:,"crashes":(\d{1,9}))?'
    rb'(?:,"attempt":(\d{1,9}))?(?:,"unknown_since":(\d{1,15}))?'
    rb'(?:,"key":"([ !#-\[\]-~]+)")?(?=[,}])'
)
_BARE_ID = re.compile(r"[!#-\[\]-}][!#-\[\]-~]{0,127}")
_NUMBERS: Final = {"priority": rb"-?\d{1,9}", "unknown_since": rb"\d{1,15}"}  # as in _HEAD
_COUNTERS: Final = ("priority", "delivery", "crashes", "attempt", "unknown_since")
_ID_START: Final = len(b'{"id":"')
_ID_STOP: Final = _ID_START + LENGTH
_PLAIN: Final = b'","task":'  # what follows the id of a job that has never been back


class Error(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why and how a job died; a dead letter is the job with this as its ``error``.

    Attributes:
        reason: one of the words of ``Reason``.
        type: the exception's class name, or "".
        message: what it said, cut to 1,000 characters.
        traceback: the end of its traceback, cut to 8,000 characters, or "".
        failed_at: milliseconds since 1970.
        consumer: which consumer gave it up.
        signal: what ended the process that ran it alone, as SIGSEGV; or "" …
        exit_code: … and then its exit code, or None: it did not run alone.
        peak_mib: the most memory that this process held, MiB; 0 if unknown.
        payload, payload_base64: the exact bytes of a malformed job; the second if not UTF-8.
    """

    reason: str
    type: str = ""
    message: str = ""
    traceback: str = ""
    failed_at: int = 0
    consumer: str = ""
    signal: str = ""
    exit_code: int | None = None
    peak_mib: int = 0
    payload: str | None = None
    payload_base64: str | None = None


class Body(msgspec.Struct, frozen=True):
    """What a consumer reads of a job's body. Anything else in it is kept and not looked at.

    Attributes:
        task: the task's name.
        args: positional arguments.
        kwargs: keyword arguments.
        timeout: seconds the job may run, if this job has its own bound.
        max_attempts: failed runs after which it dies, if this job has its own bound.
        result_ttl: seconds its result is kept, if this job has its own wish.
        soft_timeout: seconds after which it is told to end, if this job has its own bound.
        expires_at: after this instant it is not started, ms since 1970, if there is one.
        due: when it was to run first, as JSON: "+ms" after its enqueue, "@ms" since 1970. For statistics
            alone, which pass over all else: nothing in it makes a job malformed.
        error, workflow: empty, except in a dead letter that was moved back by hand; in a member.
    """

    task: Annotated[str, msgspec.Meta(max_length=MAX_TASK_NAME)]
    args: list[Any] = msgspec.field(default_factory=list)
    kwargs: dict[str, Any] = msgspec.field(default_factory=dict)
    timeout: float | None = None
    max_attempts: int | None = None
    result_ttl: float | None = None
    soft_timeout: float | None = None
    expires_at: float | None = None
    due: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()  # msgspec takes ``Raw | None`` for None alone
    workflow: msgspec.Raw = msgspec.Raw()


class Head(NamedTuple):
    """The fields of a job that Headrace itself reads and writes.

    Attributes:
        id: the job's id.
        priority: -100 … 100, higher first.
        delivery: how often it went back from processing, for whatever reason; the fencing number.
        crashes: how many of these because its consumer was lost.
        attempt: how many runs ended in failure.
        unknown_since: since when no consumer knew its task, ms since 1970; 0 known.
        key: the key that is free again when the job ends, as ``keys.unique`` has it; "" if there is none.
    """

    id: str
    priority: int = 0
    delivery: int = 0
    crashes: int = 0
    attempt: int = 0
    unknown_since: int = 0
    key: str = ""


_encode = msgspec.json.Encoder().encode
_decode_body = msgspec.json.Decoder(Body).decode
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_error = msgspec.json.Decoder(Error).decode


def encode_call(
    task: str, args: tuple[Any, ...], kwargs: dict[str, Any], names: Sequence[str] = (), **more: Any
) -> bytes:
    """Encode a job's body: everything after its id, from the comma on.

    Args:
        task: the task's name.
        args: its positional arguments.
        kwargs: its keyword arguments.
        names: what the first positional arguments are called, for a message.
        more: ``timeout``, ``max_attempts``, ``result_ttl``, …; those that are None are left out.

    Raises:
        InvalidJob: an argument does not come back equal from JSON, or the name is too long.
    """
    body = _task_field(task)
    if PLAIN.issuperset(map(type, args)):  # nearly all jobs: told here, without another call
        try:
            body += b',"args":' + _encode(args) if args else b""
        except UnicodeEncodeError:
            encode_args(args, names)  # says which
    else:
        body += b',"args":' + encode_args(args, names)
    if kwargs:
        body += b',"kwargs":' + encode_kwargs(kwargs)
    for name, value in more.items():
        if value is not None:
            body += b',"%b":%b' % (name.encode(), _encode(value))
    return body + b"}"


@lru_cache(maxsize=1024)
def _task_field(task: str) -> bytes:
    if len(task) > MAX_TASK_NAME:
        raise InvalidJob(f"a task's name of {len(task):,} characters: use at most {MAX_TASK_NAME}")
    return b',"task":' + encode_args((task,), ("task",))[1:-1]


def assemble(job_id: str, body: bytes, priority: int = 0, key: str = "") -> bytes:
    """Put a new job together: its id, its encoded body, and the key that is free when it ends.

    Raises:
        PayloadTooLarge: the job is larger than the limit.
    """
    job = b'{"id":"%b"%b%b%b' % (
        job_id.encode(),
        b',"priority":%d' % priority if priority else b"",
        b',"key":"%b"' % key.encode() if key else b"",
        body,
    )
    if len(job) > DEFAULT_MAX_BYTES:
        raise PayloadTooLarge(
            f"a job of {len(job):,} bytes is over the limit of {DEFAULT_MAX_BYTES:,}: "
            "store the data elsewhere and enqueue its address"
        )
    return job


def split(job: bytes) -> tuple[Head, bytes] | None:
    """Take a job apart into head and body; None when it is bare: no id, or not in front."""
    if job[_ID_STOP : _ID_STOP + len(_PLAIN)] == _PLAIN and job.startswith(b'{"id":"'):
        job_id = job[_ID_START:_ID_STOP]
        if job_id.isalnum():  # else the id may have ended before
            return Head(job_id.decode()), job[_ID_STOP + 1 :]
    match = _HEAD.match(job)
    if match is None:
        return None
    job_id, *numbers, key = match.groups(b"")
    counters = [int(number or 0) for number in numbers]
    return Head._make([job_id.decode(), *counters, key.decode()]), job[match.end() :]


def join(head: Head, body: bytes) -> bytes:
    """Put head and body together again."""
    counters = [f',"{name}":{value}' for name in _COUNTERS if (value := getattr(head, name))]
    counters += [f',"key":"{head.key}"'] if head.key else []
    return f'{{"id":"{head.id}"{"".join(counters)}'.encode() + body


def read_body(job: bytes) -> Body:
    """Decode what a consumer needs of a job.

    Raises:
        Exception: whatever decoding does, not only ``msgspec.DecodeError``: the job is malformed.
    """
    return _decode_body(job)


def canonical(job: bytes) -> tuple[Head, bytes]:
    """Give a bare job a head: its own id where it has a usable one, else a new one.

    Values keep their bytes; white space between fields goes. An id that is no usable string is kept
    as ``foreign_id``.

    Raises:
        Exception: it is not a JSON object; whatever decoding raises.
    """
    fields = _decode_fields(job)
    job_id = _usable_id(fields.pop("id", None), fields)
    numbers: dict[str, Any] = {}
    for name in _COUNTERS:
        raw = bytes(fields.get(name, b""))
        if re.fullmatch(_NUMBERS.get(name, rb"\d{1,9}"), raw):
            numbers[name] = int(raw)
            del fields[name]
    if numbers.get("priority"):
        numbers["priority"] = max(MIN_PRIORITY, min(MAX_PRIORITY, numbers["priority"]))
    return Head(job_id, **numbers), body_of(fields)


def _usable_id(raw: msgspec.Raw | None, fields: dict[str, msgspec.Raw]) -> str:
    if raw is None:
        return new_id()
    # Nothing but a string is read: a number may be out of every range, and is kept all the same.
    value = msgspec.json.decode(raw, type=str) if bytes(raw).startswith(b'"') else ""
    if _BARE_ID.fullmatch(value):
        return value
    fields["foreign_id"] = raw
    return new_id()


def letter(head: Head, body: bytes, error: Error) -> bytes:
    """Write a dead letter: the job's own object with its ``error`` at the end."""
    return join(head, without_error(body).rstrip()[:-1] + b',"error":' + _encode(error) + b"}")


def malformed_letter(job: bytes, error: Error) -> bytes:
    """Write the dead letter of bytes that are no job: they stand in it, exactly."""
    try:
        error = msgspec.structs.replace(error, payload=job.decode())
    except UnicodeDecodeError:
        error = msgspec.structs.replace(error, payload_base64=base64.b64encode(job).decode())
    return join(Head(new_id()), b',"error":' + _encode(error) + b"}")


def read_error(job: bytes) -> Error | None:
    """Read the error of a dead letter; None when it has none, or not one of ours."""
    try:
        raw = _decode_fields(job).get("error")
        return None if raw is None else _decode_error(raw)
    except Exception:
        return None


def wrapped_payload(error: Error | None) -> bytes | None:
    """Return the exact bytes that a malformed job's letter holds; None for every other letter."""
    if error is None:
        return None
    if error.payload_base64 is not None:
        try:
            return base64.b64decode(error.payload_base64, validate=True)
        except ValueError:
            return None  # somebody else wrote it
    return None if error.payload is None else error.payload.encode()


def redriven(job: bytes) -> bytes:
    """Turn a dead letter into the job that goes back: no error, attempt and crashes anew."""
    payload = wrapped_payload(read_error(job))
    if payload is not None:
        return payload
    if (parts := split(job)) is None:
        return job
    return join(renewed(parts[0]), revived(parts[1]))


def renewed(head: Head) -> Head:
    """Return the head of a job that starts anew: its failures are forgotten, its deliveries are not."""
    return head._replace(attempt=0, crashes=0, unknown_since=0)


def without_error(body: bytes) -> bytes:
    """Return the body of a dead letter as it was before; every other byte stays."""
    return without(body, "error")


def revived(body: bytes) -> bytes:
    """Return the body of a job that comes back from the dead letters; it expires no more."""
    return without(body, "error", "expires_at")


def error_of(
    reason: Reason,
    exception: BaseException | None,
    *,
    traceback: str = "",
    failed_at: int,
    consumer: str,
    signal: str = "",
    exit_code: int | None = None,
    peak_mib: int = 0,
) -> Error:
    """Describe a failure, cut to a size that a dead letter can carry."""
    return Error(
        reason=reason,
        type=type(exception).__name__ if exception is not None else "",
        message=str(exception)[:_MAX_MESSAGE] if exception is not None else "",
        traceback=traceback[-_MAX_TRACEBACK:],
        failed_at=failed_at,
        consumer=consumer,
        signal=signal,
        exit_code=exit_code,
        peak_mib=peak_mib,
    )
