"""A task whose function is a generator: what it yields is streamed to whoever reads its job."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final, ParamSpec

from headrace import results
from headrace.errors import InvalidJob
from headrace.faithful import encode_args
from headrace.function import innermost
from headrace.options import TaskOptions
from headrace.producer import Producer
from headrace.reports import streamed
from headrace.task import Task
from headrace.wire import DEFAULT_MAX_BYTES

P = ParamSpec("P")

_ITEM: Final = ("item",)


class ItemDecoder:
    """Makes of plain JSON what a generator has yielded; what it returned in the end is plain."""

    def __init__(self, item: Callable[[Any], Any]) -> None:
        self.item: Callable[[Any], Any] = item

    def __call__(self, value: Any) -> Any:
        """Return what the function returned."""
        return value


class StreamTask(Task[P, Any]):
    """A task whose function is a generator, async or not.

    A job of it has the items by ``stream()``, for as long as its result is kept, and the generator's
    return value as its result. Called, it gives the generator.
    """

    def __init__(
        self,
        function: Callable[P, Any],
        *,
        name: str,
        config: TaskOptions,
        producer: Callable[[], Producer],
    ) -> None:
        super().__init__(function, name=name, config=config, producer=producer)
        self.generator: Callable[P, Any] = function
        self.is_async: bool = inspect.isasyncgenfunction(innermost(function))
        self.encode_result: Callable[[Any], bytes] = results.encode_value
        self.decode_result: Callable[[Any], Any] | None = None
        if self.conversion is not None:
            self.decode_result = ItemDecoder(self.conversion.decode_result)
        self.function: Callable[P, Any] = streamed(function, self._encode, is_async=self.is_async)
        self.runs(self.function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Call the function, here and now: it gives the generator."""
        return self.generator(*args, **kwargs)

    def _encode(self, item: Any) -> bytes:
        """Encode an item.

        Raises:
            InvalidJob: it does not fit its annotation, or does not come back equal from JSON.
        """
        try:
            plain = item if self.conversion is None else self.conversion.encode_item(item)
            raw = self.sealed_item(encode_args((plain,), _ITEM)[1:-1])
        except InvalidJob as error:
            said = str(error).removeprefix("argument 'item'").removeprefix(": ")
            raise InvalidJob(f"an item of {self.name!r}: {said}") from error.__cause__
        if len(raw) > DEFAULT_MAX_BYTES:
            raise InvalidJob(
                f"an item of {self.name!r}: {len(raw):,} bytes; the limit is {DEFAULT_MAX_BYTES:,}"
            )
        return raw
