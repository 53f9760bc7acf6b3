"""Find the application that a command line names: ``module:object``, or ``module`` alone."""

from __future__ import annotations

import sys
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Final

from headrace.app import Headrace
from headrace.discovery import import_module
from headrace.errors import InvalidSetting

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
    application = _held_by(_imported(module_name), path)
    if url is not None:
        application.use(url)
    application.import_discovered()
    return application


def is_demo(spec: str | None) -> bool:
    """Whether a command line names the demo's application."""
    return spec is not None and spec.partition(":")[0] == DEMO


def _imported(name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    return import_module(name)


def _held_by(module: ModuleType, path: str) -> Headrace:
    """Return the application of this name, or the only one."""
    held = {name: one for name, one in vars(module).items() if isinstance(one, Headrace)}
    names = " or ".join(f"{module.__name__}:{name}" for name in held)
    hint = f": give {names}" if held else ""
    if path:
        try:
            found = attrgetter(path)(module)
        except AttributeError:
            raise InvalidSetting(f"module {module.__name__!r} has no {path!r}{hint}") from None
        if not isinstance(found, Headrace):
            what = f"{module.__name__}:{path} is a {type(found).__name__}"
            raise InvalidSetting(f"{what}, not a Headrace application{hint}")
        return found
    if not held:
        raise InvalidSetting(
            f"module {module.__name__!r} holds no application: it needs a line as app = Headrace()"
        )
    if len({id(one) for one in held.values()}) > 1:
        raise InvalidSetting(f"module {module.__name__!r} holds several applications{hint}")
    return next(iter(held.values()))
