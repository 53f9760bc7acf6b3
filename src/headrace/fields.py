"""Fields of a job's body, taken out of its bytes. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def body_of(fields: Mapping[str, msgspec.Raw]) -> bytes:
    """Return a body with these fields, their values as they are."""
    return b"," + _encode(fields)[1:] if fields else b"}"


def without(body: bytes, *names: str) -> bytes:
    """Return the body without these fields; every other byte stays when they stand last, in turn."""
    for name in names:
        body = _without(body, name)
    return body


def _without(body: bytes, name: str) -> bytes:
    quoted = b'"%b"' % name.encode()
    if quoted not in body and b"\\u" not in body:  # a name may be written with escapes
        return body
    try:
        fields = _decode(b"{" + body.lstrip(b","))
    except Exception:  # no job: whoever reads it says so
        return body
    if (raw := fields.pop(name, None)) is None:
        return body
    tail = b",%b:%b}" % (quoted, bytes(raw))
    # As we wrote an error, it is the last field: cut it off, so that every other byte stays.
    return body[: -len(tail)] + b"}" if body.endswith(tail) else body_of(fields)
