"""The processes of the demo: real ``headrace`` commands, which end with it however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Final, Self

from headrace.clock import monotonic

_GRACE_S: Final = 5.0  # an idle consumer leaves within a fraction of a second
_SETTLED_S: Final = 0.05

# exec keeps the pid, so what we start is the command. It dies with us, even by kill -9 (Linux); it
# imports what we import, from wherever we were started; and no setting of the user's changes it.
_START = """
import os, sys
if sys.platform == "linux":
    import ctypes
    PR_SET_PDEATHSIG, SIGKILL = 1, 9
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, SIGKILL)
for name in list(os.environ):
    if name.startswith("HEADRACE_"):
        del os.environ[name]
os.environ["PYTHONPATH"] = sys.argv[2]
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[3], sys.argv[3:])
"""


def pause(seconds: float) -> None:
    """Let some time pass."""
    threading.Event().wait(seconds)


class Child:
    """One ``headrace`` command that runs.

    Attributes:
        name: what the demo calls it.
        log: the file that has what it says.
        killed: the demo has killed it.
    """

    def __init__(self, name: str, args: list[str], folder: Path) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self.killed = False
        path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path if entry)
        command = [sys.executable, "-m", "headrace", *args]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603  ourselves, with options of our own
                [sys.executable, "-IS", "-c", _START, str(os.getpid()), path, *command],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C in our terminal is for us to hand on
            )

    @property
    def pid(self) -> int:
        """Its process id, also when it has ended."""
        return self._process.pid

    @property
    def code(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.poll()

    def stop(self) -> None:
        """Stop it where it is (SIGSTOP), and let what it has sent arrive."""
        self._process.send_signal(signal.SIGSTOP)
        pause(_SETTLED_S)

    def go_on(self) -> None:
        """Let it go on (SIGCONT)."""
        self._process.send_signal(signal.SIGCONT)

    def terminate(self) -> None:
        """Ask it to end (SIGTERM)."""
        self._process.terminate()

    def kill(self) -> None:
        """Kill it (``kill -9``)."""
        self.killed = True
        self._process.kill()
        self._process.wait()

    def ended(self, timeout_s: float) -> bool:
        """Wait for its end; False when it does not come in time."""
        try:
            self._process.wait(max(0.0, timeout_s))
        except subprocess.TimeoutExpired:
            return False
        return True

    def last_words(self, lines: int = 12) -> str:
        """Return the end of its log."""
        return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-lines:])


class Crew:
    """All children, for as long as the ``with`` block lasts: none of them outlives it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.children: list[Child] = []

    def start(self, name: str, *args: str) -> Child:
        """Start a command under a name."""
        child = Child(name, list(args), self._folder)
        self.children.append(child)
        return child

    def lost(self) -> list[Child]:
        """Return those that ended by themselves, which none should."""
        return [child for child in self.children if child.code is not None and not child.killed]

    def dismiss(self) -> list[Child]:
        """Ask all to end; give those that did not end in time and in order, killed now."""
        alive = [child for child in self.children if child.code is None]
        for child in alive:
            child.terminate()
        deadline = monotonic() + _GRACE_S
        late = [child for child in alive if not child.ended(deadline - monotonic())]
        for child in late:
            child.kill()
        return [child for child in alive if child.code != 0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for child in self.children:
            if child.code is None:
                child.kill()
