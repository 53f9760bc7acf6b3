"""Tasks that belong together: what a library ships, and an application includes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Protocol, TypeAlias, TypeVar, overload

from headrace.batches import Batching
from headrace.encryption import Encryption
from headrace.errors import InvalidSetting, UnknownTask
from headrace.function import is_async, is_generator, name_of_task
from headrace.hooks import Chain, Hooked
from headrace.lanes.declared import By, QueueLimits
from headrace.options import Seconds, task_options
from headrace.partitions.declared import Partitions
from headrace.partitions.names import ByQueue
from headrace.retry import Backoff
from headrace.schedules import Missed
from headrace.settings import DEFAULT_QUEUE
from headrace.stream_task import StreamTask
from headrace.task import AsyncTask, Task

if TYPE_CHECKING:
    from headrace.producer import Producer

P = ParamSpec("P")
R = TypeVar("R")
Yields: TypeAlias = Iterator[Any] | AsyncIterator[Any]
"""What a generator function returns."""


class Decorator(Protocol):
    """What ``@tasks.task(…)`` gives: it makes a task of a function, sync or async."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, Yields], /) -> StreamTask[P]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Task[P, R]: ...


class Tasks(Hooked, Batching):
    """A set of tasks without a Redis, for libraries: an application includes it.

    What a task leaves open (its queue, its attempts, …) is what the application says.

    Attributes:
        tasks: by name.
        queue_limits: limits of queues, by the queue's name.
        partitions: which queues are divided, and how.
        encryption: the keys for arguments and results; None without.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tasks: dict[str, Task[Any, Any]] = {}
        self._options: dict[str, dict[str, Any]] = {}  # as each task was declared
        self._chains: dict[str, Chain] = {}  # the hooks around each, the outermost first
        self._defaults: dict[str, Any] = {"queue": DEFAULT_QUEUE}
        self._including: list[Tasks] = []
        self.queue_limits: ByQueue[QueueLimits] = ByQueue()
        self.partitions = Partitions()
        self.encryption: Encryption | None = None

    def producer(self) -> Producer:
        """Return what enqueues the jobs of these tasks.

        Raises:
            InvalidSetting: no application includes them.
        """
        raise InvalidSetting(
            "these tasks belong to no application yet, so that nobody knows where their jobs go: "
            "app.include(tasks)"
        )

    @overload
    def task(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...
    @overload
    def task(self, function: Callable[P, Yields], /) -> StreamTask[P]: ...
    @overload
    def task(self, function: Callable[P, R], /) -> Task[P, R]: ...
    @overload
    def task(
        self,
        *,
        name: str | None = None,
        queue: str = ...,
        max_attempts: int = ...,
        backoff: Backoff | None = ...,
        timeout: Seconds | None = ...,
        retry_on: type[BaseException] | tuple[type[BaseException], ...] = ...,
        give_up_on: type[BaseException] | tuple[type[BaseException], ...] = ...,
        result_ttl: Seconds | None = ...,
        dead_letter: bool = ...,
        isolate: Literal["process"] | None = ...,
        memory: int | str | None = ...,
        cpu: Seconds | None = ...,
        soft_timeout: Seconds | None = ...,
        drop_expired: bool = ...,
        encrypted: bool | None = ...,
        rate_limit: str | float | None = ...,
        burst: int | None = ...,
        concurrency_limit: int | None = ...,
        limit_by: By = ...,
    ) -> Decorator: ...

    def task(  # type: ignore[misc]  # mypy does not see that **options takes the third form's names
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        name: str | None = None,
        **options: Any,
    ) -> Any:
        """Make a task of a function: ``@app.task`` or ``@app.task(max_attempts=5, …)``.

        Args:
            function: the function, sync or async.
            name: the name under which its jobs travel; by default the function's.
            options: what shall differ from the application's: ``queue``, ``max_attempts``,
                ``backoff``, ``timeout`` (s), ``retry_on`` and ``give_up_on`` (exception classes),
                ``result_ttl`` (s), ``dead_letter``, ``soft_timeout`` (s), ``drop_expired``;
                ``isolate="process"``, and with it ``memory`` (bytes, or "512M") and ``cpu`` (s).
                ``encrypted``: by default if there are keys (see docs/encryption.md).
                ``rate_limit`` ("100/s"), ``burst``, ``concurrency_limit``, ``limit_by`` (see
                docs/flow-control.md).

        Raises:
            InvalidSetting: an option has no meaning, the name is taken, or a generator keeps no results.
        """

        def decorate(function: Callable[..., Any]) -> Task[Any, Any]:
            kind = (
                StreamTask if is_generator(function) else AsyncTask if is_async(function) else Task
            )
            return self._declare(kind, function, name, options)

        return decorate if function is None else decorate(function)

    def every(
        self, period: Seconds, *, name: str | None = None, missed: Missed = "latest"
    ) -> Decorator:
        """Enqueue a job for the function each so many seconds: see ``Task.every``.

        Stands above ``@app.task(…)``, or makes a task by itself.

        Raises:
            InvalidSetting: an option has no meaning.
            InvalidArguments: the function needs arguments: declare it by ``task.every(…, args=…)``.
        """

        def decorate(function: Callable[..., Any]) -> Task[Any, Any]:
            task = self._task_of(function)
            task.every(period, name=name, missed=missed)
            return task

        return decorate  # type: ignore[return-value]  # of an async function it makes an AsyncTask

    def cron(
        self,
        expression: str,
        *,
        timezone: str = "UTC",
        name: str | None = None,
        missed: Missed = "latest",
    ) -> Decorator:
        """Enqueue a job for the function by a cron expression: see ``Task.cron``, and ``every``."""

        def decorate(function: Callable[..., Any]) -> Task[Any, Any]:
            task = self._task_of(function)
            task.cron(expression, timezone=timezone, name=name, missed=missed)
            return task

        return decorate  # type: ignore[return-value]  # as above

    def _task_of(self, function: Callable[..., Any]) -> Task[Any, Any]:
        return function if isinstance(function, Task) else self.task(function)

    def _declare(
        self,
        kind: type[Task[Any, Any]],
        function: Callable[..., Any],
        name: str | None,
        options: dict[str, Any],
    ) -> Task[Any, Any]:
        config = task_options(self._defaults | options)
        name = name_of_task(
            function, name, streams=kind is StreamTask and bool(config.result_ttl_s)
        )
        task = kind(function, name=name, config=config, producer=self.producer)
        task.queue_limits, task.partitions = self.queue_limits, self.partitions
        self._add(task, options, (self.hooks,))
        return task

    def include(self, tasks: Tasks) -> None:
        """Make the tasks of a library, or of another application, tasks of this one.

        Also those that are declared later. Their jobs go through this application from now on; if
        another one had included them before, those of ``task.enqueue`` go through that one still.

        Raises:
            InvalidSetting: a name is taken.
        """
        if tasks in self._all_that_have_them():
            raise InvalidSetting("an application cannot include itself")
        if self in tasks._including:
            return
        for name in tasks.tasks:
            self._check_free(name)
        for name, task in tasks.tasks.items():
            self._take(task, tasks._options[name], tasks._chains[name], first=not tasks._including)
        tasks._including.append(self)

    def find_task(self, name: str) -> Task[Any, Any]:
        """Return a task by name.

        Raises:
            UnknownTask: there is none; the message lists those that there are.
        """
        try:
            return self.tasks[name]
        except KeyError:
            known = ", ".join(sorted(self.tasks)) or "none"
            raise UnknownTask(f"there is no task {name!r} here; the tasks are: {known}") from None

    def _all_that_have_them(self) -> list[Tasks]:
        """Return this set, and all that include it."""
        all_ = (one._all_that_have_them() for one in self._including)  # noqa: SLF001 - of its own class
        return [self, *(one for some in all_ for one in some)]

    def _check_free(self, name: str) -> None:
        if any(name in one.tasks for one in self._all_that_have_them()):
            raise InvalidSetting(f"there is a task {name!r} already: give this one name=")

    def _add(self, task: Task[Any, Any], options: dict[str, Any], chain: Chain) -> None:
        self._check_free(task.name)
        self.tasks[task.name], self._options[task.name] = task, options
        self._chains[task.name] = chain
        task.hooked_by(chain)
        task.encrypted_by(self.encryption, wanted=options.get("encrypted"))
        for number, including in enumerate(self._including):
            including._take(task, options, chain, first=number == 0)  # noqa: SLF001 - of its own class

    def _take(
        self, task: Task[Any, Any], options: dict[str, Any], chain: Chain, *, first: bool
    ) -> None:
        """Take a task in that another set has declared; the first who does so gets its jobs."""
        config = task_options(self._defaults | options)
        if first:
            task.config, task.producer = config, self.producer
        else:
            kind, schedules = type(task), task.schedules
            function = task.generator if isinstance(task, StreamTask) else task.function
            task = kind(function, name=task.name, config=config, producer=self.producer)
            task.schedules = schedules
        task.queue_limits, task.partitions = self.queue_limits, self.partitions
        self._add(task, options, (self.hooks, *chain))
