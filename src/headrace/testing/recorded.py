"""What a test sees of a job, and what it expects: ``jobs.enqueued == [call(send_mail, 5)]``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, ParamSpec, Protocol, TypeVar, overload

from headrace import wire
from headrace.context import StopReason
from headrace.errors import InvalidArguments
from headrace.keys import Keys
from headrace.options import ANYWHERE
from headrace.producer import Call
from headrace.task import BoundTask, Task
from headrace.wire import Body, Head

P = ParamSpec("P")
R = TypeVar("R")

Stage = Literal["pending", "delayed", "processing", "done", "dead", "dropped", "cancelled"]


class Awaited(Protocol):
    """A job or a workflow for whose end somebody waits."""

    @property
    def over(self) -> bool:
        """Whether it has ended."""


@dataclass(eq=False)
class Recorded:
    """One job of a test, from its enqueue on.

    Attributes:
        id: its id.
        task: the name of its task.
        args, kwargs: what it was enqueued with, as its function gets them.
        queue: where it went.
        priority: -100 … 100.
        due: when it was asked to run: "" now, "+ms" from then, "@ms" since 1970.
        key: its unique key, as it was given, percent-encoded; None without one.
        options: ``timeout``, ``max_attempts`` and ``result_ttl``, where this job has its own.
        state: pending, delayed, processing, done, dead, dropped (dead, and its task keeps no dead letters)
            or cancelled.
        runs: how often its function was called.
        value: what its function returned, as whoever waits for the result gets it; None before.
        error: what its last run raised; None when it raised nothing.
        due_at_ms: when it is due, ms since 1970 by the clock of the test; 0 when it is not delayed.
        job: its bytes as they stand now; a dead one's letter.
    """

    id: str
    task: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    queue: str
    priority: int
    due: str
    key: str | None
    options: dict[str, Any]
    job: bytes
    k: Keys = field(repr=False)
    known: Task[Any, Any] | None = None
    state: Stage = "pending"
    runs: int = 0
    value: Any = None
    error: BaseException | None = None
    due_at_ms: int = 0
    turn: int = 0
    end: bytes = b""
    end_until_ms: int = 0
    cancelled_at_ms: int = 0
    stop: Callable[[StopReason], None] | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        """Return it as a test would write it down."""
        said = self.options | ({"queue": self.queue} if self._queue_is_its_own else {})
        said |= _told(self.due, self.priority, self.key)
        return _shown(self.task, said, self.args, self.kwargs)

    @property
    def head(self) -> Head:
        """Its counters, as they stand in its bytes now: ``attempt``, ``delivery``, ``crashes``."""
        parts = wire.split(self.job)
        return parts[0] if parts is not None else Head(self.id)

    @property
    def attempt(self) -> int:
        """How many runs ended in failure."""
        return self.head.attempt

    @property
    def delivery(self) -> int:
        """How often it went back from processing, for whatever reason."""
        return self.head.delivery

    @property
    def crashes(self) -> int:
        """How often because its consumer was lost."""
        return self.head.crashes

    @property
    def reason(self) -> str:
        """Why it is dead, as its letter says; "" when it is not."""
        error = wire.read_error(self.job) if self.state == "dead" else None
        return error.reason if error is not None else ""

    @property
    def delay_s(self) -> float:
        """The ``delay=`` that it was enqueued with, seconds; 0 for none."""
        return int(self.due[1:]) / 1000 if self.due.startswith("+") else 0.0

    @property
    def over(self) -> bool:
        """Whether nothing more happens to it by itself."""
        return self.state in ("done", "dead", "dropped", "cancelled")

    @property
    def _queue_is_its_own(self) -> bool:
        return self.known is not None and self.queue != self.known.config.queue


class ExpectedCall:
    """A job as a test expects it: see ``call``."""

    def __init__(
        self,
        task: BoundTask[Any, Any] | str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self._known: Task[Any, Any] | None = None
        self._place = ANYWHERE
        if isinstance(task, BoundTask):
            self._known, self._place = task._task, task._place  # noqa: SLF001 - the two that make it up
            self._known.bind(args, kwargs)
        # ``due`` says in the body what the place says, too.
        self._fields = {name: one for name, one in self._place.fields.items() if name != "due"}
        self.task: str = task if isinstance(task, str) else task._task.name  # noqa: SLF001
        self.args: tuple[Any, ...] = args
        self.kwargs: dict[str, Any] = kwargs

    def __repr__(self) -> str:
        """Return it as a test would write it down."""
        place = self._place
        said = self._fields | ({"queue": place.queue} if place.queue is not None else {})
        said |= _told(place.due, place.priority, place.key)
        return _shown(self.task, said, self.args, self.kwargs)

    def __eq__(self, other: object) -> bool:
        """Whether a job is the expected one."""
        if not isinstance(other, Recorded):
            return NotImplemented
        return self.task == other.task and self._places(other) and self._arguments(other)

    __hash__: None = None  # type: ignore[assignment]  # its arguments may be anything

    def _places(self, other: Recorded) -> bool:
        place = self._place
        return (
            place.queue in (None, other.queue)
            and place.due in ("", other.due)
            and place.priority in (0, other.priority)
            and place.key in (None, other.key)
            and self._fields.items() <= other.options.items()
        )

    def _arguments(self, other: Recorded) -> bool:
        mine, theirs = (self.args, self.kwargs), (other.args, other.kwargs)
        if mine == theirs or self._known is None:
            return bool(mine == theirs)
        try:
            return bool(_by_name(self._known, *mine) == _by_name(self._known, *theirs))
        except TypeError:  # another version of the function was called
            return False


@overload
def call(task: BoundTask[P, R], /, *args: P.args, **kwargs: P.kwargs) -> ExpectedCall: ...
@overload
def call(task: str, /, *args: Any, **kwargs: Any) -> ExpectedCall: ...
def call(task: Any, /, *args: Any, **kwargs: Any) -> ExpectedCall:
    """Describe a job that a test expects: ``assert jobs.enqueued == [call(send_mail, 5)]``.

    Options are compared where they are given: ``call(send_mail.options(delay=60), 5)``. What compares
    equal to anything (``unittest.mock.ANY``) may stand among the arguments.

    Args:
        task: the task, ``task.options(…)``, or a task's name.
        args: its arguments, by position or by name, whichever way the job was enqueued.
        kwargs: the same.

    Raises:
        InvalidArguments: no such call could be enqueued, for it does not fit the function.
    """
    return ExpectedCall(task, args, kwargs)


def recorded(sent: Call[Any], k: Keys, tasks: Mapping[str, Task[Any, Any]], body: Body) -> Recorded:
    """Make the record of a job that was enqueued."""
    known = tasks.get(body.task)
    args, kwargs = _as_the_function_gets_them(known, body, sent.job)
    named = {
        "timeout": body.timeout,
        "max_attempts": body.max_attempts,
        "result_ttl": body.result_ttl,
    }
    return Recorded(
        id=sent.job_id,
        task=body.task,
        args=args,
        kwargs=kwargs,
        queue=sent.queue,
        priority=sent.priority,
        due=sent.due,
        key=sent.key,
        options={name: value for name, value in named.items() if value is not None},
        job=sent.job,
        k=k,
        known=known,
    )


def _as_the_function_gets_them(
    known: Task[Any, Any] | None, body: Body, job: bytes
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if known is None:
        return tuple(body.args), body.kwargs
    try:
        args, kwargs = known.opened(body.args, body.kwargs, job)
        if known.conversion is not None:
            args, kwargs = known.conversion.decode(args, kwargs)
    except InvalidArguments:  # of another version of the function: its run will tell
        return tuple(body.args), body.kwargs
    return tuple(args), kwargs


def _by_name(task: Task[Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    return task._signature.bind(*args, **kwargs).arguments  # noqa: SLF001 - as Task.bind does


def _told(due: str, priority: int, key: str | None) -> dict[str, Any]:
    said: dict[str, Any] = {}
    if due:
        said["delay" if due[0] == "+" else "at"] = int(due[1:]) / 1000
    if priority:
        said["priority"] = priority
    if key is not None:
        said["key"] = key
    return said


def _shown(
    task: str, options: Mapping[str, Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> str:
    said = ", ".join(
        f"{name}={value:.15g}" if isinstance(value, float) else f"{name}={value!r}"
        for name, value in options.items()
    )
    named = (f"{name}={value!r}" for name, value in kwargs.items())
    what = f"{task}.options({said})" if said else task
    return f"call({', '.join([what, *map(repr, args), *named])})"
