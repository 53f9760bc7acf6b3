"""The calls of one function: which of its parameters are converted, and how."""

from __future__ import annotations

import inspect
import logging
import threading
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Sequence,
)
from contextlib import suppress
from typing import Any, Final, NamedTuple, get_args, get_origin, get_type_hints

from headrace import results
from headrace.conversion.converter import Converter, Misfit, converter_of
from headrace.errors import InvalidArguments, InvalidJob, NoResult
from headrace.function import innermost, is_generator
from headrace.handoff import is_placeholder

logger: logging.Logger = logging.getLogger(__name__)

Call = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and keyword arguments."""

_EMPTY: Final = inspect.Parameter.empty

_GIVES_ITEMS: Final = frozenset(
    {Iterator, Iterable, Generator, AsyncIterator, AsyncIterable, AsyncGenerator}
)

_resolving = threading.RLock()


class _Plan(NamedTuple):
    """What of a function is converted; None is not.

    Attributes:
        positional: places, names and converters of parameters that may be given by their place.
        places: how many such parameters there are, converted or not …
        rest: … and the converter of those beyond, of ``*args``.
        named: converters of those that may be given by their name …
        others: … and that of ``**kwargs``.
        result: that of what it returns.
    """

    positional: list[tuple[int, str, Converter]]
    places: int
    rest: Converter | None
    named: dict[str, Converter | None]
    others: Converter | None
    result: Converter | None

    def converts(self) -> bool:
        """Whether anything is converted."""
        return any((*self.positional, self.rest, *self.named.values(), self.others, self.result))


class Conversion:
    """Converts the arguments and the result of one function.

    Args:
        task: the task's name.
        function: the function; names in annotations are looked up in its module.
        parameters: those that callers pass.
        returns: its return annotation.
    """

    def __init__(
        self,
        task: str,
        function: Callable[..., Any],
        parameters: Sequence[inspect.Parameter],
        returns: Any,
    ) -> None:
        self._task = task
        self._names = getattr(inspect.unwrap(innermost(function)), "__globals__", {})
        self._parameters = parameters
        self._returns = returns
        self._yields = is_generator(function)
        self._plan: _Plan | None = None

    def encode(self, args: Sequence[Any], kwargs: dict[str, Any]) -> Call:
        """Return a call's arguments as plain JSON.

        Raises:
            InvalidArguments: one does not fit its annotation; the message names it.
        """
        try:
            return self._each(Converter.encode, args, kwargs)
        except Misfit as misfit:
            # Without a cause: else a task that gets this of another's ``enqueue`` would seem unfit itself.
            raise InvalidArguments(str(misfit)) from None

    def decode(self, args: Sequence[Any], kwargs: dict[str, Any]) -> Call:
        """Return a job's arguments as the function takes them.

        Raises:
            InvalidArguments: one does not fit its annotation; the message names it.
        """
        try:
            return self._each(Converter.decode, args, kwargs)
        except Misfit as misfit:
            raise InvalidArguments(str(misfit)) from misfit.__cause__

    def encode_result(self, value: Any) -> bytes:
        """Encode what the function returned. What does not fit is told as such: the job is done."""
        why = "it does not fit its annotation"
        with suppress(BaseException):  # a foreign object may raise anything
            try:
                converter = self._planned().result
                return results.encode_value(converter.encode(value) if converter else value)
            except Misfit as misfit:
                why = _named(misfit, "result")
        return results.encode_unreadable(value, why)

    def encode_item(self, item: Any) -> Any:
        """Return what the function has yielded as plain JSON.

        Raises:
            InvalidJob: it does not fit the annotation.
        """
        converter = self._planned().result
        try:
            return converter.encode(item) if converter else item
        except Misfit as misfit:
            raise InvalidJob(_named(misfit, "item")) from misfit.__cause__

    def decode_result(self, value: Any) -> Any:
        """Return what the function returned.

        Raises:
            NoResult: it does not fit the annotation.
        """
        converter = self._planned().result
        try:
            return converter.decode(value) if converter else value
        except Misfit as misfit:
            raise NoResult(
                f"the result of {self._task!r} does not fit its annotation: "
                f"{_named(misfit, 'result')}; app.job(id).result() gives it as plain JSON"
            ) from misfit.__cause__

    def converts(self) -> bool:
        """Whether anything is converted. Asked while names may still be undefined: then perhaps."""
        try:
            self._plan = self._make(self._converter)
        except Exception:  # whatever an annotation raises
            return True
        return self._plan.converts()

    def _each(
        self, convert: Callable[[Converter, Any], Any], args: Sequence[Any], kwargs: dict[str, Any]
    ) -> Call:
        plan, done, named = self._planned(), [*args], {**kwargs}
        for at, name, converter in plan.positional:
            if at < len(done):
                done[at] = self._one(convert, converter, done[at], name)
        if plan.rest is not None:
            for at in range(plan.places, len(done)):
                done[at] = self._one(convert, plan.rest, done[at], str(at + 1))
        for name, value in kwargs.items():
            if (conv := plan.named.get(name, plan.others)) is not None:
                named[name] = self._one(convert, conv, value, name)
        return tuple(done), named

    def _one(
        self,
        convert: Callable[[Converter, Any], Any],
        converter: Converter,
        value: Any,
        name: str,
    ) -> Any:
        try:
            return convert(converter, value)
        except Misfit as misfit:
            if is_placeholder(value):  # of a workflow: converted when it has been filled in
                return value
            # Those of ``*args`` have numbers, as where JSON would change one.
            which, own = (name, "") if name.isdigit() else (repr(name), name)
            said = f"argument {which} of {self._task!r}: {_named(misfit, own)}"
            raise Misfit(said) from misfit.__cause__

    def _planned(self) -> _Plan:
        if self._plan is None:
            with _resolving:  # several threads begin at once, and each would warn
                self._plan = self._plan or self._make(self._converter_if_resolved)
        return self._plan

    def _make(self, find: Callable[[str, Any, Any], Converter | None]) -> _Plan:
        found = [(p, find(p.name, p.annotation, p.default)) for p in self._parameters]
        kinds = inspect.Parameter
        by_place = {kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD}
        placed = [(p, one) for p, one in found if p.kind in by_place]
        by_name = {kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY}
        return _Plan(
            positional=[(at, p.name, one) for at, (p, one) in enumerate(placed) if one],
            places=len(placed),
            rest=next((one for p, one in found if p.kind is p.VAR_POSITIONAL), None),
            named={p.name: one for p, one in found if p.kind in by_name},
            others=next((one for p, one in found if p.kind is p.VAR_KEYWORD), None),
            result=find("return", self._returns, _EMPTY),
        )

    def _converter(self, name: str, annotation: Any, default: Any) -> Converter | None:
        if annotation is _EMPTY:
            return None

        def bearer() -> None: ...

        bearer.__annotations__ = {name: annotation}
        hint = get_type_hints(bearer, self._names, include_extras=True)[name]
        if name == "return" and self._yields:
            hint = _item_of(hint)
        # ``day: date = None`` has always meant that it may be None.
        return converter_of(hint, optional=default is None)

    def _converter_if_resolved(self, name: str, annotation: Any, default: Any) -> Converter | None:
        try:
            return self._converter(name, annotation, default)
        except Exception as error:
            logger.warning(
                "task %r: the annotation of %r, %s, cannot be resolved (%s), so its values travel as they "
                "are; import what it names also when the program runs",
                *(self._task, name, annotation, error),
            )
            return None


def conversion_of(
    task: str,
    function: Callable[..., Any],
    parameters: Sequence[inspect.Parameter],
    returns: Any,
) -> Conversion | None:
    """Return the conversion of a function; None when it is called with, and returns, plain JSON."""
    conversion = Conversion(task, function, parameters, returns)
    return conversion if conversion.converts() else None


def _item_of(hint: Any) -> Any:
    """Return what the generator yields whose function returns this: of ``Iterator[date]`` a date."""
    return next(iter(get_args(hint)), Any) if get_origin(hint) in _GIVES_ITEMS else Any


def _named(misfit: Misfit, name: str) -> str:
    return str(misfit).replace("`$", f"`{name}")
