"""Objects whose special methods raise, hang, or answer nonsense."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

HANG_S = 3_600.0

SHAPES = (
    *("str", "repr", "getattr", "getattribute", "notes", "cause", "context", "traceback", "reduce"),
    *("len", "iter", "bool", "eq", "hash", "class", "dict", "args", "format", "in_s"),
)

PLAGUES: dict[str, Callable[[], Any]] = {}
"""What a special method does when it is called, by name."""


def _raise(kind: type[BaseException]) -> Callable[[], Any]:
    def plague() -> Any:
        raise kind("hostile")

    return plague


for _kind in (KeyError, SystemExit, KeyboardInterrupt, GeneratorExit, RecursionError, MemoryError):
    PLAGUES[_kind.__name__] = _raise(_kind)
PLAGUES["nonsense"] = lambda: b"\xff"
PLAGUES["nan"] = lambda: float("nan")
PLAGUES["hang"] = lambda: time.sleep(HANG_S)


def _members(shape: str, plague: Callable[[], Any]) -> dict[str, Any]:
    name = shape if shape in {"args", "in_s"} else f"__{shape}__"
    if shape in {"notes", "cause", "context", "traceback", "class", "dict", "args", "in_s"}:
        return {name: property(lambda _: plague(), lambda *_: None)}

    def method(*_: Any) -> Any:
        return plague()

    return {name: method}


def hostile_class(shape: str, plague: Callable[[], Any], *bases: type) -> type:
    """Make a class with one special method that is a plague, or with all (``*``)."""
    shapes = SHAPES if shape == "*" else (shape,)
    members: dict[str, Any] = {}
    for one in shapes:
        if shape == "*" and one == "getattribute":
            continue  # it stands before all others
        members |= _members(one, plague)
    if "__eq__" in members:
        members.setdefault("__hash__", object.__hash__)
    return type("Hostile", bases or (object,), members)


def Hostile(shape: str, plague: str = "SystemExit") -> Any:
    return hostile_class(shape, PLAGUES[plague])()


def hostile_error(shape: str, kind: type[BaseException]) -> BaseException:
    error: BaseException = hostile_class(shape, _raise(kind), Exception)("x")
    return error
