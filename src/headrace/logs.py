"""Logs: one line an event, and on each line the job it is about.

``configure`` makes a handler that writes for people or, as JSON, for machines. Every record that
passes it has ``job_id``, ``queue``, ``task`` and ``attempt``: from ``extra=``, else from the job
that runs, else "-". What a message holds cannot end its line, so that nobody forges another.
"""

from __future__ import annotations

import json as jsonlib
import logging
import re
from datetime import UTC, datetime
from typing import Any, Final, TextIO

from headrace.context import current_job
from headrace.errors import InvalidSetting
from headrace.plain import name_of, plain_copy, traceback_of

LEVELS: Final = ("debug", "info", "warning", "error", "critical")
FIELDS: Final = ("job_id", "queue", "task", "attempt")
NOTHING: Final = "-"

# Control characters, line ends beyond ASCII, and those that turn the direction of writing.
_CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]"
)


def one_line(text: str) -> str:
    r"""Return the text with its control characters escaped (a line end becomes ``\n``)."""
    # ascii() and not a codec: one is a module, which a process without a free descriptor can't import.
    return _CONTROL.sub(lambda match: ascii(match[0])[1:-1], text)


def json_on_terminal(text: str) -> str:
    r"""Return JSON with its control characters escaped as JSON does it (``\u009b``), lines kept."""
    return _CONTROL.sub(
        lambda match: match[0] if match[0] == "\n" else f"\\u{ord(match[0]):04x}", text
    )


def job_fields(job_id: str, queue: str, task: str, attempt: int) -> dict[str, Any]:
    """Return the ``extra=`` of a line about a job that does not run here."""
    return {"job_id": job_id, "queue": queue, "task": task, "attempt": attempt}


class JobFilter(logging.Filter):
    """Gives every record the fields of its job; for handlers of your own, too."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the fields; let every record pass."""
        job = current_job.get()
        for name in FIELDS:
            if not hasattr(record, name):
                setattr(record, name, getattr(job, name, NOTHING))
        return True


class TextFormatter(logging.Formatter):
    """Time, level, logger, message, and the job where there is one; a traceback is indented."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one record, for people."""
        at = _instant(record).astimezone().isoformat(" ", "milliseconds")[:23]
        text = one_line(_message(record))
        line = f"{at} {record.levelname:<7} {record.name}: {text}"
        job_id, queue, task, attempt = (getattr(record, name, NOTHING) for name in FIELDS)
        if job_id != NOTHING:
            line += one_line(f"  queue={queue} task={task} job={job_id} attempt={attempt}")
        for part in _traceback(record).splitlines():
            line += f"\n    {one_line(part)}"
        return line


class JsonFormatter(logging.Formatter):
    """One JSON object a line; a field that has no value is null."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one record, for machines."""
        at = _instant(record).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        entry: dict[str, Any] = {"ts": at, "level": record.levelname.lower(), "logger": record.name}
        entry["message"] = _message(record)
        for name in FIELDS:
            value = getattr(record, name, NOTHING)
            entry[name] = None if value == NOTHING else value
        entry["exception"] = _traceback(record) or None
        return jsonlib.dumps(entry, default=str)


class _Handler(logging.StreamHandler[TextIO]):
    """The handler that ``configure`` makes, told from everybody else's by its class."""


def configure(level: str, *, json: bool = False, stream: TextIO | None = None) -> None:
    """Write the logs of this process, of all its libraries, to a stream.

    Called again, it replaces its own handler; it leaves those of others alone.

    Args:
        level: what is too unimportant is left out: one of ``LEVELS``.
        json: for machines instead of people.
        stream: where to; None the standard error.

    Raises:
        InvalidSetting: there is no such level.
    """
    if level not in LEVELS:
        raise InvalidSetting(f"log level {level!r} must be one of {', '.join(LEVELS)}")
    root = logging.getLogger()
    for handler in [own for own in root.handlers if isinstance(own, _Handler)]:
        root.removeHandler(handler)
    handler = _Handler(stream)
    handler.setFormatter(JsonFormatter() if json else TextFormatter())
    handler.addFilter(JobFilter())
    root.addHandler(handler)
    root.setLevel(level.upper())


def _instant(record: logging.LogRecord) -> datetime:
    return datetime.fromtimestamp(record.created, UTC)


def _traceback(record: logging.LogRecord) -> str:
    parts = [record.stack_info] if record.stack_info else []
    if record.exc_info and record.exc_info[1] is not None:
        try:
            text = logging.Formatter().formatException(record.exc_info)
        except BaseException:  # the exception's own code has failed; it ends nobody who logs it
            text = traceback_of(plain_copy(record.exc_info[1])).rstrip()
        parts.insert(0, text)
    return "\n".join(parts)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except BaseException as error:  # as above, of what the message is made of
        return f"a log message could not be made: {name_of(type(error))} was raised"
