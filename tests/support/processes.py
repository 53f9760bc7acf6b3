"""Child processes of tests: started from the checkout's root, and ended by pid, whatever happens."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.support.wait import WAIT_S

ROOT = Path(__file__).resolve().parents[2]


class Process:
    """A running program whose output goes to a file."""

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        *,
        env: dict[str, str] | None = None,
        cwd: Path = ROOT,
    ) -> None:
        self.log = log
        with log.open("ab") as output:
            self.popen = subprocess.Popen(
                command,
                cwd=cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.pid = self.popen.pid

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self.log.read_text(errors="replace")

    def alive(self) -> bool:
        return self.popen.poll() is None

    def kill(self) -> None:
        """SIGKILL, and wait."""
        self.popen.kill()
        self.popen.wait(WAIT_S)

    def end(self) -> int:
        """SIGTERM, and give the exit code; SIGKILL when that does not help."""
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                self.popen.send_signal(signal.SIGCONT)
                self.popen.terminate()
        try:
            return self.popen.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(
                f"{self.popen.args!r} did not end on SIGTERM:\n{self.output}"
            ) from None


@contextlib.contextmanager
def processes(folder: Path) -> Iterator[_Starter]:
    """Give a way to start programs that are ended when the block is left, newest first."""
    starter = _Starter(folder)
    try:
        yield starter
    finally:
        for process in reversed(starter.started):
            if process.alive():
                with contextlib.suppress(AssertionError):
                    process.end()


class _Starter:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.started: list[Process] = []

    def __call__(
        self, *command: str, env: dict[str, str] | None = None, cwd: Path = ROOT
    ) -> Process:
        log = self._folder / f"{len(self.started)}.log"
        process = Process(command, log, env=env, cwd=cwd)
        self.started.append(process)
        return process


def clean_environment(**more: str) -> dict[str, str]:
    """Give the environment without what points programs at a server or at other code."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("HEADRACE_") and name not in ("REDIS_URL", "PYTHONPATH")
    }
    # `python3` is the interpreter that runs the tests, so that its dependencies are there.
    return kept | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"} | more
