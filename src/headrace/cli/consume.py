"""``headrace consume``: run jobs."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Annotated, Final, TypeAlias

from cyclopts import Parameter
from cyclopts.validators import Number

from headrace import __version__, logs
from headrace.app import Headrace
from headrace.cli.application import DEMO, is_demo, load
from headrace.cli.flags import (
    POLICY,
    BareLease,
    Lease,
    LogFormat,
    LogLevel,
    MaxCrashes,
    Url,
    help_page,
)
from headrace.errors import HeadraceError, InvalidSetting
from headrace.policy import LeasePolicy

if TYPE_CHECKING:
    from headrace.consumer import ConsumerOptions

log = logging.getLogger("headrace.consumer")

_FEW: Final = 20  # tasks that the first line names

AppName: TypeAlias = Annotated[
    str | None,
    Parameter(env_var="HEADRACE_APP", help="Your application: module:object, or module alone."),
]
Queues: TypeAlias = Annotated[
    str | None,
    Parameter(
        ("--queues", "-Q"),
        metavar="A,B",
        help="a,b: b when a is empty. a:3,b:1: in turns, so weighted. "
        "Without it, the queues of the tasks.",
    ),
]
Concurrency: TypeAlias = Annotated[
    int | None,
    Parameter(
        ("--concurrency", "-c"),
        metavar="N",
        help="Jobs at once. Without it 10, or 100 when all tasks are async.",
    ),
]
Workers: TypeAlias = Annotated[
    int,
    Parameter(
        ("--workers", "-w"),
        metavar="N",
        validator=Number(gte=1),
        help="Processes, each with so many jobs at once. One that dies is replaced.",
    ),
]
Burst: TypeAlias = Annotated[
    bool, Parameter(("--burst", "-b"), help="End when there is nothing left to do.")
]
MaxJobs: TypeAlias = Annotated[
    int | None,
    Parameter(
        metavar="N",
        validator=Number(gte=1),
        help="Replace a process after about so many jobs, without a pause. With --burst, end.",
    ),
]
MaxMemory: TypeAlias = Annotated[
    int | None,
    Parameter(
        metavar="MIB",
        validator=Number(gte=1),
        help="Replace a process that holds more memory than this (resident), without a pause.",
    ),
]
GracePeriod: TypeAlias = Annotated[
    float,
    Parameter(metavar="SECONDS", help="How long jobs may take to finish when it is told to end."),
]
UnknownTaskTtl: TypeAlias = Annotated[
    float,
    Parameter(
        metavar="SECONDS",
        help="How long a job waits for a consumer that knows its task, before it is dead.",
    ),
]
Name: TypeAlias = Annotated[
    str | None,
    Parameter(metavar="NAME", help="Its name, unique among all; without it, one is made up."),
]


@help_page
def consume(
    app: AppName = None,
    /,
    *,
    queues: Queues = None,
    concurrency: Concurrency = None,
    workers: Workers = 1,
    burst: Burst = False,
    max_jobs: MaxJobs = None,
    max_memory: MaxMemory = None,
    grace_period: GracePeriod = 30.0,
    unknown_task_ttl: UnknownTaskTtl = 86_400.0,
    name: Name = None,
    lease: Lease = POLICY.lease_s,
    bare_lease: BareLease = POLICY.bare_lease_s,
    max_crashes: MaxCrashes = POLICY.max_crashes,
    url: Url = None,
    log_level: LogLevel = "info",
    log_format: LogFormat = "text",
) -> int:
    """Run jobs until it is told to end.

    $ headrace consume shop                               # the tasks in shop.py
    $ headrace consume shop.tasks:app -Q mail,bulk -c 50 -w 4
    $ headrace consume headrace.demo.tasks                # the demo's, to try it

    Start as many as you like, on as many machines as you like. Ctrl-C or SIGTERM ends it: it claims
    nothing more, lets jobs finish, and gives the rest back; a second one gives them back at once.
    If Redis is away, it waits for it.
    """
    logs.configure(log_level, json=log_format == "json")
    from headrace import consumer, supervisor

    if app is None:
        raise InvalidSetting(
            "name your application, here or in HEADRACE_APP, as in headrace consume shop when "
            f"shop.py has app = Headrace(); to try the demo's: headrace consume {DEMO}"
        )
    application = load(app, url)
    options = consumer.ConsumerOptions(
        queues=consumer.parse_queues(queues or ",".join(_queues_of(application))),
        concurrency=concurrency,
        lease=LeasePolicy(lease_s=lease, bare_lease_s=bare_lease, max_crashes=max_crashes),
        grace_s=grace_period,
        burst=burst,
        max_jobs=max_jobs if burst else None,
        name=name,
        unknown_task_ttl_s=unknown_task_ttl,
    )
    limits = supervisor.Limits(None if burst else max_jobs, max_memory)
    if workers > 1 or limits.any:
        program = partial(_one_of_several, app, url, log_level, log_format)
        return supervisor.supervise(program, options, workers, application.redis_url.url, limits)
    return _run(application, app, options)


def _one_of_several(
    app: str, url: str | None, log_level: str, log_format: str, options: ConsumerOptions
) -> int:
    """Run one consumer in a process of its own, which starts from nothing."""
    logs.configure(log_level, json=log_format == "json")
    try:
        return _run(load(app, url), app, options)
    except HeadraceError as error:
        log.error("%s", error)
        return error.exit_code


def _run(application: Headrace, app: str, options: ConsumerOptions) -> int:
    """Say what is about to run, and run it."""
    from headrace import consumer
    from headrace.supervisor import program

    names = sorted(application.tasks)
    tasks = ", ".join([*names[:_FEW], *([f"{len(names) - _FEW} more"] if names[_FEW:] else [])])
    log.info(
        "headrace %s runs %s at %s; tasks: %s; queues: %s; %d slots",
        __version__,
        app,
        application.redis_url,
        tasks or "none",
        ", ".join(queue.name for queue in options.queues),
        options.concurrency or consumer.default_concurrency(application),
    )
    if is_demo(app):
        log.info("these are the demo's tasks; for your own: headrace consume MODULE")
    if not names:
        log.warning(
            "%s has no tasks: jobs that come here are parked; is a module of tasks not imported?",
            app,
        )
    return program.run(application, options)


def _queues_of(application: Headrace) -> list[str]:
    """Return the queues of an application's tasks, its default queue first."""
    queues = {task.config.queue for task in application.tasks.values()} or {application.queue}
    return sorted(queues, key=lambda queue: (queue != application.queue, queue))
