"""What an application declares: limits of tasks and of queues, and which lane a job belongs to. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from headrace.errors import InvalidJob, InvalidSetting
from headrace.handoff import is_placeholder
from headrace.lanes.limit import EACH_KEY, WHOLE_QUEUE, Limit, lane_of, limit, name_of

By = str | Callable[..., Any] | None
"""What gives a job's key: an argument's name, or a function that is called as the task is."""

AGEING: Final = "*age"
"""Stands among a queue's limits: how much waiting a point of a job's priority is worth, ms."""

PART: Final = "*part"
"""Stands among a partition's limits: its number, and how many there are."""

_LONGEST: Final = 512  # characters of a key


@dataclass(frozen=True, slots=True)
class TaskLimits:
    """The limits of a task.

    Attributes:
        limit: what bounds its jobs, or, if ``by`` is given, those of each key.
        by: what gives a job's key.
    """

    limit: Limit
    by: By


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """The limits of a queue: all its jobs go through lanes.

    Attributes:
        limit: what bounds all of its jobs together; None for nothing.
        by: what gives a job's key: jobs of different keys have their turns.
        ageing_ms: how much waiting a point of a job's priority is worth; None as it is.
    """

    limit: Limit | None
    by: By
    ageing_ms: int | None


def task_limits(
    rate: str | float | None, concurrency: int | None, burst: int | None, by: By
) -> TaskLimits | None:
    """Read the limits of a task; None if it has none.

    Raises:
        InvalidSetting: one of them has no meaning.
    """
    bound = limit(rate, concurrency, burst)
    check_by(by, "limit_by")
    if by is not None and bound is None:
        raise InvalidSetting("limit_by needs a rate_limit or a concurrency_limit")
    return None if bound is None else TaskLimits(bound, by)


def queue_limits(
    rate: str | float | None,
    concurrency: int | None,
    burst: int | None,
    by: By,
    ageing_s: float | None,
) -> QueueLimits:
    """Read the limits of a queue.

    Raises:
        InvalidSetting: one of them has no meaning.
    """
    check_by(by, "fair_by")
    ageing_ms = None if ageing_s is None else max(1, min(round(ageing_s * 1000), 10**10))
    return QueueLimits(limit(rate, concurrency, burst), by, ageing_ms)


def check_by(by: By, what: str) -> None:
    """Check what gives a job's key.

    Raises:
        InvalidSetting: it cannot; ``what``: what it is called there.
    """
    if by is not None and not callable(by) and not (isinstance(by, str) and by.isidentifier()):
        raise InvalidSetting(f"{what}={by!r} must be the name of an argument, or a function")


def key_of(
    by: By, args: Sequence[Any], kwargs: Mapping[str, Any], names: Sequence[str] = ()
) -> str:
    """Return the key of a call; "" if it has none, or it depends on what another job will return.

    Args:
        by: what gives it.
        args: the call's positional arguments.
        kwargs: and those by name.
        names: what the first positional arguments are called.

    Raises:
        InvalidJob: the key is too long, or the function that gives it has failed.
    """
    if by is None:
        return ""
    if isinstance(by, str):
        value = kwargs.get(by)
        if by in names and names.index(by) < len(args):
            value = args[names.index(by)]
    elif any(map(is_placeholder, (*args, *kwargs.values()))):
        value = None  # whoever claims it knows
    else:
        try:
            value = by(*args, **kwargs)
        except Exception as error:
            raise InvalidJob(
                f"what gives the key of the job's limit has failed: {error!r}"
            ) from error
    return "" if is_placeholder(value) else checked_key(value)


def checked_key(value: object) -> str:
    """Return a key as text; "" for None.

    Raises:
        InvalidJob: it is too long.
    """
    key = "" if value is None else str(value)
    if len(key) > _LONGEST:
        raise InvalidJob(f"the key of a limit is {key[:40]!r}…: at most {_LONGEST} characters")
    return key


class _Options(Protocol):
    @property
    def queue(self) -> str: ...
    @property
    def flow_limits(self) -> TaskLimits | None: ...


class Limited(Protocol):
    """What of a task says in which lane its calls wait."""

    name: str
    argument_names: list[str]
    queue_limits: Mapping[str, QueueLimits]

    @property
    def config(self) -> _Options:
        """Its options: in which queue its jobs are, and its limits."""


class Place(Protocol):
    """What of a job's options does."""

    @property
    def queue(self) -> str | None:
        """Another queue than its task's."""

    @property
    def lane(self) -> str | None:
        """Its key."""


NOWHERE: Final = ("", "")
"""The lane and the key of a job that waits in no lane."""


def is_limited(task: Limited, queue: str) -> bool:
    """Whether a task's jobs wait in lanes, in this queue."""
    return task.config.flow_limits is not None or queue in task.queue_limits


def name_for(task: Limited) -> str:
    """Return what a task's lanes are called: after the task if it has limits, else after the queue."""
    return name_of(task.name if task.config.flow_limits is not None else None)


def lane_of_call(
    task: Limited, place: Place, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[str, str]:
    """Return the lane in which a call waits, and its key there; twice "" if it waits in none.

    Raises:
        InvalidJob: the job says its key where nothing is limited, or that cannot be one.
    """
    limits, key, queue = task.config.flow_limits, place.lane, place.queue or task.config.queue
    of_queue = task.queue_limits.get(queue)
    if limits is None and of_queue is None:
        if key is None:
            return NOWHERE
        raise InvalidJob(
            f"lane={key!r} says nothing: neither the task {task.name!r} nor the queue {queue!r} "
            "has limits or lanes: app.limit_queue(…)"
        )
    if key is None:
        by = (limits and limits.by) or (of_queue and of_queue.by) or None
        key = key_of(by, args, kwargs, task.argument_names)
    return lane_of(name_for(task), key), key


def lane_of_name(
    queue_limits: Mapping[str, QueueLimits], place: Place, queue: str
) -> tuple[str, str]:
    """Return the lane of a call by name, as far as its queue says; its task is not known here."""
    if (place.queue or queue) not in queue_limits:
        return "", place.lane or ""  # limits of the task are known to whoever runs it
    return lane_of(WHOLE_QUEUE, place.lane or ""), place.lane or ""


class Application(Protocol):
    """What of an application says which limits hold."""

    @property
    def tasks(self) -> Mapping[str, Limited]:
        """Its tasks, by name."""

    @property
    def queue_limits(self) -> Mapping[str, QueueLimits]:
        """The limits of its queues."""

    @property
    def partitions(self) -> Parts:
        """Which of its queues are divided."""


class Parts(Protocol):
    """What is known of partitions."""

    def part(self, queue: str) -> tuple[int, int] | None:
        """Return the number of a partition, and how many there are; None: that is for others to say."""


def declared(app: Application, queue: str) -> dict[str, str]:
    """Return the limits that hold in a queue, as Redis has them; {} if nothing is limited there."""
    of_tasks = [(name, task.config.flow_limits) for name, task in app.tasks.items()]
    of_queue = app.queue_limits.get(queue)
    if of_queue is None and not any(limits for _, limits in of_tasks):
        return {}
    part = app.partitions.part(queue)
    return values(of_tasks, of_queue) | ({} if part is None else shared(*part))


def shared(number: int, count: int) -> dict[str, str]:
    """Return what says that a partition has its share of what bounds the whole queue."""
    return {PART: f"{number} {count}" if count > 1 else ""}


def values(
    tasks: Iterable[tuple[str, TaskLimits | None]], of_queue: QueueLimits | None
) -> dict[str, str]:
    """Return limits as they are declared to Redis; "" for those that there are not, or not any more."""
    declared = {WHOLE_QUEUE: "" if of_queue is None else str(of_queue.limit or "")}
    if of_queue is not None and of_queue.ageing_ms is not None:
        declared[AGEING] = str(of_queue.ageing_ms)
    for task, limits in tasks:
        name, text = name_of(task), "" if limits is None else str(limits.limit)
        each = limits is not None and limits.by is not None
        declared[name], declared[name + EACH_KEY] = ("", text) if each else (text, "")
    return declared
