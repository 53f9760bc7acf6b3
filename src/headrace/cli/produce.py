"""``headrace produce``: enqueue jobs."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Annotated, Any, Final, cast

import msgspec
from cyclopts import Group, Parameter

from headrace.app import Headrace
from headrace.cli import output
from headrace.cli.application import is_demo, load
from headrace.cli.connection import Connection
from headrace.cli.flags import Json, Positive, Seconds, TaskArgument, help_page
from headrace.doctor.humanize import counted
from headrace.errors import InvalidJob, QueueFull, ReplyLost, StoreError
from headrace.job import Job
from headrace.options import JobOptions
from headrace.partitions import requests
from headrace.producer import Call

_BATCH: Final = 1_000
_WAIT_TTL_S: Final = 3_600.0  # how long a result is kept for --wait when nobody said how long
_FEW: Final = 20  # on a terminal, more ids than this are counted instead of listed


@Parameter(name="*", group=Group("The job", sort_key=0.5))
@dataclass(frozen=True, kw_only=True)
class JobFlags:
    """How and when the job runs."""

    kwargs: Annotated[list[str] | None, Parameter(alias="-k", metavar="NAME=VALUE")] = None
    """A keyword argument; may be repeated."""
    queue: Annotated[str | None, Parameter(alias="-q", metavar="QUEUE")] = None
    """Another queue than the task's."""
    delay: Seconds | None = None
    """How long it waits before it runs."""
    at: Annotated[str | None, Parameter(metavar="TIME")] = None
    """When it runs: 2026-12-24T18:00, or seconds since 1970."""
    priority: Annotated[int, Parameter(alias="-p", metavar="N")] = 0
    """-100 to 100; higher is sooner."""
    key: Annotated[str | None, Parameter(metavar="KEY")] = None
    """While a job with this key is not over, no second one is enqueued: you get the first's id."""
    max_attempts: Annotated[int | None, Parameter(metavar="N")] = None
    """Number of failed runs after which it is dead."""
    timeout: Seconds | None = None
    """How long a run may take."""
    expires: Seconds | None = None
    """If it has not started by then, it is dead."""
    result_ttl: Seconds | None = None
    """How long its result is kept."""

    def options(self) -> JobOptions:
        """Return those that were given.

        Raises:
            InvalidJob: ``at`` is no time.
        """
        options = asdict(self) | {"at": _instant(self.at), "priority": self.priority or None}
        given = {name: value for name, value in options.items() if value is not None}
        given.pop("kwargs", None)  # they are the call's
        return cast("JobOptions", given)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ProduceFlags:
    """Whose task it is, how many jobs it gets, and what is printed of them."""

    wait: Annotated[bool | float, Parameter(metavar="[SECONDS]")] = False
    """Print its result instead of its id, once there is one."""
    count: Annotated[Positive, Parameter(alias="-n")] = 1
    """Number of jobs to enqueue."""
    stdin: bool = False
    """Enqueue a job for each line that is read; the line is its last argument."""
    app: Annotated[str | None, Parameter(env_var="HEADRACE_APP", metavar="MODULE:OBJECT")] = None
    """Your application: then the call is checked, and its options are the task's."""

    @property
    def total(self) -> int | None:
        """How many jobs there will be; None if unknown."""
        return None if self.stdin else self.count

    def arguments(self) -> Iterator[tuple[Any, ...]]:
        """Return what each job gets as its last arguments."""
        if self.stdin:
            return ((value_of(line.rstrip("\n")),) for line in sys.stdin)
        return itertools.repeat((), self.count)


@help_page
def produce(
    task: Annotated[str | None, Parameter(help="The task's name.")] = None,
    /,
    *args: TaskArgument,
    job: JobFlags = JobFlags(),
    flags: ProduceFlags = ProduceFlags(),
    json: Json = False,
    connection: Connection = Connection(),
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
    connection.write_logs()
    app = flags.app
    application = Headrace(connection.url) if app is None else load(app, connection.url)
    if task is None:
        if not is_demo(app):
            known = ", ".join(sorted(application.tasks)) or "as in headrace produce add 1 2"
            raise InvalidJob(f"name a task: {known}")
        task, args = "echo", ("hello",)
    if app is not None:
        application.find_task(task)  # else the name would be found to be wrong a day later
    options = job.options()
    if flags.wait is not False and not _keeps_results(application, task):
        options["result_ttl"] = options.get("result_ttl") or _WAIT_TTL_S
    values, kwargs = tuple(value_of(arg) for arg in args), keywords_of(job.kwargs)
    made = (  # results are printed as the JSON that they are
        application.call_with(task, (*values, *more), kwargs, options)._replace(decode=None)
        for more in flags.arguments()
    )
    with closing(application):
        if app is None:
            _learn_partitions(application, job.queue or application.queue)
        jobs = _enqueue(application, made, flags.total, ids=not json and flags.wait is False)
        _say_jobs(jobs, flags.wait, json=json)
    return 0


def _learn_partitions(application: Headrace, queue: str) -> None:
    """Divide the queue as it is divided in Redis, for no application is there to say so."""
    with suppress(StoreError):  # which the jobs meet, too
        found = application.producer().store.run(requests.counts([queue]))
        for name, count in requests.divided(found).items():
            application.partition_queue(name, count)


def _keeps_results(application: Headrace, task: str) -> bool:
    known = application.tasks.get(task)
    return known is not None and known.config.result_ttl_s is not None


def _enqueue(
    application: Headrace, calls: Iterator[Call[Any]], total: int | None, *, ids: bool
) -> list[Job[Any]]:
    """Enqueue in batches; print the ids, if they are wanted, as they come."""
    jobs: list[Job[Any]] = []
    at_once = ids and not output.on_terminal()
    with output.progress("enqueued", total, show=total is None or total > _BATCH) as progress:
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
    said = str(error)
    if isinstance(error, ReplyLost):
        said += ". It may have been accepted: look first (headrace info), or use --key to repeat it"
    if accepted:
        said += f". {counted(accepted, 'job')} enqueued before that"
    return type(error)(said)


def _say_jobs(jobs: Sequence[Job[Any]], wait: bool | float, *, json: bool) -> None:
    """Print what is not printed yet: jobs as JSON, or their results."""
    for job in jobs:
        shown = {"id": job.id, "queue": job.queue}
        if wait is False:
            if json:
                output.say_json(shown, compact=True)
            continue
        if len(jobs) == 1 and sys.stderr.isatty():
            output.note(f"waiting for {job.id} …")
        result = job.result(None if wait is True else wait)
        output.say_json(shown | {"result": result} if json else result, compact=json)


def value_of(text: str) -> Any:
    """Read an argument: JSON where it is JSON, else the string that it is."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text


def keywords_of(pairs: Sequence[str] | None) -> dict[str, Any]:
    """Read keyword arguments: NAME=VALUE each.

    Raises:
        InvalidJob: one is none.
    """
    found: dict[str, Any] = {}
    for pair in pairs or ():
        name, equals, value = pair.partition("=")
        if not name or not equals:
            raise InvalidJob(f"-k {pair!r} must be NAME=VALUE, as in -k subject=Hello")
        found[name] = value_of(value)
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
