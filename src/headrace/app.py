"""The application: which tasks there are, and where their jobs go."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from headrace.discovery import import_packages
from headrace.encryption import Encryption, from_environment, opener_of, sealer_of
from headrace.errors import InvalidArguments, InvalidJob, InvalidSetting
from headrace.flow_control import LaneProducer
from headrace.hooks import Chain, EnqueueRequest, around_enqueue_of
from headrace.job import Job
from headrace.keys import keys_of
from headrace.lanes.declared import By, declared, lane_of_name, queue_limits
from headrace.lifespan import Lifespan
from headrace.options import ANYWHERE, JobOptions, Seconds, placement, seconds, task_options
from headrace.partitions.names import place_of
from headrace.producer import CONFIRM_S, Call, Producer
from headrace.retry import Backoff
from headrace.schedules import Definition, Manager, definitions_of
from headrace.settings import DEFAULT_QUEUE, RedisUrl, redis_url
from headrace.task import Task, aenqueue_hooked, enqueue_hooked, job_handle, prepare
from headrace.tasks import Tasks
from headrace.workflows.workflow import Workflow

Caller = Callable[[tuple[Any, ...], dict[str, Any]], Call[Any]]
"""Makes a job of arguments."""


class Headrace(Tasks):
    """A set of tasks and the Redis that their jobs travel through.

    Nothing is connected until the first job is enqueued.

    Args:
        url: where Redis is, or the Sentinels that know, or nodes of a cluster; else HEADRACE_URL, else
            REDIS_URL, else redis://127.0.0.1:6379/0.
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
        lifespan: what a consumer opens before its first job and closes after the last: a function
            of the application under ``@asynccontextmanager`` (or ``@contextmanager``). What it yields,
            a mapping, is each job's ``Context.state``.

        encryption: the keys with which arguments and results are encrypted, and decrypted; else those
            of HEADRACE_ENCRYPTION_KEYS, if there are some. See docs/encryption.md.

    Attributes:
        lifespan, encryption: the same.
        schedules: those that are changed while the application runs.

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
        lifespan: Lifespan[Headrace] | None = None,
        encryption: Encryption | None = None,
    ) -> None:
        super().__init__()
        keys_of(queue)
        self.redis_url: RedisUrl = redis_url(url)
        self.queue = queue
        self.lifespan = lifespan
        self.encryption = encryption or from_environment()
        if isinstance(confirm_replicas, bool) or confirm_replicas < 0:
            raise InvalidSetting(f"confirm_replicas={confirm_replicas!r} must be 0 or more")
        self._sending: dict[str, Any] = {
            "max_pending": max_pending,
            "confirm_replicas": confirm_replicas,
            "confirm_timeout_s": seconds("confirm_timeout", confirm_timeout, zero=False),
        }
        self._defaults = {
            "queue": queue,
            "max_attempts": max_attempts,
            "backoff": backoff,
            "timeout": timeout,
            "result_ttl": result_ttl,
            "dead_letter": dead_letter,
        }
        task_options(self._defaults)
        self.schedules: Manager = Manager(self.producer, self.partitions)
        self._packages: list[str] = []
        self._producer: Producer | None = None
        self._making = threading.Lock()
        self._held = False  # by a test, whose producer it keeps

    def use(self, url: str) -> None:
        """Point the application at another Redis: for programs that are told where it is.

        Raises:
            InvalidSetting: the URL is not valid.
        """
        self.redis_url = redis_url(url)
        if not self._held:
            self._producer = None

    def producer(self) -> Producer:
        """Return the producer that all tasks share."""
        if self._producer is None:
            # Of two threads that send first, one would else have a producer that nobody closes.
            with self._making:
                self._producer = self._producer or self._new_producer()
        return self._producer

    def _new_producer(self) -> Producer:
        limited = self.queue_limits or any(t.config.flow_limits for t in self.tasks.values())
        url, limits_of = self.redis_url.url, partial(declared, self)
        if limited or self.partitions.declared:
            return LaneProducer(url, limits_of, self.partitions, **self._sending)
        return Producer(url, **self._sending)

    def _add(self, task: Task[Any, Any], options: dict[str, Any], chain: Chain) -> None:
        super()._add(task, options, chain)
        if task.config.flow_limits is not None:
            self._know_queues()

    def _know_queues(self) -> None:
        """Part with a producer that was made when nothing was limited or divided: it knows nothing of that."""
        if type(self._producer) is Producer:
            self._producer.close()
            self._producer = None

    def declared_schedules(self) -> dict[str, Definition]:
        """Return the schedules that the tasks declare, by name: consumers make them known.

        Raises:
            InvalidSetting: two have one name.
        """
        return definitions_of(self.tasks)

    def enqueue(self, name: str, /, *args: Any, **kwargs: Any) -> Job[Any]:
        """Enqueue a job by its task's name, which need not be known here.

        Raises what ``Task.enqueue`` raises.
        """
        return self.enqueue_many((self.call(name, *args, **kwargs),))[0]

    async def aenqueue(self, name: str, /, *args: Any, **kwargs: Any) -> Job[Any]:
        """Enqueue a job by its task's name, as ``enqueue`` does."""
        return (await self.aenqueue_many((self.call(name, *args, **kwargs),)))[0]

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
        return self.caller(name, options)(args, kwargs)

    def caller(self, name: str, options: JobOptions) -> Caller:
        """Return what makes jobs by name, as ``call_with`` does: what many have in common is looked up once.

        Raises what ``call`` raises, here or when it makes one.
        """
        if (task := self.tasks.get(_name(name))) is not None:
            return partial(task.call_with, options=options)
        place = placement(options) if options else ANYWHERE
        lane, queue = lane_of_name(self.queue_limits, place, self.queue), place.queue or self.queue
        decode, seal = opener_of(self.encryption), sealer_of(self.encryption)
        around, parts = around_enqueue_of((self.hooks,)), self.partitions

        def make(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call[Any]:
            to = queue
            if parts.declared:
                to = parts.place(queue, args, kwargs, key=place.key, lane=lane[0])
            call = prepare(
                name, args, kwargs, queue=to, place=place, producer=self.producer, lane=lane,
                decode=decode, seal=seal,
            )  # fmt: skip
            if around is None:
                return call
            request = EnqueueRequest(name, args, kwargs, options.copy())
            return around.hooked(call, request, partial(self.call_with, name))

        return make

    def enqueue_many(self, calls: Iterable[Call[Any]]) -> list[Job[Any]]:
        """Enqueue many jobs in few round trips: ``app.enqueue_many(add.call(i, 1) for i in …)``.

        Up to 1,000 jobs and about 1 MiB for one queue are accepted together or not at all. When a
        larger call fails half way, the error's ``accepted`` lists what was enqueued for certain.

        Raises what ``Task.enqueue`` raises; InvalidArguments, too, when one of them is no call.
        """
        calls, producer = _checked(calls), self.producer()
        if {*map(type, calls)} - {Call}:
            return enqueue_hooked(producer, calls)
        ids = producer.send(calls)
        return [job_handle(producer, call, job_id) for call, job_id in zip(calls, ids, strict=True)]

    async def aenqueue_many(self, calls: Iterable[Call[Any]]) -> list[Job[Any]]:
        """Enqueue many jobs, as ``enqueue_many`` does."""
        calls, producer = _checked(calls), self.producer()
        if {*map(type, calls)} - {Call}:
            return await aenqueue_hooked(producer, calls)
        ids = await producer.asend(calls)
        return [job_handle(producer, call, job_id) for call, job_id in zip(calls, ids, strict=True)]

    def job(self, job_id: str, *, queue: str | None = None) -> Job[Any]:
        """Return the handle of a job that somebody else enqueued."""
        place, decode = place_of(job_id, queue or self.queue), opener_of(self.encryption)
        return Job(self.producer(), place, job_id, decode=decode)

    def workflow(self, workflow_id: str, *, queue: str | None = None) -> Workflow:
        """Return the handle of a workflow that somebody else started; ``queue``: that of its first job."""
        decode = opener_of(self.encryption)
        return Workflow(self.producer(), queue or self.queue, workflow_id, decode=decode)

    def limit_queue(
        self,
        queue: str,
        *,
        rate_limit: str | float | None = None,
        burst: int | None = None,
        concurrency_limit: int | None = None,
        fair_by: By = None,
        priority_ageing: Seconds | None = None,
    ) -> None:
        """Bound how jobs of a queue begin, whatever their tasks, or let keys have their turns in it.

        Args:
            queue: the queue.
            rate_limit: how many begin in a time, over all consumers: "100/s", "10/m".
            burst: how many may begin at once after a rest; by default a tenth of a second's worth.
            concurrency_limit: how many run at once, over all consumers.
            fair_by: jobs with different keys have their turns: an argument's name, or a function that
                is called as the task is, and gives the key.
            priority_ageing: how many seconds of waiting a point of priority is worth; 60 by default.

        Raises:
            InvalidSetting: an argument has no meaning.
        """
        keys_of(queue)
        ageing_s = None if priority_ageing is None else seconds("priority_ageing", priority_ageing)
        limits = queue_limits(rate_limit, concurrency_limit, burst, fair_by, ageing_s)
        self.partitions.check(queue, limits)
        self.queue_limits[queue] = limits
        self._know_queues()

    def partition_queue(self, queue: str, partitions: int, *, by: By = None) -> None:
        """Divide a queue into partitions, each of which may be on another node of a cluster.

        Whoever enqueues into it has to say so, too. How many there are is changed while it is used by
        ``headrace partition``, whose word counts from then on: see docs/partitions.md.

        Args:
            queue: the queue.
            partitions: how many, from 1 to 1,000.
            by: jobs with one key go to one partition, in order: an argument's name, or a function that
                is called as the task is, and gives the key. Others go to all partitions in turn.

        Raises:
            InvalidSetting: an argument has no meaning, or the queue has a limit as a whole.
        """
        self.partitions.declare(queue, partitions, by, self.queue_limits.get(queue))
        self._know_queues()

    def discover(self, *packages: str) -> None:
        """Have consumers import packages, with all their modules, for the tasks in them.

        Not here and now, for they import the application in their turn.

        Args:
            packages: names as in ``import``: ``"shop.jobs"``.
        """
        self._packages += packages

    def import_discovered(self) -> None:
        """Import what ``discover`` was given: a consumer does so before it begins.

        Raises:
            InvalidSetting: a module cannot be imported; the message says which and why.
        """
        import_packages(self._packages)

    def close(self) -> None:
        """Close the connections that enqueuing opened. The application can be used again."""
        if self._producer is not None:
            self._producer.close()

    async def aclose(self) -> None:
        """Close the connections that enqueuing opened in this event loop, and the blocking ones."""
        if self._producer is not None:
            await self._producer.aclose()
        self.close()


def _name(name: object) -> str:
    if not isinstance(name, str):
        say = "a task enqueues itself, as in add.enqueue(1, 2)"
        raise InvalidJob(f"enqueue takes the name of a task, not {name!r}; {say}")
    return name


def _checked(calls: Iterable[Call[Any]]) -> list[Call[Any]]:
    say = "enqueue_many takes calls, as add.call(1, 2) and app.call('add', 1, 2) make them"
    if isinstance(calls, Call) or not isinstance(calls, Iterable):
        # A call is a tuple itself.
        raise InvalidArguments(f"{say}; it got a single {type(calls).__name__}: put it into a list")
    found: list[Any] = list(calls)
    for number, one in enumerate(found, 1):
        if not isinstance(one, Call):
            what = f"{type(one).__name__}, {one!r:.80}"
            raise InvalidArguments(f"{say}; number {number} is of type {what}")
    return found
