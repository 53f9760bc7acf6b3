"""Consumers as probes and systemd see them: as processes, which are killed, stuck, without Redis."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from headrace import Headrace
from headrace.embedded import EmbeddedServer
from headrace.embedded.server import free_port
from tests.support import invariants
from tests.support.journal import lines_of
from tests.support.processes import Process, clean_environment, processes
from tests.support.servers import private_server
from tests.support.wait import WAIT_S, wait_until

APP = "tests.integration.watched:app"
# A supervisor that takes silence for a failure sooner, so that tests need not wait for so long.
IMPATIENT = (
    "import sys; from headrace.supervisor import health; health.SILENT_S = 2.0; "
    "from headrace.cli import main; sys.exit(main())"
)


class Watched:
    """A consumer that answers probes."""

    def __init__(self, process: Process, journal: Path) -> None:
        self.process = process
        self._journal = journal

    def ask(self, path: str) -> tuple[int, Any]:
        """Return status and body of an answer; the status is 0 while nobody listens."""
        port = re.search(r"probes are answered at 127\.0\.0\.1, port (\d+)", self.process.output)
        if port is None:
            return 0, None
        asking = http.client.HTTPConnection("127.0.0.1", int(port[1]), timeout=WAIT_S)
        try:
            asking.request("GET", path)
            answer = asking.getresponse()
            return answer.status, json.loads(answer.read())
        except ConnectionError:
            return 0, None
        finally:
            asking.close()

    def status(self, path: str) -> int:
        return self.ask(path)[0]

    def becomes(self, path: str, status: int) -> Any:
        """Wait for an answer, and return its body."""

        def there() -> Any:
            found, body = self.ask(path)
            assert self.process.alive(), self.process.output
            return body if found == status else None

        return wait_until(there, f"{path} answers {status}")

    def pids(self, event: str) -> list[int]:
        return [int(line[4]) for line in lines_of(self._journal) if line[0] == event]


@contextmanager
def watched(
    url: str,
    folder: Path,
    *flags: str,
    code: str = "",
    grace_s: float = 0.2,
    env: dict[str, str] | None = None,
) -> Iterator[Watched]:
    journal = folder / "journal"
    journal.touch()
    program = ("-c", code) if code else ("-m", "headrace")
    usual = ("-c", "1", "--lease", "600", "--grace-period", str(grace_s))
    with processes(folder) as start:
        process = start(
            *(sys.executable, *program, "consume", APP, *usual, *flags),
            env=clean_environment(
                HEADRACE_URL=url, HEADRACE_TEST_JOURNAL=str(journal), **(env or {})
            ),
        )
        try:
            yield Watched(process, journal)
        finally:
            process.end()


PROBED = ("--health-port", "0")


@pytest.fixture
def app(url: str) -> Iterator[Headrace]:
    app = Headrace(url)
    yield app
    app.close()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """Give a server that may be stopped and killed."""
    with private_server(tmp_path / "redis") as own:
        yield own


class TestProbes:
    def test_a_stuck_event_loop_is_reported_with_its_worker_and_when_it_is_over_no_more(
        self, url: str, app: Headrace, tmp_path: Path
    ) -> None:
        go = tmp_path / "go"
        with watched(url, tmp_path, *PROBED, "-w", "2", code=IMPATIENT) as consumer:
            consumer.becomes("/readyz", 200)
            app.enqueue("wedge", 1, str(go))
            wait_until(lambda: consumer.pids("start"), "it is stuck")

            def stuck() -> Any:
                body = consumer.becomes("/healthz", 503)
                found = [one for one in body["workers"] if "does not turn" in (one["why"] or "")]
                return found if len(found) == 1 else None  # two: this machine is slow

            (one,) = wait_until(stuck, "one of them is reported")
            assert (one["healthy"], one["ready"]) == (False, False)
            assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", one["last_sign"])
            assert consumer.status("/readyz") == 503
            go.touch()
            wait_until(lambda: consumer.pids("end"), "it goes on")
            consumer.becomes("/healthz", 200)
            consumer.becomes("/readyz", 200)
            assert consumer.process.end() == 0, consumer.process.output

    def test_workers_with_nothing_free_for_long_are_healthy(
        self, url: str, app: Headrace, tmp_path: Path
    ) -> None:
        with watched(url, tmp_path, *PROBED, grace_s=600) as consumer:
            consumer.becomes("/readyz", 200)
            app.enqueue("nap", 1, 600)
            wait_until(lambda: consumer.pids("start"), "it is busy")
            before = consumer.becomes("/healthz", 200)["workers"][0]["last_sign"]
            wait_until(
                lambda: consumer.becomes("/healthz", 200)["workers"][0]["last_sign"] > before,
                "it gives signs",
            )
            consumer.becomes("/readyz", 200)
            consumer.process.popen.terminate()
            wait_until(lambda: "stopping: 1 running jobs" in consumer.process.output, "it drains")
            body = consumer.becomes("/readyz", 503)
            assert (body["draining"], body["healthy"]) == (True, True)
            assert consumer.status("/healthz") == 200
            assert consumer.process.end() == 0  # the second signal

    def test_a_killed_worker_is_missed_until_it_is_replaced(
        self, url: str, app: Headrace, tmp_path: Path, redis: Redis
    ) -> None:
        with watched(url, tmp_path, *PROBED, "-w", "2") as consumer:
            names = {one["name"] for one in consumer.becomes("/readyz", 200)["workers"]}
            app.enqueue("nap", 1, 600)
            (pid,) = wait_until(lambda: consumer.pids("start"), "it runs")
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: "died (exit code -9)" in consumer.process.output, "it is dead")
            wait_until(
                lambda: (
                    {one["name"] for one in consumer.becomes("/readyz", 200)["workers"]} - names
                ),
                "another one is ready",
            )
            assert consumer.status("/healthz") == 200
            assert len(consumer.becomes("/readyz", 200)["workers"]) == 2

    def test_a_worker_that_dies_each_time_it_starts_is_not_healthy(
        self, url: str, tmp_path: Path
    ) -> None:
        module = tmp_path / "broken.py"
        module.write_text(
            "import multiprocessing, os\n"
            "from headrace import Headrace\n"
            "app = Headrace()\n"
            "if multiprocessing.parent_process() is not None:\n"
            "    os._exit(7)\n"
        )
        command = (sys.executable, "-c", IMPATIENT, "consume", "broken", *PROBED)
        with processes(tmp_path) as start:
            env = clean_environment(HEADRACE_URL=url, PYTHONPATH=str(tmp_path))
            consumer = Watched(start(*command, env=env), tmp_path / "journal")
            body = consumer.becomes("/healthz", 503)
            assert "does not turn" in body["workers"][0]["why"]
            assert consumer.process.end() == 0

    @pytest.mark.parametrize("how", ["killed", "stopped"])
    def test_without_redis_it_is_alive_but_not_ready_until_redis_is_back(
        self, own: EmbeddedServer, tmp_path: Path, how: str
    ) -> None:
        with watched(own.url, tmp_path, *PROBED) as consumer:
            consumer.becomes("/readyz", 200)
            os.kill(own.pid, signal.SIGKILL if how == "killed" else signal.SIGSTOP)
            away = consumer.becomes("/readyz", 503)
            assert away["healthy"]
            # It goes on giving signs: to start it anew would not bring Redis back.
            wait_until(
                lambda: (
                    consumer.becomes("/healthz", 200)["workers"][0]["last_sign"]
                    > away["workers"][0]["last_sign"]
                ),
                "it gives signs",
            )
            if how == "killed":
                with private_server(tmp_path / "redis", port=own.port):
                    consumer.becomes("/readyz", 200)
                    assert consumer.process.end() == 0, consumer.process.output
                return
            os.kill(own.pid, signal.SIGCONT)
            consumer.becomes("/readyz", 200)

    def test_before_redis_has_been_reached_it_is_not_ready(self, tmp_path: Path) -> None:
        port = free_port()
        with watched(f"redis://127.0.0.1:{port}/0", tmp_path, *PROBED) as consumer:
            consumer.becomes("/healthz", 200)
            assert consumer.status("/readyz") == 503
            with private_server(tmp_path / "redis", port=port):
                consumer.becomes("/readyz", 200)
                assert consumer.process.end() == 0, consumer.process.output

    def test_a_port_that_is_taken_is_said_at_once(self, url: str, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with watched(url, tmp_path, "--health-port", str(port)) as consumer:
                assert consumer.process.popen.wait(WAIT_S) == 2
                assert f"the health port {port} of 127.0.0.1 cannot be had" in (
                    consumer.process.output
                )


class Told:
    """What a service manager has been told; read at once, for few datagrams wait in its socket."""

    def __init__(self, own: socket.socket) -> None:
        self.lines: list[str] = []
        self._own = own
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def _read(self) -> None:
        while datagram := self._own.recv(4096):
            self.lines += datagram.decode().split("\n")

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.sendto(b"", self._own.getsockname())
        self._reading.join()

    def hears(self, *words: str) -> None:
        wait_until(lambda: set(words) <= {*self.lines}, f"systemd hears {words}")


@pytest.fixture(params=["path", "abstract"])
def notified(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Told]]:
    """Give the address of a service manager's socket, and what it was told."""
    name = str(tmp_path / "notify")
    address, bound = (name, name) if request.param == "path" else ("@" + name, "\0" + name)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
        if request.param == "abstract" and sys.platform != "linux":
            pytest.skip("only Linux has abstract sockets")
        own.bind(bound)
        told = Told(own)
        yield address, told
        told.close()


class TestSystemd:
    def test_hears_when_it_is_ready_that_it_lives_and_when_it_ends(
        self, url: str, tmp_path: Path, notified: tuple[str, Told]
    ) -> None:
        address, told = notified
        env = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "200000"}
        with watched(url, tmp_path, env=env) as consumer:
            told.hears("READY=1", "WATCHDOG=1", "STATUS=Consuming queue; workers: 1")
            count = told.lines.count("WATCHDOG=1")
            wait_until(lambda: told.lines.count("WATCHDOG=1") > count + 2, "again and again")
            assert "STOPPING=1" not in told.lines
            assert consumer.process.end() == 0, consumer.process.output
        said = [line for line in told.lines if line in ("READY=1", "STOPPING=1")]
        assert said == ["READY=1", "STOPPING=1"]
        told.hears("STATUS=Ended")
        assert told.lines[-1] == "STATUS=Ended"

    def test_hears_nothing_of_a_stuck_one_until_it_goes_on(
        self, url: str, app: Headrace, tmp_path: Path, notified: tuple[str, Told]
    ) -> None:
        address, told = notified
        go = tmp_path / "go"
        env = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "200000"}
        with watched(url, tmp_path, code=IMPATIENT, env=env) as consumer:
            told.hears("READY=1", "WATCHDOG=1")
            app.enqueue("wedge", 1, str(go))
            wait_until(lambda: consumer.pids("start"), "it is stuck")
            # The last that is heard: no sign of life follows.
            wait_until(lambda: "event loop does not turn" in told.lines[-1], "it is reported")
            at = len(told.lines)
            go.touch()
            wait_until(lambda: "WATCHDOG=1" in told.lines[at:], "it lives")
            assert told.lines.count("READY=1") == 1

    def test_is_not_told_that_it_is_ready_before_redis_is_there(
        self, tmp_path: Path, notified: tuple[str, Told]
    ) -> None:
        address, told = notified
        port = free_port()
        env = {"NOTIFY_SOCKET": address}
        with watched(f"redis://127.0.0.1:{port}/0", tmp_path, env=env) as consumer:
            told.hears("STATUS=Waiting for workers or for Redis: 0 of 1 are ready")
            wait_until(lambda: "Waiting for Redis" in consumer.process.output)
            assert "READY=1" not in told.lines
            with private_server(tmp_path / "redis", port=port):
                told.hears("READY=1")
                assert consumer.process.end() == 0, consumer.process.output


def test_who_is_not_observed_runs_in_one_process(url: str, tmp_path: Path) -> None:
    """Nobody asks, so nobody is there to be asked."""
    with watched(url, tmp_path) as consumer:
        wait_until(lambda: "consumes queue" in consumer.process.output)
        assert not children(consumer.process.pid)
        assert consumer.process.end() == 0


def children(pid: int) -> list[str]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return path.read_text().split()


def test_observing_changes_nothing_of_what_becomes_of_jobs(
    url: str, app: Headrace, tmp_path: Path, redis: Redis
) -> None:
    with watched(url, tmp_path, *PROBED, "-w", "2") as consumer:
        app.enqueue_many(app.call("note", n) for n in range(50))
        wait_until(lambda: len(consumer.pids("end")) == 50)
        assert consumer.process.end() == 0, consumer.process.output
    counters = invariants.check(redis).counters
    assert invariants.ends(counters) == {"enqueued": 50, "done": 50}
