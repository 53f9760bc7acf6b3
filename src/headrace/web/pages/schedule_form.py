"""The form of a new schedule: what is typed, read; what is wrong with it, said beside its field. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from headrace.errors import InvalidSetting
from headrace.keys import keys_of
from headrace.schedules import timing_of
from headrace.schedules.definition import checked_name
from headrace.web.api.asked import UNREADABLE
from headrace.web.api.schedules import NewSchedule

_NOON: Final = "0 12 * * *"  # an expression that is one, for whoever asks about a time zone alone


class Field(NamedTuple):
    """A field of the form.

    Attributes:
        name: what it is called when it is sent.
        title: what people call it.
        hint: what may stand there.
        usual: what stands there at first.
        is_needed: it cannot be left empty.
        is_long: it has lines.
    """

    name: str
    title: str
    hint: str
    usual: str = ""
    is_needed: bool = False
    is_long: bool = False


FIELDS: Final = (
    Field("name", "Name", "of the schedule: no white space", is_needed=True),
    Field("task", "Task", "that runs its jobs", is_needed=True),
    Field("queue", "Queue", "empty: the task's own"),
    Field("cron", "Cron", "30 2 * * MON-FRI, or @daily"),
    Field("every", "Or every", "so many seconds"),
    Field("timezone", "Time zone", "of the cron expression, as Europe/Berlin", "UTC"),
    Field("args", "args", "a JSON array", "[]", is_long=True),
    Field("kwargs", "kwargs", "a JSON object", "{}", is_long=True),
)
"""In the order in which they are asked for."""


def typed(form: Mapping[str, list[str]]) -> dict[str, str]:
    """Return what stands in each field: as it was typed, but for white space around it."""
    return {one.name: form.get(one.name, [one.usual])[0].strip() for one in FIELDS}


def read(values: Mapping[str, str]) -> tuple[NewSchedule | None, dict[str, str]]:
    """Read what was typed.

    Return the schedule, and what is wrong, by field; if anything is, there is no schedule.
    """
    wrong: dict[str, str] = {}
    given: dict[str, Any] = {
        name: values[name] for name in ("task", "queue", "cron") if values[name]
    }
    _try(wrong, "name", lambda: checked_name(values["name"]))
    if not values["task"]:
        wrong["task"] = "name the task that runs the jobs"
    if values["queue"]:
        _try(wrong, "queue", lambda: keys_of(values["queue"]))
    _read_timing(values, given, wrong)
    for name, usual, kind in (("args", "[]", list[Any]), ("kwargs", "{}", dict[str, Any])):
        try:
            given[name] = msgspec.json.decode(values[name] or usual, type=kind)
        except UNREADABLE as error:
            wrong[name] = (
                f"this must be {'a JSON array' if kind == list[Any] else 'a JSON object'}: {error}"
            )
    if wrong:
        return None, wrong
    try:
        return msgspec.convert(given, NewSchedule), {}
    except msgspec.ValidationError as error:
        says, _, path = str(error).partition(" - at `$.")
        says = re.sub(r"^Expected `str` of length <= (\d+)$", r"\1 characters at most", says)
        field = re.match(r"\w*", path)
        return None, {(field[0] if field else "") or "name": says}


def _read_timing(values: Mapping[str, str], given: dict[str, Any], wrong: dict[str, str]) -> None:
    """Read when the ticks are: by a cron expression, or every so many seconds."""
    cron, every, zone = values["cron"], values["every"], values["timezone"] or "UTC"
    given["timezone"] = zone
    if bool(cron) == bool(every):
        both = "give a cron expression or a number of seconds, not both"
        wrong["every" if cron else "cron"] = both if cron else both.replace(", not both", "")
    elif cron:
        _try(wrong, "timezone", lambda: timing_of(_NOON, None, zone))
        if "timezone" not in wrong:
            _try(wrong, "cron", lambda: timing_of(cron, None, zone))
    else:
        try:
            given["every"] = float(every)
        except ValueError:
            wrong["every"] = f"{every!r} is no number of seconds: 30, say, or 0.5"
        else:
            _try(wrong, "every", lambda: timing_of(None, given["every"]))


def _try(wrong: dict[str, str], field: str, check: Callable[[], object]) -> None:
    try:
        check()
    except InvalidSetting as error:
        wrong[field] = str(error)
