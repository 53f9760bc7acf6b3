"""Dependencies: parameters of a task that are made for each job, and closed after it.

``db: Annotated[Session, Depends(open_session)]``. They are found when a function becomes a task; callers and
the conversion of arguments do not see them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, NoReturn, get_type_hints

from headrace.errors import InvalidSetting
from headrace.function import context_parameter, innermost
from headrace.hooks.steps import Step, name_of, step_of


@dataclass(frozen=True)
class Depends:
    """Marks a parameter in ``Annotated``: its value comes from a function, for each job anew.

    A generator function, one under ``@contextmanager`` or ``@asynccontextmanager``, or a class that is a context
    manager is opened before the task and closed after it; anything else is called, and awaited if it is async.
    It may have dependencies of its own, and a parameter annotated as ``Context``. Within one job, each function
    is called once.

    Args:
        function: what gives the value.

    Raises:
        InvalidSetting: it cannot be called.
    """

    function: Callable[..., Any]

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise InvalidSetting(f"Depends takes a function, and not {self.function!r}")


class _ToBeInjected:
    def __repr__(self) -> str:
        return "INJECTED"

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(
            f"a consumer fills this parameter in; who calls the function passes a value: .{name}"
        )


INJECTED: Final[Any] = _ToBeInjected()
"""As the default of a dependency, it lets callers leave the parameter out, also in the eyes of a type checker."""


class Injected(NamedTuple):
    """The dependencies of one function.

    Attributes:
        steps: in the order in which they are made; each comes after those that it needs.
        parameters: which parameters they fill: place among the positional ones (None: by name), name, step.
    """

    steps: Sequence[Step] = ()
    parameters: Sequence[tuple[int | None, str, Step]] = ()

    @property
    def names(self) -> set[str]:
        """The parameters that callers do not pass."""
        return {name for _, name, _ in self.parameters}


NONE: Final = Injected()


def injected_of(task: str, function: Callable[..., Any], signature: inspect.Signature) -> Injected:
    """Find the dependencies of a task's function, and theirs.

    Raises:
        InvalidSetting: one depends on itself, has a parameter that nobody fills, or cannot be resolved.
    """
    found = _Finder(f"task {task!r}")
    marked = found.marked(function, signature)
    parameters: list[tuple[int | None, str, Step]] = []
    for at, parameter in enumerate(signature.parameters.values()):
        if parameter.name in marked:
            placed = parameter.kind is parameter.POSITIONAL_OR_KEYWORD
            step = found.step(marked[parameter.name].function)
            parameters.append((at if placed else None, parameter.name, step))
    return Injected([*found.steps.values()], parameters) if parameters else NONE


def _called(function: Any) -> Any:
    """Return the function whose parameters a call has: of a class, its ``__init__``."""
    return function.__init__ if inspect.isclass(function) else function


class _Finder:
    """Finds what the dependencies of one task depend on."""

    def __init__(self, whose: str) -> None:
        self._whose = whose
        self.steps: dict[Callable[..., Any], Step] = {}
        self._within: list[Callable[..., Any]] = []

    def step(self, function: Callable[..., Any]) -> Step:
        """Return the step of a dependency, the same each time."""
        if function in self._within:
            raise InvalidSetting(f"{self._whose}: {name_of(function)} depends on itself")
        if function not in self.steps:
            self._within.append(function)
            needs = self._needs(function)
            self._within.remove(function)
            self.steps[function] = step_of(function, needs)
        return self.steps[function]

    def marked(
        self, function: Callable[..., Any], signature: inspect.Signature
    ) -> dict[str, Depends]:
        """Return the parameters that are marked, by name."""
        names = getattr(inspect.unwrap(innermost(_called(function))), "__globals__", {})
        found = {}
        for parameter in signature.parameters.values():
            marker = self._marker(parameter, names)
            if marker is not None and parameter.kind is parameter.POSITIONAL_ONLY:
                raise InvalidSetting(
                    f"{self._whose}: dependency {parameter.name!r} must have a name"
                )
            if marker is not None:
                found[parameter.name] = marker
        return found

    def _needs(self, function: Callable[..., Any]) -> dict[str, Step | None]:
        try:
            signature = inspect.signature(function)
        except ValueError:  # it is written in C, and does not say
            return {}
        marked, context = self.marked(function, signature), context_parameter(_called(function))
        needs: dict[str, Step | None] = {}
        for name, parameter in signature.parameters.items():
            if name in marked:
                needs[name] = self.step(marked[name].function)
            elif name == context:
                needs[name] = None
            elif parameter.default is parameter.empty and parameter.kind not in (
                parameter.VAR_POSITIONAL,
                parameter.VAR_KEYWORD,
            ):
                raise InvalidSetting(
                    f"{self._whose}: its dependency {name_of(function)} has a parameter {name!r} that nobody "
                    "fills: mark it with Depends, annotate it as Context, or give it a default"
                )
        return needs

    def _marker(self, parameter: inspect.Parameter, names: dict[str, Any]) -> Depends | None:
        hint = parameter.annotation
        if isinstance(hint, str):

            def bearer() -> None: ...

            bearer.__annotations__ = {"it": hint}
            try:
                hint = get_type_hints(bearer, names, include_extras=True)["it"]
            except Exception as error:  # whatever an annotation raises
                if "Depends" not in hint:
                    return None  # an annotation that cannot be resolved is the user's business
                raise InvalidSetting(
                    f"{self._whose}: the annotation of {parameter.name!r}, {hint}, cannot be resolved "
                    f"({error}): what it names has to stand in its module, and above it"
                ) from error
        while hasattr(hint, "__value__"):  # an alias that was made with ``type``
            hint = hint.__value__
        metadata: Any = getattr(hint, "__metadata__", ())
        return next((one for one in metadata if isinstance(one, Depends)), None)
