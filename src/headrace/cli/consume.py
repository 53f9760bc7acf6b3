"""``headrace consume``: run jobs."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from cyclopts import Parameter

from headrace import __version__
from headrace.app import Headrace
from headrace.cli.application import DEMO, is_demo, load
from headrace.cli.connection import Service
from headrace.cli.flags import LeasesAndCrashes, Port, Positive, Seconds, help_page
from headrace.errors import HeadraceError, InvalidSetting

if TYPE_CHECKING:
    from headrace.consumer import ConsumerOptions
    from headrace.supervisor import Observer

log: logging.Logger = logging.getLogger("headrace.consumer")

_FEW: Final = 20  # tasks that the first line names


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ConsumeFlags:
    """What a consumer takes, and how long it goes on."""

    queues: Annotated[str | None, Parameter(alias="-Q", metavar="A,B")] = None
    """a,b: b when a is empty; a:3,b:1: in turns, so weighted. Without it, those of the tasks."""
    concurrency: Annotated[int | None, Parameter(alias="-c", metavar="N")] = None
    """Number of jobs at once. Without it 10, or 100 when all tasks are async."""
    workers: Annotated[Positive, Parameter(alias="-w")] = 1
    """Number of processes, each with --concurrency jobs at once. One that dies is replaced."""
    burst: Annotated[bool, Parameter(alias="-b")] = False
    """Stop when there is nothing left to do."""
    max_jobs: Positive | None = None
    """Replace a process after about this number of jobs, without a pause. With --burst, stop."""
    max_memory: Annotated[Positive | None, Parameter(metavar="MIB")] = None
    """Replace a process that holds more memory than this (resident), without a pause."""
    grace_period: Seconds = 30.0
    """How long jobs may take to finish when it is stopped."""
    unknown_task_ttl: Seconds = 86_400.0
    """How long a job waits for a consumer that knows its task, before it is dead."""
    name: Annotated[str | None, Parameter("--name", metavar="NAME")] = None
    """Its name, unique among all consumers; without it, one is made up."""
    reload: Annotated[bool, Parameter(alias="-r", env_var="HEADRACE_RELOAD")] = False
    """Start anew when a Python file below this directory changes: for development."""
    health_port: Annotated[Port | None, Parameter(env_var="HEADRACE_HEALTH_PORT")] = None
    """Answer probes at http://…:PORT/healthz and /readyz."""
    health_host: Annotated[str, Parameter(env_var="HEADRACE_HEALTH_HOST", metavar="HOST")] = (
        "127.0.0.1"
    )
    """The address for probes; 0.0.0.0 for all of this machine."""


@help_page
def consume(
    app: Annotated[
        str | None,
        Parameter(env_var="HEADRACE_APP", help="Your application: module:object, or module alone."),
    ] = None,
    /,
    *,
    flags: ConsumeFlags = ConsumeFlags(),
    leases: LeasesAndCrashes = LeasesAndCrashes(),
    service: Service = Service(),
) -> int:
    """Run jobs until it is stopped.

    $ headrace consume shop                               # the tasks in shop.py
    $ headrace consume shop.tasks:app -Q mail,bulk -c 50 -w 4
    $ headrace consume headrace.demo.tasks                # the demo's, to try it

    Start as many as you like, on as many machines as you like. Ctrl-C or SIGTERM stops it: it claims
    nothing more, lets jobs finish, and gives the rest back; a second one gives them back at once.
    If Redis is away, it waits for it.
    """
    service.write_logs()
    if app is None:
        raise InvalidSetting(
            "name your application, here or in HEADRACE_APP, as in headrace consume shop when "
            f"shop.py has app = Headrace(); to try the demo's: headrace consume {DEMO}"
        )
    if flags.reload:
        return _reload(app, flags, leases, service)
    from headrace.supervisor import systemd

    manager = systemd.service_manager()
    told: list[Observer] = [] if manager is None else [partial(systemd.telling, manager)]
    return _consume(app, flags, leases, service, observers=told)


def _consume(
    app: str,
    flags: ConsumeFlags,
    leases: LeasesAndCrashes,
    service: Service,
    *,
    observers: Sequence[Observer] = (),
) -> int:
    """Run a consumer, or a supervisor of several or of one that is observed."""
    from headrace import consumer, supervisor
    from headrace.cli.queues import parse_queues

    application = load(app, service.url)
    options = consumer.ConsumerOptions(
        queues=parse_queues(flags.queues or ",".join(_queues_of(application))),
        concurrency=flags.concurrency,
        lease=leases.policy(),
        grace_s=flags.grace_period,
        burst=flags.burst,
        max_jobs=flags.max_jobs if flags.burst else None,
        name=flags.name,
        unknown_task_ttl_s=flags.unknown_task_ttl,
    )
    limits = supervisor.Limits(None if flags.burst else flags.max_jobs, flags.max_memory)
    observers = [*observers, *_probes(flags)]
    if flags.workers > 1 or limits.any or observers or flags.reload:
        program = partial(_one_of_several, app, flags, service)
        url = application.redis_url.url
        return supervisor.supervise(
            program, options, flags.workers, url, limits=limits, observers=observers
        )
    return _run(application, app, options)


def _probes(flags: ConsumeFlags) -> list[Observer]:
    """Begin to listen for probes, if they are wanted."""
    if flags.health_port is None:
        return []
    from headrace.listening import listen
    from headrace.supervisor import probes

    listener = listen(flags.health_host, flags.health_port, "the health port")
    return [partial(probes.answering, listener)]


def _reload(app: str, flags: ConsumeFlags, leases: LeasesAndCrashes, service: Service) -> int:
    """Run what ``_consume`` does, anew after each change."""
    try:
        from headrace.supervisor import reloading
    except ModuleNotFoundError as error:
        if error.name != "watchfiles":
            raise
        raise InvalidSetting(
            'for --reload, watchfiles must be installed: pip install "headrace[reload]"'
        ) from error
    return reloading.run(partial(_once, app, flags, leases, service), Path.cwd())


def _once(app: str, flags: ConsumeFlags, leases: LeasesAndCrashes, service: Service) -> int:
    """Run it with the code as it is now, in a process of its own. No service manager looks at it."""
    _begin(flags, service)
    try:
        return _consume(app, flags, leases, service)
    except HeadraceError as error:
        log.error("%s", error, exc_info=log.isEnabledFor(logging.DEBUG))
        return error.exit_code


def _begin(flags: ConsumeFlags, service: Service) -> None:
    """Prepare a process that has started from nothing."""
    service.write_logs()
    if flags.reload:
        # A second change within a second, of equal length, would not be told from the first by it.
        sys.dont_write_bytecode = True


def _one_of_several(
    app: str, flags: ConsumeFlags, service: Service, options: ConsumerOptions
) -> int:
    """Run one consumer in a process of its own."""
    _begin(flags, service)
    try:
        return _run(load(app, service.url), app, options)
    except HeadraceError as error:
        log.error("%s", error, exc_info=log.isEnabledFor(logging.DEBUG))
        return error.exit_code


def _run(application: Headrace, app: str, options: ConsumerOptions) -> int:
    """Say what is about to run, and run it."""
    from headrace.consumer.options import default_concurrency
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
        options.concurrency or default_concurrency(application),
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
