"""The bench: runs tests against each mutant of a script, on a real server of the mutant's own.

The tests are collected once. For each mutant a child is forked that has its scripts already; it ends
at the first test that fails. That test is then run again alone, in another child, and in a third without
the mutant, unless it has passed so within the last minute: only a mutant that fails it twice is killed,
if it passes without one; for on a busy machine a test may fail by itself.
"""

from __future__ import annotations

import os
import select
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha1
from pathlib import Path
from time import monotonic

import pytest

from headrace import scripts
from headrace.operations import request
from headrace.scripts import Script
from tests.mutants.lua import Mutant

SCRIPTS = Path(scripts.__file__).parent
_END_S = 600.0  # a server that hangs is noticed by its client long before, even on a busy machine
_SAID_NOTHING = "it did not end"
_SOUND_S = 60.0  # a test of the state machine takes 10 s without a mutant, and a kill 1


@dataclass
class Bench:
    """A pytest plugin that runs the collected tests once for each mutant.

    Attributes:
        mutants: what is to be judged.
        jobs: how many at a time.
        heard: is told each verdict: the mutant, and the test that killed it or "".
        failing: tests that fail without any mutant; they judge nobody.
    """

    mutants: Sequence[Mutant]
    jobs: int
    heard: Callable[[Mutant, str], None]
    failing: list[str] = field(default_factory=list)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = list(session.items)
        while left := _failed_twice(session, items, None, {}):
            self.failing.append(left)
            items = [item for item in items if item.nodeid != left]
        for number, killer in self._shared(session, items):
            self.heard(self.mutants[number], killer)
        return True

    def _shared(
        self, session: pytest.Session, items: list[pytest.Item]
    ) -> Iterator[tuple[int, str]]:
        """Judge in ``jobs`` processes, each of which takes every n-th mutant."""
        reads, writes = os.pipe()
        children = []
        for share in range(self.jobs):
            if (pid := os.fork()) == 0:
                kills: Counter[str] = Counter()
                sound: dict[str, float] = {}
                for number in range(share, len(self.mutants), self.jobs):
                    best = [name for name, _ in kills.most_common(3)]  # neighbours die alike
                    ordered = sorted(items, key=lambda item: item.nodeid not in best)
                    killer = _failed_twice(session, ordered, self.mutants[number], sound)
                    kills[killer] += 1
                    os.write(writes, f"{number} {killer}\n".encode())
                os._exit(0)
            children.append(pid)
        os.close(writes)
        with os.fdopen(reads) as pipe:
            for line in pipe:
                judged, _, killer = line.rstrip("\n").partition(" ")
                yield int(judged), killer
        for pid in children:
            os.waitpid(pid, 0)


def _failed_twice(
    session: pytest.Session,
    items: list[pytest.Item],
    mutant: Mutant | None,
    sound: dict[str, float],
) -> str:
    """Give the first test that fails, and fails again alone, and not by itself; "" when all pass.

    Args:
        session: of the tests.
        items: the tests.
        mutant: what they run against; None: the scripts as they are.
        sound: until when a test counts as one that passes without a mutant (monotonic).
    """
    while failed := _first_failure(session, items, mutant):
        if failed == _SAID_NOTHING:
            return failed
        at = [item.nodeid for item in items].index(failed)
        alone = [items[at]]
        if _first_failure(session, alone, mutant):
            if mutant is None or sound.get(failed, 0.0) > monotonic():
                return failed
            if not _first_failure(session, alone, None):
                sound[failed] = monotonic() + _SOUND_S
                return failed
        items = items[at + 1 :]
    return ""


def _first_failure(session: pytest.Session, items: list[pytest.Item], mutant: Mutant | None) -> str:
    """Run tests in a child of their own, until one fails."""
    reads, writes = os.pipe()
    if (pid := os.fork()) == 0:
        os.setsid()
        os.close(reads)
        _run(session, items, mutant, writes)
    os.close(writes)
    ended = bool(select.select([reads], [], [], _END_S)[0])
    with suppress(ProcessLookupError):  # its server ends with it
        os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    with os.fdopen(reads) as pipe:
        words = pipe.read()
    assert not ended or words, "a child of the bench died"
    return words.removeprefix("passed") if ended else _SAID_NOTHING


def _run(
    session: pytest.Session, items: list[pytest.Item], mutant: Mutant | None, pipe: int
) -> None:
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    if mutant is not None:
        use(mutant)
    session.config.pluginmanager.register(_Witness(pipe))
    for item, following in zip(items, [*items[1:], None], strict=True):
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
    os.write(pipe, b"passed")
    os._exit(0)


class _Witness:
    """A pytest plugin of a child: tells which test failed, and ends there."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            os.write(self._pipe, report.nodeid.encode())
            os._exit(1)  # without the teardown: it may wait for a server that hangs


def use(mutant: Mutant) -> None:
    """Let every script of this process be made with the mutant."""
    request.script = with_mutant(mutant)  # type: ignore[attr-defined,assignment]


def with_mutant(mutant: Mutant) -> Callable[[str], Script]:
    """Return what loads scripts, with the mutant in the place of what it is a mutant of."""
    right = _text(mutant.script)

    def load(name: str) -> Script:
        source = scripts.script(name).source
        if name == mutant.script:
            source = scripts.with_includes(mutant.source)
        elif mutant.script.startswith("lib/"):
            source = source.replace(right, mutant.source)
        return Script(name, source, sha1(source.encode(), usedforsecurity=False).hexdigest())

    return load


def _text(script: str) -> str:
    return (SCRIPTS / f"{script}.lua").read_text("utf-8")
