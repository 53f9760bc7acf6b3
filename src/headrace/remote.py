"""Exceptions that cross from a consumer to whoever waits: told there as data, and made again here.

What stands in Redis names no class that is then imported, and no code of an exception runs when it is
made again. Its class is one that the waiter has named, or a loaded subclass of that, or one of Python's
or Headrace's own.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec

from headrace import errors
from headrace.plain import PARTS, is_plain

_MOST_BYTES: Final = (
    4_000  # of arguments and attributes: what a dead letter's message may have, and more
)
_MOST_CLASSES: Final = 10_000  # below those that were named


class Raised(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was raised, as far as another process can make it again.

    Attributes:
        name: its class, qualified …
        module: … and where that stands.
        args: its arguments, when they are plain JSON; None: they were not, and its text has to do.
        state: its attributes, those that are plain JSON.
    """

    name: str
    module: str = "builtins"
    args: list[Any] | None = None
    state: dict[str, Any] = {}


class RemoteTraceback(Exception):
    """The traceback of another process, as text: it stands above what was made again of its error."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text: str = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text.rstrip()}\n"""'


def describe(error: BaseException | None) -> Raised | None:
    """Describe a plain copy of what was raised; None if there is nothing, or a group of exceptions."""
    kind = type(error)
    if error is None or issubclass(kind, BaseExceptionGroup):
        return None
    args, state = getattr(error, PARTS, (error.args, {}))
    told = Raised(kind.__qualname__, kind.__module__, _faithful(args), _faithful(state) or {})
    if len(msgspec.json.encode(told)) > _MOST_BYTES:
        return Raised(told.name, told.module)
    return told


def _faithful(value: Any) -> Any:
    """Return a plain value as JSON gives it back; None if that is another."""
    with suppress(Exception):  # a lone surrogate, an integer beyond 64 bits
        value = list(value) if isinstance(value, tuple) else value
        if is_plain(value) and msgspec.json.decode(msgspec.json.encode(value)) == value:
            return value
    return None


def made_again(
    raised: Raised | None, text: str, named: Sequence[type[BaseException]] = ()
) -> Exception | None:
    """Make an exception again, without running any code of its class; None if it has none here.

    Args:
        raised: what was raised.
        text: what it said, for one whose arguments were not told.
        named: classes of the application of which it may be, or of their subclasses.
    """
    kind = None if raised is None else _class_of(raised, named)
    if raised is None or kind is None:
        return None
    own = next(base for base in kind.__mro__ if base.__module__ == "builtins")
    for args in ([text] if raised.args is None else raised.args), [text]:
        # The constructor of Python's own base, for that of the class may do anything.
        with suppress(Exception):
            error: Exception = own.__new__(kind, *args)
            own.__init__(error, *args)  # type: ignore[misc]  # it is one of its own
            if kind is not own:
                vars(error).update(
                    (name, one) for name, one in raised.state.items() if not name.startswith("__")
                )
            return error
    return None


def _class_of(raised: Raised, named: Sequence[type[BaseException]]) -> type[Exception] | None:
    for kind in _below(named):
        if (kind.__module__, kind.__qualname__) == (raised.module, raised.name):
            return kind if issubclass(kind, Exception) else None
    modules: dict[str, dict[str, Any]] = {
        "builtins": vars(builtins),
        "headrace.errors": vars(errors),
    }
    found = modules.get(raised.module, {}).get(raised.name)
    if isinstance(found, type) and issubclass(found, Exception):
        return None if issubclass(found, BaseExceptionGroup) else found
    return None


def _below(named: Sequence[type[BaseException]]) -> Iterator[type[BaseException]]:
    """Give classes and all that is loaded of their subclasses."""
    rest, seen = [*named], set[int]()
    while rest and len(seen) < _MOST_CLASSES:
        kind = rest.pop()
        if id(kind) not in seen:
            seen.add(id(kind))
            if PARTS not in vars(kind):  # else it is a copy of one, for a log line
                yield kind
            rest += type.__subclasses__(kind)
