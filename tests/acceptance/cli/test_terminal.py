"""The command line on a terminal: what is drawn there, and nowhere else."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from redis import Redis

from tests.support.processes import ROOT, clean_environment
from tests.support.wait import wait_until

COLOUR = "\x1b["
_STYLES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


@dataclass
class Terminal:
    """A program with a terminal of its own, 100 characters wide."""

    url: str
    env: dict[str, str] = field(default_factory=dict)
    shown: str = ""

    def start(self, *args: str) -> None:
        ours, theirs = pty.openpty()
        os.set_blocking(ours, False)
        self._fd = ours
        kept = {name: value for name, value in clean_environment().items() if name != "NO_COLOR"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "headrace", *args],
            env=kept
            | {"PYTHONPATH": str(ROOT / "src"), "HEADRACE_URL": self.url}
            | {"COLUMNS": "100", "LINES": "40", "TERM": "xterm-256color"}
            | self.env,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that Ctrl-C is a signal
        )
        os.close(theirs)

    def read(self) -> str:
        """Give all that it has drawn so far."""
        with contextlib.suppress(OSError):  # nothing now, or it has ended
            while chunk := os.read(self._fd, 65_536):
                self.shown += chunk.decode(errors="replace")
        return self.shown

    @property
    def text(self) -> str:
        return _STYLES.sub("", self.read()).replace("\r", "")

    def until(self, text: str) -> None:
        wait_until(lambda: text in self.text, f"{text!r} in {self.shown!r}")

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def end(self) -> int:
        """Wait for its end, and give the exit code."""
        wait_until(lambda: self.read() is None or self._process.poll() is not None, "its end")
        self.read()
        os.close(self._fd)
        return self._process.wait()

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
            os.close(self._fd)


OnTerminal = Callable[..., Terminal]


@pytest.fixture
def on_terminal(url: str) -> Iterator[OnTerminal]:
    """Run commands, each on a terminal of its own."""
    started: list[Terminal] = []

    def on_terminal(*args: str, **env: str) -> Terminal:
        started.append(Terminal(url, env))
        started[-1].start(*args)
        return started[-1]

    yield on_terminal
    for terminal in started:
        terminal.kill()


def test_progress_is_drawn_and_many_ids_are_summed_up(
    on_terminal: OnTerminal, redis: Redis
) -> None:
    terminal = on_terminal("produce", "echo", "-n", "30000")
    assert terminal.end() == 0
    assert "━" in terminal.shown
    assert "30,000 jobs enqueued" in terminal.text
    assert redis.llen("queue") == 30_000


def test_one_id_is_printed_alone(on_terminal: OnTerminal, redis: Redis) -> None:
    terminal = on_terminal("produce", "echo")
    assert terminal.end() == 0
    assert re.fullmatch(r"[0-9a-v]{26}\r\n", terminal.shown)


def test_info_is_a_table_with_colours_and_commas(on_terminal: OnTerminal, redis: Redis) -> None:
    redis.lpush("queue", *[b'{"task":"echo"}'] * 1_500)
    terminal = on_terminal("info")
    assert terminal.end() == 0
    assert COLOUR in terminal.shown
    assert re.search(r"^queue +1,500 +0 +0 +0 +0", terminal.text, re.MULTILINE)


def test_no_color_is_heeded(on_terminal: OnTerminal, redis: Redis) -> None:
    terminal = on_terminal("info", NO_COLOR="1")
    assert terminal.end() == 0
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", terminal.shown)


def test_info_watches_in_place_until_ctrl_c(on_terminal: OnTerminal, redis: Redis) -> None:
    terminal = on_terminal("info", "--watch", "--interval", "0.1")
    terminal.until("Done/s")
    redis.lpush("queue", *[b'{"task":"echo"}'] * 7)
    wait_until(lambda: re.search(r"^queue +7 ", terminal.text, re.MULTILINE), "the change")
    terminal.type("\x03")
    assert terminal.end() == 130
    assert "Traceback" not in terminal.shown


def test_top_shows_queues_and_consumers_until_ctrl_c(on_terminal: OnTerminal, redis: Redis) -> None:
    redis.lpush("queue", *[b'{"task":"echo"}'] * 7)
    redis.client_setname("headrace:shop-12-abcdef")
    terminal = on_terminal("top", "--interval", "0.1")
    wait_until(lambda: re.search(r"^queue +7 ", terminal.text, re.MULTILINE), "the queue")
    wait_until(lambda: "shop-12-abcdef" in terminal.text, "the consumer")
    terminal.type("\x03")
    assert terminal.end() == 130
    assert "Traceback" not in terminal.shown


def test_an_empty_dead_letter_list_says_so(on_terminal: OnTerminal, redis: Redis) -> None:
    terminal = on_terminal("dlq", "list")
    assert terminal.end() == 0
    assert terminal.text == "No dead letters.\n"


def test_a_dead_letter_cannot_draw_on_the_terminal(on_terminal: OnTerminal, redis: Redis) -> None:
    redis.lpush("queue:dlq", rb'{"id":"x[red]","task":"\u001b[2J","args":["\u001b]0;t\u0007"]}')
    terminal = on_terminal("dlq", "list")
    assert terminal.end() == 0
    assert "x[red]" in terminal.text  # nor is it taken for markup
    assert r"\x1b[2J" in terminal.text
    terminal = on_terminal("dlq", "show", "x[red]")
    assert terminal.end() == 0
    assert "\x1b[2J" not in terminal.shown
    assert "\x1b]0;" not in terminal.shown


def test_purge_asks_and_a_no_deletes_nothing(on_terminal: OnTerminal, redis: Redis) -> None:
    redis.lpush("queue:dlq", b"one", b"two")
    terminal = on_terminal("dlq", "purge", "--all")
    terminal.until("Delete dead letters for good: 2 in queue? [y/N]")
    terminal.type("n\n")
    assert terminal.end() == 1
    assert redis.llen("queue:dlq") == 2


def test_purge_deletes_what_it_asked_about_and_no_more(
    on_terminal: OnTerminal, redis: Redis
) -> None:
    redis.lpush("queue:dlq", b"one", b"two")
    terminal = on_terminal("dlq", "purge", "--all")
    terminal.until("? [y/N]")
    redis.lpush("queue:dlq", b"three")
    terminal.type("y\n")
    assert terminal.end() == 0
    assert "2 dead letters purged" in terminal.text
    assert redis.lrange("queue:dlq", 0, -1) == [b"three"]


def test_json_on_a_terminal_holds_no_command_to_it_and_says_the_same(
    on_terminal: OnTerminal, redis: Redis
) -> None:
    message = "\x9b31m\u202egnp.exe\u2066\x7f"
    letter = {"id": "x", "task": "a", "error": {"reason": "rejected", "message": message}}
    redis.lpush("queue:dlq", json.dumps(letter, ensure_ascii=False))
    terminal = on_terminal("dlq", "list", "--json")
    assert terminal.end() == 0
    assert not set(message) & set("\x9b\u202e\u2066\x7f") & set(terminal.shown)
    (shown,) = json.loads(terminal.shown)
    assert message in shown.values()
