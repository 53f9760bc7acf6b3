"""``headrace produce``: enqueue jobs."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, TypeAlias

import msgspec
from cyclopts import Group, Parameter
from cyclopts.validators import Number

from headrace import logs
from headrace.app import Headrace
from headrace.cli import output
from headrace.cli.application import is_demo, load
from headrace.cli.flags import AppName, Json, LogLevel, Url, help_page
from headrace.errors import InvalidJob, QueueFull, ReplyLost, StoreError
from headrace.job import Job
from headrace.producer import Call

_BATCH: Final = 1_000
_WAIT_TTL_S: Final = 3_600.0  # how long a result is kept for --wait when nobody said how long
_FEW: Final = 20  # on a terminal, more ids than this are counted instead of listed

JOB: Final = Group("The job", sort_key=0.5)
Name: TypeAlias = Annotated[str | None, Parameter(help="The task's name.")]
Args: TypeAlias = Annotated[
    str,
    Parameter(allow_leading_hyphen=True, help="Its arguments: as JSON if they are, else strings."),
]
Kwargs: TypeAlias = Annotated[
    list[str] | None,
    Parameter(
        ("--kwargs", "-k"), metavar="NAME=VALUE", group=JOB, help="A keyword argument; repeat."
    ),
]
QueueName: TypeAlias = Annotated[
    str | None,
    Parameter(("--queue", "-q"), metavar="QUEUE", group=JOB, help="Another than the task's."),
]
Delay: TypeAlias = Annotated[
    float | None, Parameter(group=JOB, metavar="SECONDS", help="Run it so much later.")
]
At: TypeAlias = Annotated[
    str | None,
    Parameter(group=JOB, metavar="TIME", help="Run it then: 2026-12-24T18:00, or s since 1970."),
]
Priority: TypeAlias = Annotated[
    int,
    Parameter(("--priority", "-p"), group=JOB, metavar="N", help="-100 to 100; higher is sooner."),
]
Key: TypeAlias = Annotated[
    str | None,
    Parameter(
        group=JOB,
        metavar="KEY",
        help="While a job with this key lives, no second one: you get the first's id.",
    ),
]
MaxAttempts: TypeAlias = Annotated[
    int | None, Parameter(group=JOB, metavar="N", help="Failed runs after which it is dead.")
]
Timeout: TypeAlias = Annotated[
    float | None, Parameter(group=JOB, metavar="SECONDS", help="How long a run may take.")
]
ResultTtl: TypeAlias = Annotated[
    float | None, Parameter(group=JOB, metavar="SECONDS", help="How long its result is kept.")
]
Wait: TypeAlias = Annotated[
    bool | float,
    Parameter(metavar="[SECONDS]", help="Print its result instead of its id, once there is one."),
]
Count: TypeAlias = Annotated[
    int, Parameter(("--count", "-n"), metavar="N", validator=Number(gte=1), help="So many of them.")
]
Stdin: TypeAlias = Annotated[
    bool, Parameter(help="One for each line that is read; the line is the last argument.")
]


@help_page
def produce(
    task: Name = None,
    /,
    *args: Args,
    kwargs: Kwargs = None,
    queue: QueueName = None,
    delay: Delay = None,
    at: At = None,
    priority: Priority = 0,
    key: Key = None,
    max_attempts: MaxAttempts = None,
    timeout: Timeout = None,
    result_ttl: ResultTtl = None,
    wait: Wait = False,
    count: Count = 1,
    stdin: Stdin = False,
    app: AppName = None,
    json: Json = False,
    url: Url = None,
    log_level: LogLevel = "warning",
) -> int:
    """Enqueue a job, and print its id.

    $ headrace produce add 1 2
    $ headrace produce send_email 42 -k subject=Hi --app shop.tasks --delay 60
    $ headrace produce add 1 2 --app shop --wait
    $ ls *.py | headrace produce count_file --stdin

    With --app, the call is checked before it is enqueued, and goes to its task's queue. Without it,
    any name will do, and the job goes to --queue, else to the queue called queue. What begins with
    a hyphen and is no option comes after --.
    """
    logs.configure(log_level)
    application = Headrace(url) if app is None else load(app, url)
    if task is None:
        if not is_demo(app):
            known = ", ".join(sorted(application.tasks)) or "as in headrace produce add 1 2"
            raise InvalidJob(f"name a task: {known}")
        task, args = "echo", ("hello",)
    if app is not None:
        application.find_task(task)  # else the name would be found to be wrong a day later
    options: dict[str, Any] = {
        "queue": queue, "delay": delay, "at": _instant(at), "key": key, "timeout": timeout,
        "max_attempts": max_attempts, "result_ttl": result_ttl, "priority": priority or None,
    }  # fmt: skip
    request = _Request(application, task, [_value(arg) for arg in args], _keywords(kwargs), options)
    if wait is not False:
        request.keep_result()
    calls = request.for_lines(sys.stdin) if stdin else request.times(count)
    total, ids = None if stdin else count, not json and wait is False
    with closing(application):
        _say_jobs(_enqueue(application, calls, total, ids=ids), wait, json=json)
    return 0


@dataclass(slots=True)
class _Request:
    """What to enqueue, once or often."""

    application: Headrace
    task: str
    args: list[Any]
    kwargs: dict[str, Any]
    options: dict[str, Any]

    def keep_result(self) -> None:
        """See to it that there will be a result to wait for."""
        task = self.application.tasks.get(self.task)
        if task is None or task.config.result_ttl_s is None:
            self.options["result_ttl"] = self.options["result_ttl"] or _WAIT_TTL_S

    def times(self, count: int) -> Iterator[Call[Any]]:
        """Make the job so many times."""
        return (self._call() for _ in range(count))

    def for_lines(self, lines: Iterable[str]) -> Iterator[Call[Any]]:
        """Make a job for each line."""
        return (self._call(_value(line.rstrip("\n"))) for line in lines)

    def _call(self, *more: Any) -> Call[Any]:
        chosen: Any = {name: value for name, value in self.options.items() if value is not None}
        return self.application.call_with(self.task, (*self.args, *more), self.kwargs, chosen)


def _enqueue(
    application: Headrace, calls: Iterator[Call[Any]], total: int | None, *, ids: bool
) -> list[Job[Any]]:
    """Enqueue in batches; print the ids, if they are wanted, as they come."""
    jobs: list[Job[Any]] = []
    many = total is None or total > _BATCH
    at_once = ids and not output.on_terminal()
    with output.progress("enqueued", total, show=many) as progress:
        while batch := list(itertools.islice(calls, _BATCH)):
            try:
                more = application.enqueue_many(batch)
            except (StoreError, QueueFull) as error:
                _say_ids(error.accepted if ids else ())
                raise _with_advice(error, len(jobs) + len(error.accepted)) from error
            jobs += more
            progress(len(jobs))
            if at_once:
                _say_ids([job.id for job in more])
    if ids and not at_once:
        if len(jobs) > _FEW:
            output.say(f"{len(jobs):,} jobs enqueued, {jobs[0].id} to {jobs[-1].id}")
        else:
            _say_ids([job.id for job in jobs])
    return jobs


def _say_ids(ids: Sequence[str]) -> None:
    for job_id in ids:
        output.say(job_id)


def _with_advice(error: StoreError | QueueFull, accepted: int) -> StoreError | QueueFull:
    """Say what became of the jobs, as far as that is known."""
    advice = ""
    if isinstance(error, ReplyLost):
        advice += (
            ". It may have been accepted: look first (headrace info), or use --key to repeat it"
        )
    if accepted:
        advice += f". {accepted:,} jobs were enqueued before that"
    return type(error)(f"{error}{advice}")


def _say_jobs(jobs: Sequence[Job[Any]], wait: bool | float, *, json: bool) -> None:
    """Print what is not printed yet: jobs as JSON, or their results."""
    for job in jobs:
        shown = {"id": job.id, "queue": job.queue}
        if wait is False:
            if json:
                output.say_json(shown, lines=True)
            continue
        if len(jobs) == 1 and sys.stderr.isatty():
            output.note(f"waiting for {job.id} …")
        result = job.result(None if wait is True else wait)
        output.say_json(shown | {"result": result} if json else result, lines=json)


def _value(text: str) -> Any:
    """Read an argument: JSON where it is JSON, else the string that it is."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text


def _keywords(pairs: Sequence[str] | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pair in pairs or ():
        name, equals, value = pair.partition("=")
        if not name or not equals:
            raise InvalidJob(f"-k {pair!r} must be NAME=VALUE, as in -k subject=Hello")
        found[name] = _value(value)
    return found


def _instant(text: str | None) -> datetime | float | None:
    """Read an instant; without a zone it is local time."""
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError:
        raise InvalidJob(
            f"--at {text!r} must be a time as 2026-12-24T18:00+01:00, or seconds since 1970"
        ) from None
