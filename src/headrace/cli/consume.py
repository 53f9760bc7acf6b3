"""``headrace consume``: run jobs."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, TypeAlias

from cyclopts import Parameter
from cyclopts.validators import Number

from headrace import logs
from headrace.app import Headrace
from headrace.cli.application import load
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
from headrace.policy import LeasePolicy

if TYPE_CHECKING:
    from headrace.consumer import ConsumerOptions

AppName: TypeAlias = Annotated[
    str | None,
    Parameter(
        env_var="HEADRACE_APP",
        help="Your application: module:object, or module alone. Without one, the demo tasks.",
    ),
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
    int | None, Parameter(metavar="N", help="End after so many jobs, each process.")
]
GracePeriod: TypeAlias = Annotated[
    float,
    Parameter(metavar="SECONDS", help="How long jobs may take to finish when it is told to end."),
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
    grace_period: GracePeriod = 30.0,
    name: Name = None,
    lease: Lease = POLICY.lease_s,
    bare_lease: BareLease = POLICY.bare_lease_s,
    max_crashes: MaxCrashes = POLICY.max_crashes,
    url: Url = None,
    log_level: LogLevel = "info",
    log_format: LogFormat = "text",
) -> int:
    """Run jobs until it is told to end.

    $ headrace consume                                    # the demo tasks
    $ headrace consume shop.tasks                         # those in shop/tasks.py
    $ headrace consume shop.tasks:app -Q mail,bulk -c 50 -w 4

    Start as many as you like, on as many machines as you like. Ctrl-C or SIGTERM ends it: it claims
    nothing more, lets jobs finish, and gives the rest back; a second one gives them back at once.
    If Redis is away, it waits for it.
    """
    logs.configure(log_level, json=log_format == "json")
    from headrace import consumer

    application = load(app, url)
    options = consumer.ConsumerOptions(
        queues=consumer.parse_queues(queues or ",".join(_queues_of(application))),
        concurrency=concurrency,
        lease=LeasePolicy(lease_s=lease, bare_lease_s=bare_lease, max_crashes=max_crashes),
        grace_s=grace_period,
        burst=burst,
        max_jobs=max_jobs,
        name=name,
    )
    if workers > 1:
        program = partial(_one_of_several, app, url, log_level, log_format)
        return consumer.supervise(program, options, workers, application.redis_url.url)
    return consumer.run(application, options)


def _one_of_several(
    app: str | None, url: str | None, log_level: str, log_format: str, options: ConsumerOptions
) -> int:
    """Run one consumer in a process of its own, which starts from nothing."""
    logs.configure(log_level, json=log_format == "json")
    from headrace import consumer

    return consumer.run(load(app, url), options)


def _queues_of(application: Headrace) -> list[str]:
    """Give the queues of an application's tasks, its default queue first."""
    queues = {task.config.queue for task in application.tasks.values()} or {application.queue}
    return sorted(queues, key=lambda queue: (queue != application.queue, queue))
