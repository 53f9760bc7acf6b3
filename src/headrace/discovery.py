"""Discovery: import packages for the tasks that are declared in them."""

from __future__ import annotations

import importlib
import pkgutil
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

from headrace.errors import HeadraceError, InvalidSetting
from headrace.logs import one_line


def import_packages(names: Iterable[str]) -> None:
    """Import packages with all modules in them, but for ``__main__``, which is to be run.

    Raises:
        InvalidSetting: a module cannot be imported; the message says which and why.
    """
    for name in names:
        for module in _modules(name):
            import_module(module)


def import_module(name: str) -> ModuleType:
    """Import a module.

    Raises:
        InvalidSetting: it is not there, or raises an exception.
    """
    try:
        return importlib.import_module(name)
    except HeadraceError:
        raise
    except Exception as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name
        if missing and f"{name}.".startswith(f"{missing}."):
            raise InvalidSetting(
                f"there is no module {missing!r}, neither in {Path.cwd()} nor installed"
            ) from error
        raise InvalidSetting(
            f"module {name!r} cannot be imported: {_where(error)}{type(error).__name__}: "
            f"{one_line(str(error))} (-l debug shows where)"
        ) from error


def _modules(name: str) -> Iterator[str]:
    yield name
    path = getattr(import_module(name), "__path__", ())
    for found in pkgutil.iter_modules(path, f"{name}."):
        if found.name.rpartition(".")[2] != "__main__":
            yield from _modules(found.name) if found.ispkg else (found.name,)


def _where(error: Exception) -> str:
    """Return the last file outside the import system that the error passed: the user's, mostly."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "importlib" not in frame.filename and frame.filename != __file__
    ]
    return f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}: " if frames else ""
