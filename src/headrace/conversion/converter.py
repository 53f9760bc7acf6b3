"""The values of one annotation: written as plain JSON, and read again. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import PurePath
from typing import Any, Final, Union

import msgspec
from msgspec import inspect as kinds

from headrace.faithful import fault

# What JSON has by itself: ``faithful`` looks whether such values come back.
_PLAIN: Final = (
    *(kinds.AnyType(), kinds.NoneType(), kinds.BoolType()),
    *(kinds.IntType(), kinds.FloatType(), kinds.StrType()),
)

_decode = msgspec.json.Decoder().decode


class Misfit(Exception):
    """A value does not fit an annotation. In its message ``$`` stands for the value's name."""


class Converter:
    """Writes and reads the values of one annotation.

    Args:
        hint: the annotation.

    Raises:
        TypeError: msgspec cannot convert it.
    """

    def __init__(self, hint: Any) -> None:
        self._read: Callable[[bytes], Any] = msgspec.json.Decoder(hint, dec_hook=_read_other).decode

    def encode(self, value: Any) -> Any:
        """Return a value as plain JSON.

        A value that is plain JSON already may stand for what the annotation says: text for a date.

        Raises:
            Misfit: it does not fit the annotation, or something else would arrive.
        """
        try:
            raw = _encode(value)
            changed, plain = _changed(self._read(raw), value, "$"), _decode(raw)
        except Exception as error:  # a foreign object may raise anything, also when it is compared
            raise Misfit(str(error) or type(error).__name__) from error
        if changed:
            raise Misfit(changed)
        return plain

    def decode(self, value: Any) -> Any:
        """Return what plain JSON stands for.

        Raises:
            Misfit: it does not fit the annotation.
            Exception: what a class raises that is made of it, other than ``ValueError`` and ``TypeError``.
        """
        try:
            # As text: ``msgspec.convert`` takes longer for most annotations, and ``encode`` read text, too.
            return self._read(_encode(value))
        except msgspec.ValidationError as error:
            raise Misfit(str(error)) from error


def converter_of(hint: Any, *, optional: bool = False) -> Converter | None:
    """Return the converter of an annotation; None when it is plain, or msgspec cannot convert it.

    Args:
        hint: the annotation.
        optional: None fits, too.

    Raises:
        Exception: a name in it, or in a class that it names, cannot be resolved.
    """
    try:
        hint = Union[hint, None] if optional else hint  # noqa: UP007 - it may be anything
        info = kinds.type_info(hint)
        parts = [*_parts(info)]
        if all(map(_is_plain, parts)) or not all(map(_is_known, parts)):
            return None
        return Converter(hint)
    except TypeError:  # more than one kind of text, or of object, in a union, say
        return None


def _is_plain(info: kinds.Type) -> bool:
    """Whether JSON has it by itself, if it has what is in it."""
    match info:
        case kinds.ListType(_, None, None):
            return True
        case kinds.DictType(kinds.StrType() | kinds.AnyType(), _, None, None):
            return True
        case kinds.UnionType() | kinds.Metadata() | kinds.LiteralType() | kinds.TypedDictType():
            return True
    return info in _PLAIN


def _parts(info: kinds.Type) -> Iterator[kinds.Type]:
    """Give an annotation and all that is in it, once each: a class may hold itself."""
    left: list[Any] = [info]
    seen: set[int] = set()
    while left:
        part = left.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, kinds.Type):
            yield part
        if isinstance(part, kinds.Type | kinds.Field):
            left += [getattr(part, name) for name in part.__struct_fields__]
        elif type(part) is tuple:
            left += part


def _is_known(info: kinds.Type) -> bool:
    return not isinstance(info, kinds.CustomType) or (
        isinstance(info.cls, type) and (issubclass(info.cls, PurePath) or _is_pydantic(info.cls))
    )


def _is_pydantic(kind: type) -> bool:
    return hasattr(kind, "model_dump") and hasattr(kind, "model_validate_json")


def _write_other(value: Any) -> Any:
    """Write what msgspec does not know: its hook."""
    if isinstance(value, PurePath):
        return str(value)
    if _is_pydantic(type(value)):
        return value.model_dump(mode="json", by_alias=True, round_trip=True)
    raise TypeError(f"Objects of type {type(value).__name__} cannot be written as JSON")


def _read_other(kind: Any, value: Any) -> Any:
    """Read what msgspec does not know: its hook."""
    if issubclass(kind, PurePath):
        if not isinstance(value, str):
            raise TypeError(f"Expected `str`, got `{type(value).__name__}`")
        return kind(value)
    try:
        # As JSON: a strict model takes text for a date there, and nowhere else.
        return kind.model_validate_json(_encode(value))
    except ValueError as error:
        raise ValueError(_pydantic_text(error)) from error


def _pydantic_text(error: Any) -> str:
    found = error.errors() if hasattr(error, "errors") else ()
    said = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}".removeprefix(": ") for one in found]
    return "; ".join(said) or str(error)


_encode = msgspec.json.Encoder(enc_hook=_write_other).encode


def _changed(arrives: Any, given: Any, path: str) -> str:
    """Say where and how what arrives is not what was given; "" it is."""
    if arrives == given:
        return ""
    kind = type(given)
    if kind is not type(arrives):
        # Plain JSON may stand for anything; other types do not become another one in silence.
        what = f"a {kind.__name__} would arrive as a {type(arrives).__name__}"
        return "" if not fault(given) else f"{what} - at `{path}`"
    if isinstance(given, dict) and given.keys() != arrives.keys():
        if len(given) == len(arrives) and not fault(given):
            return ""
        return f"the keys would not arrive as they are - at `{path}`"
    parts = [*_paired(arrives, given, path)]
    for inner_path, one, other in parts:
        if said := _changed(one, other, inner_path):
            return said
    # Classes without an ``__eq__`` of their own are the same when all their fields are.
    return "" if parts else f"a {kind.__name__} would not arrive as it is - at `{path}`"


def _paired(arrives: Any, given: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    """Give the parts of two values of one type, each with its path."""
    if isinstance(given, dict):
        for key in given:
            yield f"{path}[{key!r}]", arrives[key], given[key]
    elif isinstance(given, list | tuple):
        if len(given) == len(arrives):
            for number, (one, other) in enumerate(zip(arrives, given, strict=True)):
                yield f"{path}[{number}]", one, other
    else:
        for name in _field_names(type(given)):
            yield f"{path}.{name}", getattr(arrives, name), getattr(given, name)


def _field_names(kind: Any) -> tuple[str, ...]:
    if is_dataclass(kind):
        return tuple(field.name for field in fields(kind))
    attributes = getattr(kind, "__attrs_attrs__", ())
    names = getattr(kind, "__struct_fields__", ()) or getattr(kind, "model_fields", ())
    return (*(attribute.name for attribute in attributes), *names)
