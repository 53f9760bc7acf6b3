"""Counts the jobs that ran, from inside any worker: each process writes a small file that the harness reads.

The same for everybody, and cheap (under a microsecond), so that it weighs as little as it can on those
that are quick. Standard library only: it runs in the environments of all contestants.
"""

from __future__ import annotations

import mmap
import os
import struct
from array import array
from pathlib import Path
from threading import Lock
from time import monotonic_ns
from typing import Final

FOLDER: Final = "BENCH_TALLY"  # in the environment of a worker: where its file is to be
MOST_SAMPLES: Final = 200_000  # of one process

_HEAD: Final = struct.Struct("qqqq")  # jobs, the first and the last of them (monotonic ns), samples
_lock = Lock()
_file: mmap.mmap | None = None
_jobs = _first = _samples = 0


def ran(late_ns: int | None = None, jobs: int = 1) -> None:
    """Note that a job ran, and perhaps how late it began; or that several did."""
    global _jobs, _first, _samples
    with _lock:
        file = _file or _open()
        now = monotonic_ns()
        _jobs += jobs
        _first = _first or (now if jobs else 0)
        if late_ns is not None and _samples < MOST_SAMPLES:
            struct.pack_into("q", file, _HEAD.size + 8 * _samples, late_ns)
            _samples += 1
        _HEAD.pack_into(file, 0, _jobs, _first, now, _samples)


def _open() -> mmap.mmap:
    global _file
    path = Path(os.environ[FOLDER]) / f"{os.getpid()}.{monotonic_ns()}"
    size = _HEAD.size + 8 * MOST_SAMPLES
    with path.open("wb+") as file:
        file.truncate(size)
        _file = mmap.mmap(file.fileno(), size)
    return _file


def _forget() -> None:
    """A child that was forked counts for itself."""
    global _file, _jobs, _first, _samples, _lock
    _file, _lock = None, Lock()
    _jobs = _first = _samples = 0


os.register_at_fork(after_in_child=_forget)


class Tally:
    """What all processes together have noted in a folder.

    Attributes:
        jobs: how many ran.
        first_ns, last_ns: when the first and the last of them ended; 0 before.
        late_ns: the samples.
    """

    def __init__(self, folder: Path) -> None:
        heads, self.late_ns = [], array("q")
        for path in folder.iterdir():
            with path.open("rb") as file:
                head = file.read(_HEAD.size)
                if len(head) == _HEAD.size:
                    heads.append(_HEAD.unpack(head))
                    self.late_ns.frombytes(file.read(8 * heads[-1][3]))
        self.jobs = sum(head[0] for head in heads)
        self.first_ns = min((head[1] for head in heads if head[0]), default=0)
        self.last_ns = max((head[2] for head in heads), default=0)
