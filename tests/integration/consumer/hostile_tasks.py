"""An application whose tasks raise and return objects that are hostile to whoever looks at them."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

from headrace import Backoff, Headrace, Retry
from tests.support.hostile import PLAGUES, hostile_class

app = Headrace("redis://127.0.0.1:1", max_attempts=1, backoff=Backoff(base_s=0))

LIMIT_S = 0.5
"""Of the tasks whose objects may hang."""


def _raise(shape: str, plague: str, base: str) -> None:
    bases = {"Exception": Exception, "Retry": Retry, "BaseException": BaseException}
    error: Any = hostile_class(shape, PLAGUES[plague], bases[base])
    raise error("x")


def _value(shape: str, plague: str, base: str) -> Any:
    bases = {"object": object, "str": str, "dict": dict, "list": list, "int": int}
    kind: Any = hostile_class(shape, PLAGUES[plague], bases[base])
    return {"value": kind(), "list": [kind()]}


@app.task
def raise_sync(shape: str, plague: str, base: str) -> None:
    _raise(shape, plague, base)


@app.task
async def raise_async(shape: str, plague: str, base: str) -> None:
    _raise(shape, plague, base)


@app.task
async def raise_late(shape: str, plague: str, base: str) -> None:
    await asyncio.sleep(0)
    _raise(shape, plague, base)


@app.task(timeout=LIMIT_S)
async def raise_in_time(shape: str, plague: str, base: str) -> None:
    _raise(shape, plague, base)


@app.task(timeout=LIMIT_S)
def raise_sync_in_time(shape: str, plague: str, base: str) -> None:
    _raise(shape, plague, base)


@app.task(result_ttl=60)
def return_sync(shape: str, plague: str, base: str) -> Any:
    return _value(shape, plague, base)


@app.task(result_ttl=60)
async def return_async(shape: str, plague: str, base: str) -> Any:
    return _value(shape, plague, base)


@app.task
def well(number: int) -> int:
    return number


def plain_decorator(function: Any) -> Any:
    """Do as most decorators do: give back a function that is not async, whatever it wraps."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


@app.task(result_ttl=60)
@plain_decorator
async def wrapped(number: int) -> int:
    await asyncio.sleep(0)
    return number


class Object:
    """Can be called, and is async."""

    async def __call__(self, number: int) -> int:
        await asyncio.sleep(0)
        return number


async_object = app.task(name="async_object", result_ttl=60)(Object())
async_partial = app.task(name="async_partial", result_ttl=60)(
    functools.partial(wrapped.function, 1)
)


@app.task
async def exit_in_a_child() -> None:
    async def leave() -> None:
        raise SystemExit(3)

    await asyncio.gather(leave())
