"""The processes of the demo: real ``headrace`` commands, none of which outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

import msgspec

_LAST_LINES: Final = 12  # of a log, that are shown when something is wrong

# exec keeps the pid, so what we start is the command. It ends when we end, even by kill -9 (Linux);
# it imports what we import, from wherever we were started; and no setting of the user's changes it.
_START: Final = """
import os, sys
parent, last_signal, path, url = sys.argv[1:5]
if sys.platform == "linux":
    import ctypes
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(last_signal))
for name in list(os.environ):
    if name.startswith("HEADRACE_"):
        del os.environ[name]
os.environ.update(PYTHONPATH=path, HEADRACE_URL=url)
if os.getppid() == int(parent):
    os.execv(sys.executable, [sys.executable, "-m", "headrace", *sys.argv[5:]])
"""


class Trouble(Exception):
    """The demo cannot go on."""


class Shell:
    """Runs commands in a folder, on a Redis.

    Each method raises ``Trouble`` when a command does other than it should. Leaving the ``with``
    block kills those in the background that still run.
    """

    def __init__(self, folder: Path, url: str) -> None:
        self._folder = folder
        self._url = url
        self._background: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *args: str, stdin: Iterable[int] = ()) -> int:
        """Start a command in the background, under a name; return its process id.

        Its output goes to a file; numbers that it is to read come from ``stdin``.
        """
        with self._log(name).open("wb") as log, tempfile.TemporaryFile() as numbers:
            numbers.writelines(b"%d\n" % number for number in stdin)
            numbers.seek(0)
            process = self._popen(args, stdin=numbers, stdout=log, stderr=log)
        self._background[name] = process
        return process.pid

    def output(self, name: str) -> list[str]:
        """Wait for the end of a command in the background; return the lines that it has printed."""
        if self._background[name].wait() != 0:
            raise self._trouble(name)
        del self._background[name]
        return self._log(name).read_text().splitlines()

    def kill(self, name: str) -> None:
        """Kill a command in the background (``kill -9``)."""
        self._background[name].kill()
        self._background.pop(name).wait()

    def check(self) -> None:
        """See to it that all commands in the background still run."""
        for name, process in self._background.items():
            if process.poll() is not None:
                raise self._trouble(name)

    def end(self) -> None:
        """Ask all commands in the background to end, and wait until they have."""
        for process in self._background.values():
            process.terminate()
        for name in list(self._background):
            self.output(name)

    def show(self, *args: str) -> None:
        """Run a command, whose output is ours."""
        with self._popen(args):
            pass

    @contextmanager
    def watching(self, *args: str) -> Iterator[None]:
        """Run a command, whose output is ours, until the block is left: then it gets a Ctrl-C."""
        # Python complains when it is interrupted before it has begun: nobody wants to know.
        process = self._popen(args, last_signal=signal.SIGINT, stderr=subprocess.DEVNULL)
        try:
            yield
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()

    def json(self, *args: str) -> Any:
        """Run a command, and return what it says to programs."""
        with self._popen((*args, "--json"), stdout=subprocess.PIPE) as process:
            said = process.communicate()[0]
        if not said:
            raise Trouble(f"headrace {' '.join(args)} failed")
        return msgspec.json.decode(said)

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"

    def _trouble(self, name: str) -> Trouble:
        said = self._log(name).read_text("utf-8", "replace").splitlines()[-_LAST_LINES:]
        code = self._background[name].returncode
        return Trouble("\n".join([f"{name} ended (exit code {code}):", *said]))

    def _popen(
        self, args: tuple[str, ...], *, last_signal: int = signal.SIGKILL, **streams: Any
    ) -> subprocess.Popen[bytes]:
        path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path if entry)
        settings = (str(os.getpid()), str(int(last_signal)), path, self._url)
        return subprocess.Popen(  # noqa: S603  ourselves, with options of our own
            [sys.executable, "-IS", "-c", _START, *settings, *args],
            cwd=self._folder,
            start_new_session=True,  # Ctrl-C in our terminal is for us to hand on
            **{"stdin": subprocess.DEVNULL, **streams},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self._background):
            self.kill(name)
