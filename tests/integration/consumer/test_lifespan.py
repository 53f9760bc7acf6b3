"""The lifespan of an application, in consumers that are processes."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace import Headrace
from tests.support.journal import lines_of
from tests.support.processes import Process, clean_environment, processes
from tests.support.wait import wait_until


class Scene:
    """Consumers of the applications in ``lasting.py``, and the journal of these."""

    def __init__(self, url: str, folder: Path) -> None:
        self.app = Headrace(url)
        self._journal = folder / "journal"
        self._journal.touch()
        self._env = clean_environment(HEADRACE_URL=url, HEADRACE_TEST_JOURNAL=str(self._journal))
        self._processes = processes(folder)
        self._start = self._processes.__enter__()

    def close(self) -> None:
        self._processes.__exit__(None, None, None)
        self.app.close()

    def consume(self, app: str, *flags: str) -> Process:
        where = f"tests.integration.consumer.lasting:{app}"
        return self._start(
            sys.executable, "-m", "headrace", "consume", where, *flags, env=self._env
        )

    def noted(self, word: str) -> list[list[str]]:
        """Return what was written down after a word."""
        return [rest for first, *rest in lines_of(self._journal) if first == word]

    @property
    def words(self) -> list[str]:
        return [words[0] for words in lines_of(self._journal)]


@pytest.fixture
def scene(url: str, tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(url, tmp_path)
    yield scene
    scene.close()


@pytest.mark.parametrize("app", ["asynchronous", "synchronous"])
@pytest.mark.parametrize("task", ["use", "use_in_a_thread"])
def test_it_is_opened_once_before_the_first_job_and_closed_after_the_last(
    scene: Scene, app: str, task: str
) -> None:
    for number in range(5):
        scene.app.enqueue(task, number)
    consumer = scene.consume(app, "--burst")
    assert consumer.popen.wait() == 0, consumer.output
    assert scene.words == ["opened", *["used"] * 5, "closed"]
    pool = f"pool-{consumer.pid}"
    assert sorted(scene.noted("used")) == [[str(n), pool, "True"] for n in range(5)]


@pytest.mark.parametrize("task", ["die_twice", "die_twice_in_a_thread"])
def test_a_suspect_has_it_in_its_own_process(scene: Scene, task: str) -> None:
    scene.app.enqueue(task)
    consumer = scene.consume("asynchronous", "-w", "2")
    wait_until(lambda: "used" in scene.words, "it ran alone")
    ((_, pool, pid),) = scene.noted("used")
    assert pool == f"pool-{pid}"
    wait_until(lambda: [pid] in scene.noted("closed"), "it was closed there")
    assert consumer.end() == 0, consumer.output


def test_each_process_of_a_supervisor_has_its_own(scene: Scene) -> None:
    consumer = scene.consume("asynchronous", "-w", "2")
    wait_until(lambda: len(scene.noted("opened")) == 2)
    pids = scene.noted("opened")
    assert len({*map(tuple, pids), (str(consumer.pid),)}) == 3
    assert consumer.end() == 0, consumer.output
    assert sorted(scene.noted("closed")) == sorted(pids)


def test_one_that_fails_says_why_and_claims_nothing(scene: Scene) -> None:
    job = scene.app.enqueue("plain")
    consumer = scene.consume("failing", "--burst")
    assert consumer.popen.wait() == 1
    assert (
        "the application's lifespan failed: ConnectionRefusedError: no database at db:5432"
        in consumer.output
    )
    assert job.status() == "pending"


def test_what_is_no_lifespan_is_told_what_it_is(scene: Scene) -> None:
    consumer = scene.consume("mistaken", "--burst")
    assert consumer.popen.wait() != 0
    assert "gave a coroutine: put @contextlib.asynccontextmanager above it" in consumer.output
    assert "never awaited" not in consumer.output


def test_what_yields_no_mapping_is_told_so_and_closed(scene: Scene) -> None:
    consumer = scene.consume("nameless", "--burst")
    assert consumer.popen.wait() == 1
    assert "it has to yield a mapping, and not str" in consumer.output
    assert scene.words == ["closed"]


def test_a_signal_ends_one_that_does_not_open(scene: Scene) -> None:
    consumer = scene.consume("hanging")
    wait_until(lambda: "opening" in scene.words)
    assert consumer.end() == 0, consumer.output
    assert "given-up" in scene.words


def test_a_second_signal_ends_one_that_does_not_close(scene: Scene) -> None:
    scene.app.enqueue("plain")
    consumer = scene.consume("stuck")
    wait_until(lambda: "ran" in scene.words)
    os.kill(consumer.pid, signal.SIGTERM)
    wait_until(lambda: "closing" in scene.words)
    assert consumer.end() == 0, consumer.output


def test_one_that_fails_to_close_is_told_of_and_no_job_with_it(scene: Scene) -> None:
    job = scene.app.enqueue("plain")
    consumer = scene.consume("unclosable", "--burst")
    assert consumer.popen.wait() == 0
    assert "the application's lifespan failed to close" in consumer.output
    assert "OSError: the disk is full" in consumer.output
    assert job.status() == "done"


def test_without_one_the_state_is_empty(scene: Scene) -> None:
    scene.app.enqueue("use", 1)
    consumer = scene.consume("without")
    wait_until(lambda: "has no attribute 'pool'" in consumer.output, "the attempt fails")
    assert consumer.end() == 0
