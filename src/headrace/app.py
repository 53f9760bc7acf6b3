"""The application: which tasks there are, and where their jobs go."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import Any, ParamSpec, Protocol, TypeVar, overload

from headrace.errors import InvalidJob, InvalidSetting, UnknownTask
from headrace.function import is_async, name_of_task
from headrace.job import Job
from headrace.keys import keys_of
from headrace.options import JobOptions, Placement, Seconds, TaskOptions, placement, seconds, types
from headrace.producer import CONFIRM_S, Call, Producer
from headrace.retry import Backoff
from headrace.settings import DEFAULT_QUEUE, RedisUrl, redis_url
from headrace.task import AsyncTask, Task, job_handle, prepare

P = ParamSpec("P")
R = TypeVar("R")


class Decorator(Protocol):
    """What ``@app.task(…)`` gives: it makes a task of a function, sync or async."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Task[P, R]: ...


class Headrace:
    """A set of tasks and the Redis that their jobs travel through.

    Nothing is connected until the first job is enqueued.

    Args:
        url: where Redis is, or the Sentinels that know; else HEADRACE_URL, else REDIS_URL, else
            redis://127.0.0.1:6379/0.
        queue: where jobs go whose task names no other queue.
        max_attempts: failed runs after which a job is dead, unless its task says otherwise.
        backoff: how long to wait between attempts, unless the task says otherwise.
        timeout: seconds a run may take, unless the task says otherwise.
        result_ttl: seconds results are kept, unless the task says otherwise; None for not at all.
        dead_letter: keep jobs that failed for good, unless the task says otherwise.
        max_pending: refuse jobs for a queue in which so many wait; 0 for never.
        confirm_replicas: how many replicas must have a job before its enqueue returns, else it
            raises NotReplicated; 0 does not ask. Best effort: it needs ``min-replicas-to-write`` on
            the servers, too (docs/sentinel.md).
        confirm_timeout: seconds that they have to say so.

    Raises:
        InvalidSetting: an argument has no meaning.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        queue: str = DEFAULT_QUEUE,
        max_attempts: int = 3,
        backoff: Backoff | None = None,
        timeout: Seconds | None = None,
        result_ttl: Seconds | None = None,
        dead_letter: bool = True,
        max_pending: int = 0,
        confirm_replicas: int = 0,
        confirm_timeout: Seconds = CONFIRM_S,
    ) -> None:
        keys_of(queue)
        self.redis_url: RedisUrl = redis_url(url)
        self.queue = queue
        self.tasks: dict[str, Task[Any, Any]] = {}
        if isinstance(confirm_replicas, bool) or confirm_replicas < 0:
            raise InvalidSetting(f"confirm_replicas={confirm_replicas!r} must be 0 or more")
        self._sending: dict[str, Any] = {
            "max_pending": max_pending,
            "confirm_replicas": confirm_replicas,
            "confirm_timeout_s": seconds("confirm_timeout", confirm_timeout, zero=False),
        }
        self._defaults: dict[str, Any] = {
            "queue": queue,
            "max_attempts": max_attempts,
            "backoff": backoff,
            "timeout": timeout,
            "result_ttl": result_ttl,
            "dead_letter": dead_letter,
        }
        self._task_options({})
        self._producer: Producer | None = None

    def use(self, url: str) -> None:
        """Point the application at another Redis: for programs that are told where it is.

        Raises:
            InvalidSetting: the URL is not valid.
        """
        self.redis_url = redis_url(url)
        self._producer = None

    def producer(self) -> Producer:
        """Return the producer that all tasks share."""
        if self._producer is None:
            self._producer = Producer(self.redis_url.url, **self._sending)
        return self._producer

    @overload
    def task(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...
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
                ``result_ttl`` (s), ``dead_letter``.

        Raises:
            InvalidSetting: an option has no meaning, the name is taken, or the function is a generator.
        """

        def decorate(function: Callable[..., Any]) -> Task[Any, Any]:
            task_name = name_of_task(function, name)
            if task_name in self.tasks:
                raise InvalidSetting(f"there is a task {task_name!r} already: give this one name=")
            kind = AsyncTask if is_async(function) else Task
            task: Task[Any, Any] = kind(
                function,
                name=task_name,
                config=self._task_options(options),
                producer=self.producer,
            )
            self.tasks[task_name] = task
            return task

        return decorate if function is None else decorate(function)

    def enqueue(self, name: str, /, *args: Any, **kwargs: Any) -> Job[Any]:
        """Enqueue a job by its task's name, which need not be known here.

        Raises what ``Task.enqueue`` raises.
        """
        call = self.call(name, *args, **kwargs)
        producer = self.producer()
        return job_handle(producer, call, producer.send((call,))[0])

    async def aenqueue(self, name: str, /, *args: Any, **kwargs: Any) -> Job[Any]:
        """Enqueue a job by its task's name, as ``enqueue`` does."""
        call = self.call(name, *args, **kwargs)
        producer = self.producer()
        return job_handle(producer, call, (await producer.asend((call,)))[0])

    def call(self, name: str, /, *args: Any, **kwargs: Any) -> Call[Any]:
        """Make a job by its task's name without enqueuing it: for ``enqueue_many``.

        Raises:
            InvalidArguments: the task is known here, and the call does not fit it.
            InvalidJob: an argument does not come back equal from JSON, or the job is too large.
        """
        return self.call_with(name, args, kwargs, {})

    def call_with(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], options: JobOptions
    ) -> Call[Any]:
        """Make a job by name under job options, without enqueuing it.

        Raises what ``call`` raises.
        """
        task = self.tasks.get(_name(name))
        if task is not None:
            return (task.options(**options) if options else task).call(*args, **kwargs)
        place = placement(options) if options else Placement()
        return prepare(name, args, kwargs, queue=self.queue, place=place)

    def enqueue_many(self, calls: Iterable[Call[Any]]) -> list[Job[Any]]:
        """Enqueue many jobs in few round trips: ``app.enqueue_many(add.call(i, 1) for i in …)``.

        Up to 1,000 jobs and about 1 MiB for one queue are accepted together or not at all. When a
        larger call fails half way, the error's ``accepted`` lists what was enqueued for certain.

        Raises what ``Task.enqueue`` raises.
        """
        calls, producer = _checked(calls), self.producer()
        ids = producer.send(calls)
        return [job_handle(producer, call, job_id) for call, job_id in zip(calls, ids, strict=True)]

    async def aenqueue_many(self, calls: Iterable[Call[Any]]) -> list[Job[Any]]:
        """Enqueue many jobs, as ``enqueue_many`` does."""
        calls, producer = _checked(calls), self.producer()
        ids = await producer.asend(calls)
        return [job_handle(producer, call, job_id) for call, job_id in zip(calls, ids, strict=True)]

    def job(self, job_id: str, *, queue: str | None = None) -> Job[Any]:
        """Return the handle of a job that somebody else enqueued."""
        return Job(self.producer(), queue or self.queue, job_id)

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

    def close(self) -> None:
        """Close the connections that enqueuing opened. The application can be used again."""
        if self._producer is not None:
            self._producer.close()

    async def aclose(self) -> None:
        """Close the connections that enqueuing opened in this event loop, and the blocking ones."""
        if self._producer is not None:
            await self._producer.aclose()
        self.close()

    def _task_options(self, options: dict[str, Any]) -> TaskOptions:
        chosen = self._defaults | {"retry_on": BaseException, "give_up_on": ()} | options
        if unknown := set(chosen) - {*self._defaults, "retry_on", "give_up_on"}:
            raise InvalidSetting(f"unknown task option {', '.join(sorted(unknown))}")
        keys_of(chosen["queue"])

        def optional(name: str) -> float | None:
            return None if chosen[name] is None else seconds(name, chosen[name], zero=False)

        return TaskOptions(
            queue=chosen["queue"],
            max_attempts=chosen["max_attempts"],
            backoff=chosen["backoff"] or Backoff(),
            timeout_s=optional("timeout"),
            retry_on=types("retry_on", chosen["retry_on"]),
            give_up_on=types("give_up_on", chosen["give_up_on"]),
            result_ttl_s=optional("result_ttl"),
            dead_letter=bool(chosen["dead_letter"]),
        )


def _name(name: object) -> str:
    if not isinstance(name, str):
        say = "a task enqueues itself, as in add.enqueue(1, 2)"
        raise InvalidJob(f"enqueue takes the name of a task, not {name!r}; {say}")
    return name


def _checked(calls: Iterable[Call[Any]]) -> list[Call[Any]]:
    found: list[Any] = list(calls)
    for number, one in enumerate(found, 1):
        if not isinstance(one, Call):
            made = "as add.call(1, 2) and app.call('add', 1, 2) make them"
            raise InvalidJob(f"enqueue_many takes calls, {made}; number {number} is {type(one)!r}")
    return found
