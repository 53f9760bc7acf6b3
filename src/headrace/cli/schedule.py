"""``headrace schedule``: see, add, change, pause and remove schedules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Annotated, Any, Final, TypeAlias

import msgspec
from cyclopts import App, Parameter

from headrace import operations as op
from headrace.app import Headrace
from headrace.cli import output
from headrace.cli.application import load
from headrace.cli.connection import Connection
from headrace.cli.flags import (
    ARGUMENTS,
    OPTIONS,
    Json,
    Positive,
    Seconds,
    TaskArgument,
    help_page,
)
from headrace.cli.output import Column, Line, Table
from headrace.cli.produce import keywords_of, value_of
from headrace.doctor.humanize import command, instant, span
from headrace.errors import InvalidSetting
from headrace.hooks import passed
from headrace.options import JobOptions
from headrace.schedules import Missed, Schedule, changes, define, timing_of
from headrace.store import Store

_HELP: Final = """Jobs that are enqueued again and again: see, add, pause and remove schedules.

$ headrace schedule list
$ headrace schedule add nightly report --cron "30 2 * * *" --timezone Europe/Berlin
$ headrace schedule next nightly
$ headrace schedule pause nightly
"""

_COLUMNS: Final = (
    Column("Name", "cyan", least=8),
    Column("Task", least=8),
    Column("Queue", least=8),
    Column("When", least=12),
    Column("Next"),
    Column("In"),
    Column("Fired"),
    Column("Missed"),
    Column("Drift"),
    Column("State", least=8),
)
_TICKS: Final = (Column("Local"), Column("UTC"), Column("In"))

Names: TypeAlias = Annotated[str, Parameter(name="NAME", required=True, help="These schedules.")]
Name: TypeAlias = Annotated[str, Parameter(name="NAME", help="Its name.")]
Cron: TypeAlias = Annotated[str | None, Parameter(metavar="EXPRESSION")]
Timezone: TypeAlias = Annotated[str, Parameter(metavar="ZONE")]

schedule: App = App(
    name="schedule", help=_HELP, sort_key=6.5, group_arguments=ARGUMENTS, group_parameters=OPTIONS
)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class When:
    """When the ticks of a schedule are."""

    cron: Cron = None
    """Minute, hour, day of the month, month, day of the week; or @daily, …."""
    every: Seconds | None = None
    """Or how often."""
    timezone: Timezone = "UTC"
    """The time zone of the cron expression."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TickFlags:
    """What each tick enqueues, and what becomes of those that are missed."""

    missed: Annotated[Missed, Parameter(metavar="POLICY")] = "latest"
    """Of ticks that could not fire in time, fire the latest one, skip them, or fire all."""
    kwargs: Annotated[list[str] | None, Parameter(alias="-k", metavar="NAME=VALUE")] = None
    """A keyword argument; may be repeated."""
    queue: Annotated[str | None, Parameter(alias="-q", metavar="QUEUE")] = None
    """Another queue than the task's."""
    priority: Annotated[int, Parameter(alias="-p", metavar="N")] = 0
    """-100 to 100; higher is sooner."""
    app: Annotated[str | None, Parameter(env_var="HEADRACE_APP", metavar="MODULE:OBJECT")] = None
    """Your application: then the call is checked, and its options are the task's."""
    replace: bool = False
    """Change the schedule of that name, if there is one."""


@schedule.command(name="list", usage="Usage: headrace schedule list [OPTIONS]", sort_key=0)
@help_page
def list_(*, json: Json = False, connection: Connection = Connection()) -> int:
    """List the schedules: when the next tick of each is, and how late the last one fired.

    $ headrace schedule list
    $ headrace schedule list --json
    """
    with connection.store() as store:
        found, now_ms = store.follow(changes.all_schedules()), _now_ms(store)
    output.show([_as_json(one) for one in found], _lines(found, now_ms), json=json)
    return 0


@schedule.command(usage="Usage: headrace schedule add NAME TASK [ARGS...] [OPTIONS]", sort_key=1)
@help_page
def add(
    name: Name,
    task: Annotated[str, Parameter(name="TASK", help="The name of the task of its jobs.")],
    /,
    *args: TaskArgument,
    when: When = When(),
    flags: TickFlags = TickFlags(),
    json: Json = False,
    connection: Connection = Connection(),
) -> int:
    """Add a schedule, or change one.

    $ headrace schedule add nightly report --cron "30 2 * * *" --timezone Europe/Berlin
    $ headrace schedule add beat ping 1 --every 30 --missed skip --replace

    Whoever leads sees it within a second.
    """
    connection.write_logs()
    timing = timing_of(when.cron, when.every, when.timezone)
    application = Headrace(connection.url) if flags.app is None else load(flags.app, connection.url)
    if flags.app is not None:
        application.find_task(task)
    options: JobOptions = {}
    if flags.queue is not None:
        options["queue"] = flags.queue
    if flags.priority:
        options["priority"] = flags.priority
    values, kwargs = tuple(map(value_of, args)), keywords_of(flags.kwargs)
    call = passed(application.call_with(task, values, kwargs, options), name)
    definition = define(call, timing, missed=flags.missed, partitions=application.partitions)
    with connection.store() as store, closing(application):
        before = _named(store, name)
        store.follow(changes.add(name, definition, replace=flags.replace))
        found = _named(store, name)
    if found is not None:
        said = f"{name} is {'changed' if before else 'added'}"
        following = "" if found.next_at is None else f"; its next tick is {_local(found.next_at)}"
        output.show(_as_json(found), [said + following], json=json)
    if before is not None and before.declared:
        output.note(f"{name} stands in code: when that starts again, it is as it says there")
    return 0


@schedule.command(usage="Usage: headrace schedule pause NAME... [OPTIONS]", sort_key=2)
@help_page
def pause(*names: Names, connection: Connection = Connection()) -> int:
    """Let schedules have no ticks.

    $ headrace schedule pause nightly

    It stays so, also when an application that declares it starts again.
    """
    return _turn(names, connection, paused=True)


@schedule.command(usage="Usage: headrace schedule resume NAME... [OPTIONS]", sort_key=3)
@help_page
def resume(*names: Names, connection: Connection = Connection()) -> int:
    """Let paused schedules go on, with their next tick.

    $ headrace schedule resume nightly
    """
    return _turn(names, connection, paused=False)


@schedule.command(usage="Usage: headrace schedule remove NAME... [OPTIONS]", sort_key=4)
@help_page
def remove(*names: Names, connection: Connection = Connection()) -> int:
    """Remove schedules. Jobs that they have enqueued stay.

    $ headrace schedule remove nightly

    One that a running application declares is back within half a minute: pause it instead.
    Exit code: 0 removed; 1 one was not there.
    """
    missing = []
    with connection.store() as store:
        for name in names:
            found = _named(store, name)
            if not store.follow(changes.remove(name)):
                missing.append(name)
                continue
            output.say(f"{name} is removed")
            if found is not None and found.declared and not found.undeclared:
                output.note(
                    f"a running application declares {name}, so that it comes back: "
                    f"{command('schedule', 'pause', of=name)}"
                )
    if missing:
        output.complain(f"no schedule {', '.join(missing)}; headrace schedule list shows them")
    return 1 if missing else 0


@schedule.command(name="next", usage="Usage: headrace schedule next [NAME] [OPTIONS]", sort_key=5)
@help_page
def next_(
    name: Annotated[str | None, Parameter(name="NAME", help="Its name.")] = None,
    /,
    *,
    when: When = When(),
    count: Annotated[Positive, Parameter(alias="-n")] = 5,
    json: Json = False,
    connection: Connection = Connection(),
) -> int:
    """Show the next ticks of a schedule, or of a cron expression that you try.

    $ headrace schedule next nightly
    $ headrace schedule next --cron "30 2 * * *" --timezone Europe/Berlin -n 10
    """
    with connection.store() as store:
        if name is None:
            timing, now_ms = timing_of(when.cron, when.every, when.timezone), _now_ms(store)
            ticks, at_ms = [], now_ms
            for _ in range(count):
                at_ms = timing.after(at_ms)
                ticks.append(datetime.fromtimestamp(at_ms / 1000).astimezone())
        else:
            found, now_ms = _named(store, name), _now_ms(store)
            if found is None:
                raise InvalidSetting(f"there is no schedule {name!r}: headrace schedule list")
            ticks = found.ticks(count)
            if not ticks:
                output.complain(f"{name} has no tick: {found.broken or 'it is paused'}")
    rows = [(_local(at), _utc(at), span(at.timestamp() - now_ms / 1000)) for at in ticks]
    output.show([at.timestamp() for at in ticks], [Table(_TICKS, rows)], json=json)
    return 0 if ticks else 1


def _turn(names: Sequence[str], connection: Connection, *, paused: bool) -> int:
    change, word = (changes.pause, "paused") if paused else (changes.resume, "not paused")
    with connection.store() as store:
        for name in names:
            changed = store.follow(change(name))
            output.say(f"{name} is {word}{'' if changed else ', as before'}")
    return 0


def _now_ms(store: Store) -> int:
    return int(store.run(op.time_ms()))


def _named(store: Store, name: str) -> Schedule | None:
    return next((one for one in store.follow(changes.all_schedules()) if one.name == name), None)


def _local(at: datetime) -> str:
    return instant(round(at.timestamp() * 1000))


def _utc(at: datetime) -> str:
    return f"{at.timestamp():.0f}" if at.year > 9000 else at.strftime("%Y-%m-%d %H:%M:%SZ")


def _lines(found: Sequence[Schedule], now_ms: int) -> Iterator[Line]:
    if not found and output.on_terminal():
        yield "No schedules: @app.every(30) or @app.cron(…) above a task; or headrace schedule add."
        return
    yield Table(_COLUMNS, [_row(one, now_ms) for one in found])
    for one in found:
        if one.broken:
            yield f"{one.name}: {one.broken}"


def _row(one: Schedule, now_ms: int) -> tuple[str | int | None, ...]:
    left_s = None if one.next_at is None else one.next_at.timestamp() - now_ms / 1000
    return (
        one.name,
        one.task,
        one.queue,
        one.when,
        None if one.next_at is None else _local(one.next_at),
        None if left_s is None else "overdue" if left_s < -1 else span(left_s),
        one.fired,
        one.missed,
        None if one.drift_s is None else f"{one.drift_s * 1000:,.0f} ms",
        _state(one),
    )


def _state(one: Schedule) -> str:
    words = [
        "broken" if one.broken else "",
        "paused" if one.paused else "",
        "not declared by any application" if one.undeclared else "",
    ]
    source = "declared" if one.declared else "added"
    return ", ".join(filter(None, words)) or source


def _as_json(one: Schedule) -> dict[str, Any]:
    """Write it for programs; instants in seconds since 1970."""
    values = {field.name: getattr(one, field.name) for field in fields(one)}
    del values["definition"]
    shown = {
        name: value.timestamp() if isinstance(value, datetime) else value
        for name, value in values.items()
    }
    if one.definition is not None:
        shown |= {
            "cron": one.definition.cron or None,
            "timezone": one.definition.timezone,
            "every_s": one.definition.every_ms / 1000 or None,
            "job": msgspec.json.decode(one.definition.job),
        }
    return shown | {"drift_s": one.drift_s, "state": _state(one)}
