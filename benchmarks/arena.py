"""The arena: a private server, and the processes of whoever is measured, started, watched and ended.

All contestants get the same server: AOF with fsync every second, as Headrace recommends it, or none.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from redis import Redis

from benchmarks import tally
from benchmarks.contestants import Contestant
from benchmarks.environment import ROOT, environment_of, python_of
from benchmarks.stopwatch import Measured
from benchmarks.tally import Tally
from headrace.embedded import EmbeddedServer

LONGEST_S: Final = 90  # whoever takes longer for one thing does not end
_HZ: Final = os.sysconf("SC_CLK_TCK")


class GaveUp(Exception):
    """A contestant failed, or took too long; says what it did."""


@dataclass(frozen=True)
class Reading:
    """What has been used so far: to subtract one from another.

    Attributes:
        jobs: how many jobs have run.
        cpu_s: processor time of the worker, all its processes.
        server_s: processor time of the server.
        commands: what the server carried out, the commands inside scripts among them.
    """

    jobs: int
    cpu_s: float
    server_s: float
    commands: int


class Arena:
    """A server of our own, emptied for each run.

    Args:
        aof: let it write its append-only file, with fsync every second.
    """

    def __init__(self, *, aof: bool) -> None:
        # Workers have sessions of their own: whoever ends us has to let us end them.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        self._folder = tempfile.TemporaryDirectory(prefix="headrace-bench-")
        self._home = Path(self._folder.name)
        args = () if aof else ("--appendonly", "no")
        self._server = EmbeddedServer.start(
            self._home / "data", port=0, extra_args=args, die_with_parent=True
        )
        self._aof = aof
        self._runs = 0
        self.url = self._server.url
        self.engine = str(self._server.engine)
        self.redis: Any = Redis.from_url(self.url)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.redis.close()
        self._server.stop()
        self._folder.cleanup()

    def empty(self) -> None:
        """Empty the server, and let it finish what it does in the background."""
        self._finish_rewriting()
        self.redis.flushall()
        if self._aof:
            # A rewrite now, of nothing, so that none is due while somebody is measured.
            self.redis.bgrewriteaof()
            self._finish_rewriting()

    def _finish_rewriting(self) -> None:
        words = ("aof_rewrite_in_progress", "aof_rewrite_scheduled")
        while any(self.redis.info("persistence")[word] for word in words):
            time.sleep(0.01)

    def push(self, who: Contestant, does: str, what: object, count: int) -> Measured:
        """Let a contestant enqueue, which it measures itself: see ``benchmarks.contestants.run``.

        Raises:
            GaveUp: it failed, or took too long.
        """
        try:
            done = subprocess.run(
                self._command(who, does, self.url, what, count),
                cwd=ROOT,
                env=environment_of(who, self.url),
                capture_output=True,
                text=True,
                check=False,
                timeout=LONGEST_S,
            )
        except subprocess.TimeoutExpired as error:
            raise GaveUp(f"{who.name} {does}: not done in {LONGEST_S} s") from error
        if done.returncode:
            raise GaveUp(f"{who.name} {does}: exit code {done.returncode}\n{done.stderr}")
        return Measured(**json.loads(done.stdout.splitlines()[-1]))

    @contextmanager
    def working(self, who: Contestant, concurrency: int, processes: int = 1) -> Iterator[Worker]:
        """Run a contestant's worker."""
        self._runs += 1
        folder = self._home / f"tally{self._runs}"
        folder.mkdir()
        log = folder.with_suffix(".log")
        with log.open("wb") as output:
            process = subprocess.Popen(
                self._command(who, "work", self.url, concurrency, processes),
                cwd=ROOT,
                env=environment_of(who, self.url) | {tally.FOLDER: str(folder)},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        worker = Worker(self, process, folder, log)
        try:
            yield worker
        finally:
            worker.end()

    def server_cpu_s(self) -> float:
        used = self.redis.info("cpu")
        return float(used["used_cpu_user"] + used["used_cpu_sys"])

    def commands(self) -> int:
        """How many commands the server has carried out, those inside scripts too, but for our own."""
        calls = self.redis.info("commandstats")
        ours = ("info", "ping", "config")
        return sum(
            one["calls"] for name, one in calls.items() if name[8:].partition("|")[0] not in ours
        )

    def _command(self, who: Contestant, *args: object) -> list[str]:
        module = "benchmarks.contestants.run"
        return [python_of(who), "-m", module, who.module, *map(str, args)]


class Worker:
    """A worker that runs, with all its processes: they are one session."""

    def __init__(
        self, arena: Arena, process: subprocess.Popen[bytes], folder: Path, log: Path
    ) -> None:
        self._arena = arena
        self._process = process
        self._folder = folder
        self._log = log

    def tally(self) -> Tally:
        return Tally(self._folder)

    def until(self, jobs: int, *, within_s: float = LONGEST_S) -> Tally:
        """Wait until so many jobs have run.

        Raises:
            GaveUp: they did not, or the worker ended.
        """
        end = time.monotonic() + within_s
        while True:
            now = self.tally()
            if now.jobs >= jobs:
                return now
            ended = self._process.poll() is not None
            if ended or time.monotonic() > end:
                why = "its worker ended" if ended else f"not more in {within_s:.0f} s"
                said = self._log.read_text(errors="replace")[-2_000:]
                raise GaveUp(f"{now.jobs} of {jobs} jobs, {why}\n{said}")
            time.sleep(0.02)

    def read(self) -> Reading:
        """Tell what has been used so far.

        Raises:
            GaveUp: the worker ended.
        """
        if self._process.poll() is not None:
            raise GaveUp(f"its worker ended\n{self._log.read_text(errors='replace')[-2_000:]}")
        arena = self._arena
        cpu_s = sum(_cpu_s(pid) for pid in self._pids())
        return Reading(self.tally().jobs, cpu_s, arena.server_cpu_s(), arena.commands())

    def memory_mb(self) -> tuple[float, float]:
        """Tell how much memory all its processes have: resident, and with what they share counted once."""
        sizes = [_memory_kb(pid) for pid in self._pids()]
        return sum(rss for rss, _ in sizes) / 1024, sum(pss for _, pss in sizes) / 1024

    def end(self) -> None:
        """End it, whatever it is doing: what was to be measured has been."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _pids(self) -> list[int]:
        """Its session's processes."""
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                fields = path.read_text().rpartition(")")[2].split()
                if int(fields[3]) == self._process.pid and fields[0] != "Z":
                    found.append(int(path.parent.name))
        return found


def _cpu_s(pid: int) -> float:
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / _HZ  # with its children that have ended
    return 0.0


def _memory_kb(pid: int) -> tuple[int, int]:
    sizes = {"Rss:": 0, "Pss:": 0}
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name, *rest = line.split()
            if name in sizes:
                sizes[name] = int(rest[0])
    return sizes["Rss:"], sizes["Pss:"]
