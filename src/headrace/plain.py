"""Plain copies of exceptions, for those who have to write down what a task raised.

A task's objects may define any special method, and it may raise (also SystemExit), hang or answer
nonsense. The copy of an exception has its name, text, notes, traceback and causes, and none of its
code, so that whoever logs or keeps the copy runs nothing of the task. The type of an object is
asked by ``type()``, never by ``isinstance``, which reads ``__class__``.
"""

from __future__ import annotations

import builtins
import traceback
from asyncio import CancelledError
from collections.abc import Callable
from functools import lru_cache
from types import NoneType
from typing import Any, Final

from headrace import errors

UNTOLD: Final = "its text could not be made"

PARTS: Final = "plain_parts"
"""A copy's attribute: the arguments of what it is a copy of, and those of its attributes that are plain."""

_MOST_TEXT: Final = 16_000  # characters of one text: more than a dead letter holds
_MOST_COPIES: Final = 50  # exceptions of one chain: a dead letter's traceback holds fewer
_MOST_NOTES: Final = 20
_MOST_IN_GROUP: Final = 15  # as many as Python prints
_MOST_PARTS: Final = 64  # of a value that is looked through: that takes some microseconds

# Types are compared by their identity: a metaclass may define ``__hash__`` and ``__eq__``.
_SCALARS: Final = frozenset(map(id, (NoneType, bool, int, float, str, bytes)))
_ERRORS: Final = frozenset(
    id(kind)
    for kind in [CancelledError, *vars(builtins).values(), *vars(errors).values()]
    if isinstance(kind, type)
    and issubclass(kind, BaseException)
    and kind.__str__ in (BaseException.__str__, KeyError.__str__)
)

_name: Callable[[type], str] = vars(type)["__name__"].__get__
_qualified_name: Callable[[type], str] = vars(type)["__qualname__"].__get__
_module: Callable[[type], Any] = vars(type)["__module__"].__get__


def is_a(error: BaseException, *kinds: type[BaseException]) -> bool:
    """Whether an ``except`` clause with these classes would catch it."""
    return any(type.__subclasscheck__(kind, type(error)) for kind in kinds)


def name_of(kind: type) -> str:
    """Return the name of a class, also when its metaclass has another opinion."""
    return _plain_text(_name(kind))


def is_plain(value: object) -> bool:
    """Whether a value is small and made of Python's own types alone, so that it runs no other code."""
    rest, parts = [value], 0
    while rest:
        part = rest.pop()
        kind: object = type(part)
        if id(kind) in _SCALARS:
            continue
        parts += 1
        if not (kind is dict or kind is list or kind is tuple):
            return False
        assert isinstance(part, dict | list | tuple)
        if parts + len(rest) + len(part) > _MOST_PARTS:
            return False
        rest.extend(part)
        if isinstance(part, dict):
            rest.extend(part.values())
    return True


def is_plain_error(error: BaseException) -> bool:
    """Whether an exception, with all that it is linked to, runs none but Python's own code."""
    rest, seen = [error], 0
    while rest:
        one, seen = rest.pop(), seen + 1
        if seen > _MOST_COPIES or id(type(one)) not in _ERRORS:
            return False
        if not is_plain(one.args) or not is_plain(vars(one)):
            return False
        rest.extend(link for link in (one.__cause__, one.__context__) if link is not None)
    return True


def make(name: str, text: str, **members: Any) -> BaseException:
    """Make an exception that is called so and says so."""
    return _class_of(name, **{"__module__": "builtins", **members})(text)


@lru_cache(maxsize=256)
def _class_of(name: str, **members: Any) -> type[Exception]:
    """Return a class for exceptions that are called so.

    It is made once: a class is a circle of objects, which only the garbage collector ends.
    """
    return type(name, (Exception,), members)


def plain_copy(error: BaseException) -> BaseException:
    """Return a copy of an exception that runs none of its code. Raises nothing; may take long."""
    try:
        return _copy(error, {})
    except BaseException:
        return make(name_of(type(error)), UNTOLD)


def traceback_of(copy: BaseException) -> str:
    """Return the traceback of a plain copy as text that can be written down."""
    try:
        return "".join(traceback.format_exception(copy)).encode(errors="backslashreplace").decode()
    except BaseException:  # the loader of the task's module is asked for its source
        return ""


def _copy(error: BaseException, copies: dict[int, BaseException | None]) -> BaseException:
    kind, text, copies[id(error)] = type(error), _text_of(error), None
    name, module = name_of(kind), _module(kind)
    module = (module if type(module) is str else "") or "builtins"
    qualified = _plain_text(_qualified_name(kind))
    members: dict[str, Any] = {"__module__": module, "__qualname__": qualified, PARTS: None}
    within = []
    if is_a(error, BaseExceptionGroup):
        parts = _own(error, "exceptions", BaseExceptionGroup)[:_MOST_IN_GROUP]
        within = [part for one in parts if (part := _linked(one, copies)) is not None]
    args = _own(error, "args")  # of others it keeps none: they may hang when they are shown, or end
    copy: BaseException = _class_of(name, **members)(text)
    if within:
        members["__str__"] = lambda _: text
        copy = type(name, (BaseExceptionGroup,), members)(text, within)
    setattr(copy, PARTS, ((args if is_plain(args) else None), _plain_state(error)))
    copies[id(error)] = copy
    copy.__traceback__ = _own(error, "__traceback__")
    copy.__context__ = _linked(_own(error, "__context__"), copies)
    copy.__cause__ = _linked(_own(error, "__cause__"), copies)
    copy.__suppress_context__ = _own(error, "__suppress_context__")
    notes = dict.get(_own(error, "__dict__"), "__notes__")
    for note in notes[:_MOST_NOTES] if type(notes) is list else ():
        copy.add_note(_text_of(note))
    return copy


def _plain_state(error: BaseException) -> dict[str, Any]:
    """Return those attributes of an exception that are plain."""
    state: Any = _own(error, "__dict__")
    named = [(k, v) for k, v in dict.items(state) if type(k) is str and not k.startswith("__")]
    return {name: value for name, value in named[:_MOST_NOTES] if is_plain(value)}


def _linked(
    error: BaseException | None, copies: dict[int, BaseException | None]
) -> BaseException | None:
    """Copy an exception that belongs to another one; chains may be long, and be rings."""
    if error is None or id(error) in copies:
        return copies.get(id(error))
    return _copy(error, copies) if len(copies) < _MOST_COPIES else None


def _own(error: BaseException, name: str, kind: type = BaseException) -> Any:
    """Read what Python itself keeps of an exception, whatever its class calls so."""
    return vars(kind)[name].__get__(error)


def _text_of(value: object) -> str:
    try:
        return _plain_text(str(value))
    except BaseException as raised:
        return f"{UNTOLD}: {name_of(type(raised))} was raised"


def _plain_text(text: str) -> str:
    """Return the text itself, of a subclass too, in characters that can be written down."""
    return str.__str__(text)[:_MOST_TEXT].encode(errors="backslashreplace").decode()
