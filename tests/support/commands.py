"""The command line as tests run it: without a terminal, in this process or as a program of its own."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from headrace.cli import main
from headrace.cli.application import DEMO
from tests.support.processes import ROOT, Process, clean_environment
from tests.support.wait import WAIT_S

STAY = {"serve", "demo", "-w"}  # they have children, or wait for signals
NOBODY = "redis://127.0.0.1:1/0"  # nothing listens there


@dataclass(frozen=True)
class Ran:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def complaint(self) -> str:
        """The one line that says what went wrong."""
        (line,) = self.err.splitlines()
        assert line.startswith("headrace: ")
        return line.removeprefix("headrace: ")


Headrace = Callable[..., Ran]


def environment(url: str | None, **more: str) -> dict[str, str]:
    where = {} if url is None else {"HEADRACE_URL": url}
    return clean_environment(PYTHONPATH=str(ROOT / "src"), COLUMNS="80", **where) | more


def run(*args: str, url: str | None, stdin: str = "", cwd: Path | None = None, **env: str) -> Ran:
    """Run a command line as a program would, without a terminal: in this process, which is quick.

    Those that stay are programs of their own.
    """
    if STAY & set(args) and "--help" not in args:
        return run_program(*args, url=url, stdin=stdin, cwd=cwd, **env)
    with _as_program(environment(url, **env), cwd, stdin) as (out, err):
        try:
            code = main(list(args))
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return Ran(code, _text(out), _text(err))


def run_program(
    *args: str, url: str | None, stdin: str = "", cwd: Path | None = None, **env: str
) -> Ran:
    """Run a command line as a program of its own."""
    with subprocess.Popen(
        [sys.executable, "-m", "headrace", *args],
        env=environment(url, **env),
        cwd=cwd,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            out, err = process.communicate(stdin, timeout=WAIT_S)
        except subprocess.TimeoutExpired:
            process.terminate()  # so that it ends its own children
            pytest.fail(f"headrace {' '.join(args)} does not end: {process.communicate()}")
    return Ran(process.returncode, out, err)


def _file(content: str = "") -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(content.encode()), encoding="utf-8", write_through=True)


def _text(file: io.TextIOWrapper) -> str:
    buffer = file.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode()


@contextmanager
def _as_program(
    env: dict[str, str], cwd: Path | None, stdin: str
) -> Iterator[tuple[io.TextIOWrapper, io.TextIOWrapper]]:
    """Give what a program has to itself: environment, directory, files, modules, logs, signals."""
    out, err, root = _file(), _file(), logging.getLogger()
    handlers, level, modules = list(root.handlers), root.level, set(sys.modules)
    signals = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    demo = sys.modules.pop(DEMO, None)  # its application may know another Redis
    with pytest.MonkeyPatch.context() as patch:
        for name in set(os.environ) - set(env):
            patch.delenv(name)
        for name, value in env.items():
            patch.setenv(name, value)
        patch.chdir(cwd or Path.cwd())
        patch.setattr(sys, "path", list(sys.path))
        patch.setattr(sys, "stdin", _file(stdin))
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        try:
            yield out, err
        finally:
            root.handlers[:] = handlers
            root.setLevel(level)
            for number, handler in signals.items():
                signal.signal(number, handler)
            if demo is not None:
                sys.modules[DEMO] = demo
            # An application is imported anew by each command: the next one lies in another directory.
            for name in set(sys.modules) - modules:
                file = getattr(sys.modules[name], "__file__", None) or ""
                if cwd is not None and Path(file).is_relative_to(cwd):
                    del sys.modules[name]


def starting(folder: Path, *args: str, url: str | None, **env: str) -> Process:
    """Start a command line as a program of its own, which stays."""
    command = [sys.executable, "-m", "headrace", *args]
    return Process(command, folder / "log", env=environment(url, **env))
