"""Find the application that a command line names: ``module:object``, or ``module`` alone."""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from headrace.app import Headrace
from headrace.errors import HeadraceError, InvalidSetting
from headrace.logs import one_line

DEMO: Final = "headrace.demo.tasks"
"""The module of the demo's application."""


def load(spec: str, url: str | None = None) -> Headrace:
    """Import an application; modules in the current directory are found, too.

    Args:
        spec: ``module:object``, or ``module`` when it holds one application.
        url: where Redis is, if the command line says so; None leaves that to the application.

    Raises:
        InvalidSetting: it cannot be imported, or is no application; the message says which and why.
    """
    module_name, colon, path = spec.partition(":")
    if module_name.endswith(".py") or "/" in module_name:
        dotted = module_name.removesuffix(".py").strip("./").replace("/", ".")
        raise InvalidSetting(f"{spec!r} is a file: give the module, as in {dotted}{colon}{path}")
    module = _imported(module_name)
    application = _named(module, path) if path else _only_one(module)
    if url is not None:
        application.use(url)
    return application


def is_demo(spec: str | None) -> bool:
    """Whether a command line names the demo's application."""
    return spec is not None and spec.partition(":")[0] == DEMO


def _imported(name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except HeadraceError:
        raise
    except Exception as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name
        if missing and f"{name}.".startswith(f"{missing}."):
            raise InvalidSetting(
                f"there is no module {missing!r}, neither in {here} nor installed"
            ) from error
        raise InvalidSetting(
            f"module {name!r} cannot be imported: {_where(error)}{type(error).__name__}: "
            f"{one_line(str(error))} (-l debug shows where)"
        ) from error


def _where(error: Exception) -> str:
    """Return the last file outside the import system that the error passed: the user's, mostly."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "importlib" not in frame.filename and frame.filename != __file__
    ]
    return f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}: " if frames else ""


def _named(module: ModuleType, path: str) -> Headrace:
    found: Any = module
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise InvalidSetting(
                f"module {module.__name__!r} has no {path!r}{_hint(module)}"
            ) from None
    if not isinstance(found, Headrace):
        raise InvalidSetting(
            f"{module.__name__}:{path} is a {type(found).__name__}, not a Headrace application"
            f"{_hint(module)}"
        )
    return found


def _only_one(module: ModuleType) -> Headrace:
    found = _applications(module)
    if not found:
        raise InvalidSetting(
            f"module {module.__name__!r} holds no application: it needs a line as app = Headrace()"
        )
    if len({id(application) for application in found.values()}) > 1:
        raise InvalidSetting(
            f"module {module.__name__!r} holds several applications{_hint(module)}"
        )
    return next(iter(found.values()))


def _applications(module: ModuleType) -> dict[str, Headrace]:
    return {name: value for name, value in vars(module).items() if isinstance(value, Headrace)}


def _hint(module: ModuleType) -> str:
    found = [f"{module.__name__}:{name}" for name in _applications(module)]
    return f": give {' or '.join(found)}" if found else ""
