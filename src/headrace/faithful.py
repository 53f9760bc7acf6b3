"""What JSON would change on the way is refused, with its place and with what to pass instead. Pure.

JSON has no sets, no tuples, no NaN and no keys but strings; written as JSON, each becomes something
else without a word. What reads back equal (``==``) is let pass, and costs next to nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Final
from uuid import UUID

import msgspec

from headrace.errors import InvalidJob

PLAIN: Final = frozenset({str, int, bool, type(None)})
"""Types whose values come back as they are."""

_TEXT: Final = 40  # characters of a key or a type's name that a message shows
_DEEPEST: Final = 500

# The first that fits.
_INSTEAD: Final[tuple[tuple[tuple[type, ...], str], ...]] = (
    ((tuple, set, frozenset), "pass a list"),
    ((bytes, bytearray, memoryview), "pass text, such as base64"),
    ((datetime, date, time), "pass its isoformat()"),
    ((timedelta,), "pass its total_seconds()"),
    ((UUID, Decimal), "pass its str()"),
    ((Enum,), "pass its value"),
    ((str,), "pass a plain str of characters that UTF-8 can write"),
)
_OTHERWISE: Final = "pass numbers, strings, lists and dicts, or an id under which the rest is found"

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


def encode_args(args: tuple[Any, ...], names: Sequence[str] = ()) -> bytes:
    """Encode positional arguments.

    Args:
        args: the arguments.
        names: what the first of them are called; the others are counted, from 1.

    Raises:
        InvalidJob: one of them does not come back equal; the message names it.
    """
    return _encoded(args, [*args], args, names)


def encode_kwargs(kwargs: dict[str, Any]) -> bytes:
    """Encode keyword arguments.

    Raises:
        InvalidJob: one of them does not come back equal; the message names it.
    """
    return _encoded(kwargs, kwargs, kwargs.values(), (*kwargs,))


def _encoded(whole: Any, equal: Any, values: Any, names: Sequence[str]) -> bytes:
    why: Exception | None = None
    try:
        raw: bytes = _encode(whole)
        # To look at types first costs less than to decode.
        if PLAIN.issuperset(map(type, values)) or _decode(raw) == equal:
            return raw
    except Exception as error:  # a foreign object may raise anything, also when it is compared
        why = error
    for number, value in enumerate(values):
        if said := fault(value):
            name = repr(names[number]) if number < len(names) else str(number + 1)
            raise InvalidJob(f"argument {name}{said}") from why
    raise InvalidJob(f"the arguments cannot be written as JSON: {why}; {_OTHERWISE}") from why


def fault(value: Any, sequences: tuple[type, ...] = (list,)) -> str:
    """Return where and why a value does not come back equal from JSON; "" it does.

    Such as ``" at ['items'][3]: a set does not come back equal from JSON; pass a list"``.

    Args:
        value: what to look through.
        sequences: what may come back as a list.
    """
    left: list[tuple[str, int, Any]] = [("", 0, value)]
    while left:
        place, depth, value = left.pop()
        said, inner = "", []
        if depth > _DEEPEST:
            place, said = "", "it is nested too deeply, or holds itself"
        elif issubclass(type(value), dict):
            said = next(filter(None, map(_fault_of_key, value)), "")
            inner = [(f"{place}[{_short(key)}]", depth + 1, one) for key, one in value.items()]
        elif issubclass(type(value), sequences):
            inner = [(f"{place}[{i}]", depth + 1, one) for i, one in enumerate(value)]
        else:
            said = _fault_of(value)
        if said:
            return f"{f' at {place}' if place else ''}: {said}"
        left += reversed(inner)
    return ""


def _fault_of_key(key: Any) -> str:
    if _comes_back({key: None}):
        return ""
    return f"the key {_short(key)} does not come back equal from JSON; use strings as keys"


def _fault_of(value: Any) -> str:
    kind = type(value)
    if _comes_back(value):
        return ""
    if kind is float and not math.isfinite(value):
        return f"{value} does not come back equal from JSON; pass None, or a string"
    instead = next((text for kinds, text in _INSTEAD if issubclass(kind, kinds)), _OTHERWISE)
    article = "an" if kind.__name__[:1] in "aeiouAEIO" else "a"
    name = kind.__name__[:_TEXT]
    return f"{article} {name} does not come back equal from JSON; {instead}"


def _comes_back(value: Any) -> bool:
    try:
        return bool(_decode(_encode(value)) == value)
    except Exception:
        return False


def _short(key: Any) -> str:
    return repr(key)[:_TEXT] if type(key) in PLAIN else f"of type {type(key).__name__[:_TEXT]}"
