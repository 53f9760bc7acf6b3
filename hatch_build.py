"""Compiles the modules that each job goes through with mypyc, when asked to: docs/decisions/0029.

A build hook that is off: the wheel everybody gets is pure Python, and so is each checkout. With
``HATCH_BUILD_HOOK_ENABLE_CUSTOM=true`` a wheel for this Python and this machine is built from the same
sources; ``make compiled`` does.
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from mypyc.build import mypycify
from setuptools import Distribution
from setuptools.command.build_ext import build_ext

COMPILED = (
    "consumer/batcher",
    "consumer/claimed",
    "consumer/claims",
    "consumer/dispatcher",
    "consumer/executor",
    "consumer/limited",
    "consumer/outcomes",
    "consumer/report",
    "consumer/slots",
    "consumer/thread_pool",
    "ids",
    "operations/consuming",
    "operations/request",
    "store/exchange",
)
"""What each job goes through. Without ``wire``: mypyc cannot make msgspec's structs."""


class CompileHook(BuildHookInterface):  # type: ignore[type-arg]
    """Adds compiled modules to the wheel; the sources stay in it, for tracebacks and readers."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and say that the wheel is for this Python and machine alone."""
        self._folder = tempfile.TemporaryDirectory()
        if version == "editable":
            return
        built = compiled(Path(self.root) / "src", Path(self._folder.name))
        build_data["force_include"] |= {str(path): name for path, name in built.items()}
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, *_: Any) -> None:
        """Remove what was built."""
        self._folder.cleanup()


def compiled(source: Path, folder: Path) -> dict[Path, str]:
    """Compile the modules; return the files and where they belong in the wheel.

    Args:
        source: where the package stands.
        folder: where to build.

    Raises:
        SystemExit: a module is not what mypyc can compile; it has said why.
    """
    with contextlib.chdir(source):
        extensions = mypycify(
            ["--config-file=../pyproject.toml", *(f"headrace/{name}.py" for name in COMPILED)],
            target_dir=str(folder / "c"),
            group_name="headrace",
        )
        command = build_ext(Distribution({"name": "headrace", "ext_modules": extensions}))
        command.build_lib, command.build_temp = str(folder / "lib"), str(folder / "objects")
        command.ensure_finalized()
        command.run()
    return {path: str(path.relative_to(folder / "lib")) for path in (folder / "lib").rglob("*.so")}
