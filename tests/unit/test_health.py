"""Whether workers are healthy and ready, what probes are answered, and what systemd hears of it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from headrace.consumer.listener import BLOCK_S
from headrace.errors import StoreUnavailable
from headrace.policy import Outage, ReconnectBackoff
from headrace.store.exchange import TIMEOUT_S
from headrace.supervisor import heartbeat as heartbeat_module
from headrace.supervisor import systemd
from headrace.supervisor.health import SILENT_S, Health, Signs, WorkerHealth, judged
from headrace.supervisor.heartbeat import Heartbeat, beat
from headrace.supervisor.probes import answer
from tests.support.wait import await_until

NOW = 1000.0
WELL = WorkerHealth("web1-a", "", 0.2, ready=True)
WAITS = WorkerHealth("web1-b", "", 0.3, ready=False)
STUCK = WorkerHealth("web1-c", "its event loop does not turn", 90.0, ready=False)


def health(*workers: WorkerHealth, wanted: int = 2, stopping: bool = False) -> Health:
    return Health(workers, wanted, stopping, "mail, queue")


class TestAWorker:
    def test_is_silent_for_longer_than_a_healthy_one_may_be_between_two_answers(self) -> None:
        assert SILENT_S > BLOCK_S + 2 * TIMEOUT_S

    def test_that_has_given_a_sign_lately_is_healthy(self) -> None:
        found = judged("a", Signs(NOW - 1, NOW - SILENT_S, ready=True), NOW)
        assert (found.why, found.ready, found.silent_s) == ("", True, SILENT_S)

    def test_whose_loop_does_not_turn_is_not_and_is_not_ready_either(self) -> None:
        found = judged("a", Signs(NOW - SILENT_S - 1, NOW - 50, ready=True), NOW)
        assert (found.why, found.ready) == ("its event loop does not turn", False)
        assert found.silent_s == SILENT_S + 1

    def test_that_does_not_fetch_is_not_though_its_loop_turns(self) -> None:
        found = judged("a", Signs(NOW, NOW - SILENT_S - 1, ready=True), NOW)
        assert found.why == "it does not ask for work"


class TestAProgram:
    def test_is_as_healthy_as_the_worst_of_its_workers(self) -> None:
        assert health(WELL, WAITS).healthy
        assert not health(WELL, STUCK).healthy

    def test_is_ready_when_as_many_as_are_wanted_are(self) -> None:
        assert health(WELL, WELL, WAITS).ready  # one is about to replace another
        assert not health(WELL, WAITS).ready

    def test_that_ends_is_healthy_and_not_ready(self) -> None:
        draining = health(WELL, WELL, stopping=True)
        assert draining.healthy
        assert not draining.ready

    @pytest.mark.parametrize(
        ("state", "line"),
        [
            (health(WELL, WELL), "Consuming mail, queue; workers: 2"),
            (health(WELL, WAITS), "Waiting for workers or for Redis: 1 of 2 are ready"),
            (health(WELL, stopping=True), "Draining: 1 of 2 workers still run"),
            (health(WELL, STUCK), "web1-c: its event loop does not turn"),
        ],
    )
    def test_says_what_it_does_in_a_line(self, state: Health, line: str) -> None:
        assert state.line == line


def asked(request: str, state: Health) -> tuple[int, dict[str, str], Any]:
    """Return status, headers and body of the answer to a request line."""
    head, _, body = answer(f"{request}\r\nHost: x\r\n\r\n".encode(), state).partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ") for line in lines)
    return int(first.split()[1]), headers, json.loads(body) if body else None


class TestAnAnswer:
    def test_is_200_for_the_healthy_and_the_ready(self) -> None:
        assert asked("GET /healthz HTTP/1.1", health(WELL, WAITS))[0] == 200
        assert asked("GET /readyz?verbose HTTP/1.0", health(WELL, WELL))[0] == 200

    def test_is_503_with_who_is_not_why_and_since_when(self) -> None:
        status, headers, body = asked("GET /healthz HTTP/1.1", health(WELL, STUCK))
        assert (status, headers["Content-Type"]) == (503, "application/json")
        assert (body["healthy"], body["ready"], body["draining"]) == (False, False, False)
        well, stuck = body["workers"]
        assert (well["healthy"], well["why"]) == (True, None)
        assert stuck["name"] == "web1-c"
        assert stuck["why"] == "its event loop does not turn"
        assert stuck["last_sign"] < well["last_sign"]
        assert asked("GET /readyz HTTP/1.1", health(WELL, WAITS))[0] == 503

    def test_to_head_is_the_same_without_a_body(self) -> None:
        got = asked("GET /readyz HTTP/1.1", health(WELL))
        head = asked("HEAD /readyz HTTP/1.1", health(WELL))
        assert (head[0], head[2]) == (got[0], None)
        assert int(head[1]["Content-Length"]) > 0

    @pytest.mark.parametrize("path", ["/", "/healthz/", "/metrics", "*", "", "http://x/healthz"])
    def test_to_another_path_is_404(self, path: str) -> None:
        assert asked(f"GET {path} HTTP/1.1", health(WELL))[0] == 404

    def test_to_another_method_is_405(self) -> None:
        status, headers, _ = asked("POST /healthz HTTP/1.1", health(WELL))
        assert (status, headers["Allow"]) == (405, "GET, HEAD")

    @pytest.mark.parametrize("request_line", ["", " ", "\xff\x00", "GET", "GET  /healthz"])
    def test_to_what_is_no_http_is_an_answer_all_the_same(self, request_line: str) -> None:
        assert answer(request_line.encode("latin-1") + b"\r\n\r\n", health(WELL))


class _Consumer:
    """What a heartbeat looks at."""

    ready = True
    stopping = False
    fetching = True


class TestAHeartbeat:
    @pytest.fixture
    def outage(self, monkeypatch: pytest.MonkeyPatch) -> Outage:
        outage = Outage()
        monkeypatch.setattr(heartbeat_module, "OUTAGE", outage)
        monkeypatch.setattr(heartbeat_module, "_BEAT_S", 0)
        return outage

    async def after_a_beat(self, consumer: Any = _Consumer) -> Signs:
        import multiprocessing

        given = Heartbeat(multiprocessing.get_context("spawn"), Signs(1, 1))
        beating = asyncio.create_task(beat(consumer, given))
        await await_until(lambda: given.signs.turned > 1, "it beats")
        beating.cancel()
        return given.signs

    async def test_tells_that_redis_has_answered_since_the_last(self, outage: Outage) -> None:
        ReconnectBackoff("the consumer", outage, fetches=True).over()
        signs = await self.after_a_beat()
        assert signs.fetched > 1
        assert signs.ready
        assert (await self.after_a_beat()).fetched == 1

    async def test_takes_the_answers_to_other_parts_for_none(self, outage: Outage) -> None:
        ReconnectBackoff("extending leases", outage).over()
        signs = await self.after_a_beat()
        assert signs.ready
        assert signs.fetched == 1

    async def test_excuses_who_has_no_slot_free(self, outage: Outage) -> None:
        class Busy(_Consumer):
            fetching = False

        ReconnectBackoff("extending leases", outage).over()
        assert (await self.after_a_beat(Busy)).fetched > 1

    async def test_excuses_who_waits_for_redis_but_is_not_ready(self, outage: Outage) -> None:
        part = ReconnectBackoff("the consumer", outage, fetches=True)
        assert not (await self.after_a_beat()).ready  # not reached yet
        part.over()
        part.note(StoreUnavailable("no Redis"))
        outage.fetched = False
        signs = await self.after_a_beat()
        assert signs.fetched > 1
        assert not signs.ready

    async def test_tells_that_a_consumer_which_ends_is_not_ready(self, outage: Outage) -> None:
        class Ending(_Consumer):
            stopping = True

        ReconnectBackoff("the consumer", outage, fetches=True).over()
        assert not (await self.after_a_beat(Ending)).ready


class TestSystemd:
    @pytest.fixture
    def told(self, tmp_path: Path) -> Any:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
            own.bind(str(tmp_path / "notify"))
            own.setblocking(False)

            def told() -> list[list[str]]:
                datagrams = []
                try:
                    while True:
                        datagrams.append(own.recv(4096).decode().split("\n"))
                except BlockingIOError:
                    return datagrams

            yield told

    def test_hears_once_that_it_is_ready_and_that_it_ends(self, told: Any, tmp_path: Path) -> None:
        teller = systemd._Teller(systemd.ServiceManager(str(tmp_path / "notify")))
        for state in (health(WAITS, WAITS), health(WELL, WELL), health(WELL, WELL)):
            teller.tell(state)
        assert told() == [
            ["STATUS=Waiting for workers or for Redis: 0 of 2 are ready"],
            ["READY=1", "STATUS=Consuming mail, queue; workers: 2"],
        ]
        for _ in range(2):
            teller.tell(health(WELL, stopping=True))
        assert told() == [["STOPPING=1", "STATUS=Draining: 1 of 2 workers still run"]]
        teller.ended()
        assert told() == [["STATUS=Ended"]]

    def test_hears_that_it_ends_from_one_that_had_nothing_to_drain(
        self, told: Any, tmp_path: Path
    ) -> None:
        systemd._Teller(systemd.ServiceManager(str(tmp_path / "notify"))).ended()
        assert told() == [["STOPPING=1", "STATUS=Ended"]]

    def test_hears_no_sign_of_life_of_who_is_not_healthy(self, told: Any, tmp_path: Path) -> None:
        teller = systemd._Teller(systemd.ServiceManager(str(tmp_path / "notify"), 1e-9))
        teller.tell(health(WELL, WELL))
        teller.tell(health(WELL, WELL))
        assert [lines.count("WATCHDOG=1") for lines in told()] == [1, 1]
        teller.tell(health(STUCK, WELL))
        assert told() == [["STATUS=web1-c: its event loop does not turn"]]

    def test_that_is_gone_or_does_not_read_is_no_trouble(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(systemd, "_SEND_S", 0.01)
        with caplog.at_level(logging.DEBUG, "headrace"):
            systemd.ServiceManager(str(tmp_path / "nobody")).tell("READY=1")
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
                own.bind(str(tmp_path / "deaf"))
                deaf = systemd.ServiceManager(str(tmp_path / "deaf"))
                while "timed out" not in caplog.text:
                    deaf.tell("STATUS=x")
        assert "is not told ('READY=1',)" in caplog.text

    def test_is_the_one_that_the_environment_names(self, monkeypatch: pytest.MonkeyPatch) -> None:
        names = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")

        def manager(*values: str) -> systemd.ServiceManager | None:
            for name, value in zip(names, values, strict=False):
                monkeypatch.setenv(name, value)
            for name in names[len(values) :]:
                monkeypatch.delenv(name, raising=False)
            return systemd.service_manager()

        assert manager() is None
        assert manager("") is None
        assert manager("vsock:2:1234") is None  # of virtual machines, to their host
        assert manager("/run/n") == systemd.ServiceManager("/run/n")
        assert manager("@n", "3000000") == systemd.ServiceManager("@n", 3.0)
        assert manager("@n", "3000000", str(os.getpid())) == systemd.ServiceManager("@n", 3.0)
        assert manager("@n", "3000000", "1") == systemd.ServiceManager("@n")  # another process
        assert manager("@n", "soon") == systemd.ServiceManager("@n")

    @pytest.mark.parametrize(("watchdog_s", "every_s"), [(0, 0.5), (60, 0.5), (1, 0.25)])
    def test_is_told_often_enough(self, watchdog_s: float, every_s: float) -> None:
        assert systemd.ServiceManager("@n", watchdog_s).every_s == every_s


def test_what_the_documents_say_of_the_bound_is_true() -> None:
    docs = Path(__file__).resolve().parents[2] / "docs"
    pages = (docs / "operators.md", *sorted((docs / "decisions").glob("*-probes-ask-*.md")))
    assert len(pages) == 2
    for page in pages:
        assert f"{SILENT_S:g} seconds" in page.read_text(), page
