"""Logs: the job on every line, one line an event, and nobody else's handlers touched."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest

from headrace import logs
from headrace.context import Context, current_job
from headrace.errors import InvalidSetting

JOB = Context(
    job_id="06f8", queue="emails", task="send", attempt=2, delivery=1, max_attempts=3
)  # the consumer's own record of the job that runs
log = logging.getLogger("shop.tasks")


@pytest.fixture(autouse=True)
def untouched_root() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def job() -> Iterator[None]:
    token = current_job.set(JOB)
    yield
    current_job.reset(token)


def configured(level: str = "info", *, as_json: bool = False) -> io.StringIO:
    stream = io.StringIO()
    logs.configure(level, json=as_json, stream=stream)
    return stream


def only(stream: io.StringIO) -> str:
    """Give the one line that was written."""
    (line,) = stream.getvalue().splitlines()
    return line


def test_a_line_has_time_level_logger_and_message() -> None:
    stream = configured()
    log.info("sold %d", 3)
    assert only(stream)[4] == only(stream)[7] == "-"
    assert only(stream)[23:] == " INFO    shop.tasks: sold 3"


@pytest.mark.usefixtures("job")
def test_a_line_of_a_running_job_names_it() -> None:
    stream = configured()
    log.warning("slow")
    assert only(stream).endswith("slow  queue=emails task=send job=06f8 attempt=2")


@pytest.mark.usefixtures("job")
def test_extra_comes_before_the_running_job() -> None:
    stream = configured()
    log.warning("lost", extra=logs.job_fields("07aa", "bulk", "count", 1))
    assert only(stream).endswith("lost  queue=bulk task=count job=07aa attempt=1")


def test_every_record_has_the_fields_with_or_without_a_job() -> None:
    record = log.makeRecord("x", logging.INFO, "f", 1, "m", (), None)
    assert logs.JobFilter().filter(record)
    assert {name: getattr(record, name) for name in logs.FIELDS} == dict.fromkeys(logs.FIELDS, "-")


def test_less_than_the_level_is_left_out() -> None:
    stream = configured("warning")
    log.info("chatter")
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    "message",
    ["a\n2026-01-01 00:00:00.000 INFO    shop: paid", "a\rb", "a\x1b[2Jb", "a\u2028b", "a\x85b"],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_a_message_cannot_forge_a_line(message: str, as_json: bool) -> None:
    stream = configured(as_json=as_json)
    log.info("%s", message)
    line = only(stream)
    assert line.isprintable()
    if as_json:
        assert json.loads(line)["message"] == message


def test_a_queue_or_task_cannot_forge_a_line_either() -> None:
    stream = configured()
    log.info("m", extra=logs.job_fields("1", "q", "t\nforged", 1))
    assert only(stream).endswith(r"queue=q task=t\nforged job=1 attempt=1")


def test_a_traceback_is_there_to_read_but_no_line_of_its_own() -> None:
    stream = configured()
    try:
        raise ValueError("no\n2026-01-01 00:00:00.000 INFO    shop: paid")
    except ValueError:
        log.exception("failed")
    first, *rest = stream.getvalue().splitlines()
    assert first.endswith("ERROR   shop.tasks: failed")
    assert "Traceback (most recent call last):" in rest[0]
    assert all(line.startswith("    ") for line in rest)


def test_text_has_no_colour() -> None:
    stream = configured()
    log.error("red")
    assert "\x1b" not in stream.getvalue()


@pytest.mark.usefixtures("job")
def test_json_has_all_fields_with_their_types() -> None:
    stream = configured(as_json=True)
    log.error("failed")
    entry = json.loads(only(stream))
    assert entry.pop("ts").endswith("Z")
    assert entry == {
        "level": "error",
        "logger": "shop.tasks",
        "message": "failed",
        "job_id": "06f8",
        "queue": "emails",
        "task": "send",
        "attempt": 2,
        "exception": None,
    }


def test_json_without_a_job_says_null() -> None:
    stream = configured(as_json=True)
    log.info("idle")
    entry = json.loads(only(stream))
    assert [entry[name] for name in logs.FIELDS] == [None] * 4


def test_json_keeps_the_exception_on_its_line() -> None:
    stream = configured(as_json=True)
    try:
        raise ValueError("no such user")
    except ValueError:
        log.exception("failed")
    assert json.loads(only(stream))["exception"].endswith("ValueError: no such user")


def test_configured_again_it_replaces_its_own_handler_and_leaves_others() -> None:
    root = logging.getLogger()
    other = logging.NullHandler()
    root.addHandler(other)
    before = len(root.handlers)
    first, second = configured(), configured()
    log.info("once")
    assert other in root.handlers
    assert len(root.handlers) == before + 1
    assert first.getvalue() == ""
    assert only(second).endswith("once")


def test_a_level_that_is_none_is_refused_by_name() -> None:
    with pytest.raises(InvalidSetting, match=r"'loud' must be one of debug, info"):
        logs.configure("loud")


def test_what_turns_the_direction_of_writing_is_escaped() -> None:
    turning = "\u061c\u200e\u200f\u202e\u2066"
    assert logs.one_line(f"a{turning}b\x9b\n") == r"a\u061c\u200e\u200f\u202e\u2066b\x9b\n"


def test_a_line_is_escaped_though_no_descriptor_is_left_to_import_with() -> None:
    """A process that ran out of descriptors must be able to say so: in a fresh one, as it starts."""
    program = """
import logging, os, resource
from headrace import logs
logs.configure("info")
resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))
try:
    while True:
        os.open(os.devnull, os.O_RDONLY)
except OSError as error:
    logging.getLogger("a").error("none left\\x9b", exc_info=error)
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "none left\\x9b" in ended.stderr
    assert "Too many open files" in ended.stderr
    assert "Logging error" not in ended.stderr
