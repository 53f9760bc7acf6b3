"""For development: a program is started anew whenever a Python file below a folder has changed.

It runs in a process of its own, which gets SIGTERM and so ends as in a deploy; then the next one is
started. Imported only for ``--reload``, for ``watchfiles`` need not be installed.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterator
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType
from typing import Final

import watchfiles

from headrace.supervisor.supervisor import detach

log: logging.Logger = logging.getLogger("headrace.consumer")
logging.getLogger("watchfiles").setLevel(logging.WARNING)  # what changed is said below, by name

LEFT_OUT: Final[frozenset[str]] = frozenset(
    {"__pycache__", "node_modules", "site-packages", "venv"}
)
"""Folders whose files are not the application's; and those whose names begin with a dot."""

_TURN_MS: Final = 100  # after so long without a change the watcher returns: see ``run``
_NAMED: Final = 3  # files that a line of the log names

Changes = Iterator[set[tuple[watchfiles.Change, str]]]


def run(program: Callable[[], int], folder: Path) -> int:
    """Run a program, anew after each change, until SIGTERM or SIGINT; a second signal ends it at once.

    Args:
        program: runs until SIGTERM, and says its exit code; importable, for it runs in a new process.
        folder: where the application's files are.

    Returns:
        The exit code: 0, also when the program has ended by itself and well. After it has failed, the
        next change is waited for.
    """
    end = threading.Event()
    changes: Changes = watchfiles.watch(
        folder,
        watch_filter=lambda _, path: is_code(_below(folder, path)),
        stop_event=end,
        rust_timeout=_TURN_MS,
        yield_on_timeout=True,
        ignore_permission_denied=True,
    )
    next(changes)  # from here on, nothing is missed
    reloader = _Reloader(program, folder, changes)
    watching = threading.Thread(target=reloader.watch, name="headrace-reload", daemon=True)
    watching.start()
    try:
        return reloader.run()
    finally:
        end.set()
        watching.join()
        reloader.close()


def is_code(path: Path) -> bool:
    """Whether a file, named from the folder of the application, belongs to its code."""
    folders = path.parts[:-1]
    return path.suffix == ".py" and not any(
        name in LEFT_OUT or name.startswith(".") for name in folders
    )


def _below(folder: Path, path: str) -> Path:
    return Path(os.path.relpath(path, folder))


class _Reloader:
    def __init__(self, program: Callable[[], int], folder: Path, changes: Changes) -> None:
        self._program = program
        self._folder = folder
        self._changes = changes
        self._context = multiprocessing.get_context("spawn")
        self._process: SpawnProcess | None = None
        self._changed = threading.Event()
        self._retiring = False  # the process was told to end, for a change
        self._stopping = False
        self._wakes, self._wake = os.pipe()  # wakes who waits, from a thread and from a handler
        os.set_blocking(self._wake, False)

    def run(self) -> int:
        """Do as ``run`` says."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._stop)
        log.info("changes of Python files below %s start the consumers anew", self._folder)
        while not self._stopping:
            code = self._run_once()
            if self._stopping or (code == 0 and not self._retiring):
                break
            if not self._retiring:
                log.error("it has ended with exit code %s; the next change starts it anew", code)
                while not self._changed.is_set() and not self._stopping:
                    self._wait()
        return 0

    def close(self) -> None:
        """Close what it wakes itself by."""
        os.close(self._wakes)
        os.close(self._wake)

    def _run_once(self) -> int | None:
        """Run the program until it has ended, by itself or because something has changed."""
        self._changed.clear()  # what has changed until now is read by the process that begins now
        self._retiring = False
        self._process = process = self._context.Process(target=_run, args=(self._program,))
        process.start()
        if self._stopping:  # the signal came before there was a process
            process.terminate()
        while process.exitcode is None:
            if self._changed.is_set() and not self._retiring and not self._stopping:
                self._retiring = True
                process.terminate()
            self._wait(process.sentinel)
        return process.exitcode

    def _wait(self, *sentinels: int) -> None:
        """Wait for a change, a signal, or the end of a process."""
        if self._wakes in multiprocessing.connection.wait([self._wakes, *sentinels]):
            os.read(self._wakes, 1024)

    def watch(self) -> None:
        """Note what changes; in a thread of its own."""
        for changes in self._changes:
            if changes:
                paths = sorted(str(_below(self._folder, path)) for _, path in changes)
                more = f" and {len(paths) - _NAMED} more" if paths[_NAMED:] else ""
                log.info("changed: %s%s", ", ".join(paths[:_NAMED]), more)
                self._changed.set()
                self._rouse()

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        first, self._stopping = not self._stopping, True
        process = self._process
        # One that ends for a change has been told: a second signal would end it at once.
        if process is not None and not (first and self._retiring):
            with contextlib.suppress(ProcessLookupError, AttributeError):
                process.terminate()
        self._rouse()

    def _rouse(self) -> None:
        with contextlib.suppress(
            OSError
        ):  # it is full, and whoever waits is awake; or it is closed
            os.write(self._wake, b".")


def _run(program: Callable[[], int]) -> None:
    detach()
    raise SystemExit(program())
