"""The isolated runner by itself: how its processes end, and what it does when there can be none."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path

import pytest

from headrace import Headrace, wire
from headrace.clock import monotonic
from headrace.consumer import outcomes
from headrace.consumer.claimed import ClaimedJob, read
from headrace.consumer.outcomes import (
    IsolatedOutcome,
    IsolationUnavailable,
    OutcomePolicy,
    ProcessDied,
)
from headrace.errors import JobStopped
from headrace.isolation.runner import IsolatedRunner
from headrace.keys import keys_of
from headrace.operations import Outcome
from headrace.wire import Head
from tests.support.wait import WAIT_S, wait_until

app = Headrace("redis://127.0.0.1:1")  # nothing listens there, and nothing has to


@app.task
def end_by(number: int) -> None:
    os.kill(os.getpid(), number)


@app.task
def well() -> None: ...


@app.task
def say(what: str, said: str) -> None:
    """Write bytes into the pipe to the consumer, and hang."""
    for pipe in gc.get_objects():
        if isinstance(pipe, Connection) and not pipe.closed and pipe.writable and pipe.readable:
            os.write(pipe.fileno(), bytes.fromhex(what))
    Path(said).touch()
    threading.Event().wait()


@app.task
def leave_no_judge() -> None:
    """In a process of its own, which ends with this job."""

    def fail(*_: object) -> None:
        raise ValueError("nobody judges")

    outcomes.of_run = fail  # type: ignore[assignment]


if multiprocessing.parent_process() is None:  # so that a new process does not find it

    @app.task
    def only_here() -> None: ...


@pytest.fixture
def isolated() -> Iterator[IsolatedRunner]:
    isolated = IsolatedRunner(OutcomePolicy("c", 60_000))
    yield isolated
    isolated.close()


def claimed(task: str, args: str = "[]") -> ClaimedJob:
    raw = wire.join(Head("a"), f',"task":"{task}","args":{args}}}'.encode())
    return read(raw, keys_of("queue"), 7, tasks=app.tasks, leased_until=0.0, moved=False)


def test_a_run_is_judged_where_it_ran(isolated: IsolatedRunner) -> None:
    answer = isolated.run(claimed("well"))
    assert isinstance(answer, IsolatedOutcome)
    assert (answer.outcome, answer.error) == (Outcome("a", 7, "done"), None)


def test_what_fails_after_a_run_is_no_reason_to_run_it_again(isolated: IsolatedRunner) -> None:
    with pytest.raises(RuntimeError, match="its run was not judged: ValueError: nobody judges"):
        isolated.run(claimed("leave_no_judge"))


@pytest.mark.parametrize(
    ("number", "name"), [(signal.SIGUSR1, "SIGUSR1"), (signal.SIGRTMIN + 5, "signal 39")]
)
def test_a_signal_is_told_by_its_name_or_its_number(
    isolated: IsolatedRunner, number: int, name: str
) -> None:
    with pytest.raises(ProcessDied, match=f"was ended by {name}") as died:
        isolated.run(claimed("end_by", f"[{int(number)}]"))
    assert (died.value.signal, died.value.exit_code) == (name, None)


@pytest.mark.parametrize(
    "what",
    [
        "7fffffff00",  # 2 GiB follow, and one byte of them
        "ffffffff0000000100000000",  # a long word: 4 GiB follow
        "0000",  # half a length
        "0000000378797a",  # three bytes that are no pickle
        "00000004802e4e2e",  # a pickle of nothing
    ],
)
def test_half_a_word_in_its_pipe_hangs_nobody(
    isolated: IsolatedRunner, what: str, tmp_path: Path
) -> None:
    said = tmp_path / "said"
    job = claimed("say", f'["{what}", "{said}"]')
    assert job.context is not None
    with ThreadPoolExecutor(1) as thread:
        run = thread.submit(isolated.run, job)
        wait_until(said.exists)
        job.context.stop_reason = "timeout"  # as the consumer does at its deadline
        with pytest.raises(JobStopped):
            run.result(WAIT_S)
    assert isolated.run(claimed("well")).error is None  # and the next one is heard


def test_a_fork_server_outlives_the_thread_that_started_it(isolated: IsolatedRunner) -> None:
    thread = threading.Thread(target=isolated.run, args=(claimed("well"),))
    thread.start()
    thread.join()
    first = isolated._server
    for _ in range(3):
        assert isolated.run(claimed("well")).error is None
    assert isolated._server is first


def test_a_fork_server_that_was_killed_is_replaced(isolated: IsolatedRunner) -> None:
    isolated.run(claimed("well"))
    first = isolated._server
    assert first is not None
    os.kill(first._process.pid or 0, signal.SIGKILL)
    first._process.join()
    assert isolated.run(claimed("well")).error is None
    assert isolated._server is not first


def test_where_no_process_can_be_started_there_is_none(
    isolated: IsolatedRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: SpawnProcess) -> None:
        raise OSError("no more processes")

    monkeypatch.setattr(SpawnProcess, "start", refused)
    with pytest.raises(IsolationUnavailable, match="no process can be started: no more processes"):
        isolated.run(claimed("well"))


def test_a_job_that_has_not_begun_has_all_of_its_time_left(isolated: IsolatedRunner) -> None:
    job = claimed("only_here")
    job.deadline = monotonic() + 100
    with pytest.raises(IsolationUnavailable, match="AttributeError.*only_here"):
        isolated.run(job)
    assert job.deadline is not None
    assert 90 < job.deadline - monotonic() <= 100


def test_it_may_be_closed_twice_at_once(
    isolated: IsolatedRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    isolated.run(claimed("well"))
    both, join = threading.Barrier(2), SpawnProcess.join

    def joined(self: SpawnProcess, timeout: float | None = None) -> None:
        if timeout is not None:
            with suppress(threading.BrokenBarrierError):
                both.wait(0.5)  # the other one, if it gets so far, which it must not
        join(self, timeout)

    monkeypatch.setattr(SpawnProcess, "join", joined)
    with ThreadPoolExecutor(2) as pool:
        for closed in [pool.submit(isolated.close) for _ in range(2)]:
            closed.result()
