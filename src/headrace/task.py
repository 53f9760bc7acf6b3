"""A task: the user's function, still callable, and the ways to enqueue jobs for it."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Generic, ParamSpec, TypeVar, Unpack, cast

from headrace import results
from headrace.context import Context
from headrace.conversion import Conversion, conversion_of
from headrace.encryption import ENCRYPTED, EncryptedTask, Seal
from headrace.errors import InvalidArguments, JobExists
from headrace.function import context_parameter, is_async
from headrace.hooks import HookedTask, asend_hooked, send_hooked
from headrace.ids import new_id
from headrace.job import Job
from headrace.keys import keys_of
from headrace.lanes.declared import NOWHERE, QueueLimits, lane_of_call
from headrace.operations import KEY_UNTIL_START
from headrace.options import ANYWHERE, JobOptions, Placement, TaskOptions, placement
from headrace.partitions.declared import UNDIVIDED
from headrace.partitions.names import mark_of
from headrace.producer import Call, Producer
from headrace.schedules import Declared, Schedulable
from headrace.wire import assemble, encode_call

P = ParamSpec("P")
R = TypeVar("R")


def prepare(
    name: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    queue: str,
    place: Placement,
    names: Sequence[str] = (),
    result_ttl_s: float | None = 0,
    decode: Callable[[Any], Any] | None = None,
    producer: Callable[[], Producer] | None = None,
    lane: tuple[str, str] = ("", ""),
    seal: Seal | None = None,
) -> Call[Any]:
    """Make a job of a call; ``lane``: the lane that it waits in, and its key there; ``seal`` encrypts it.

    Raises:
        InvalidJob: it cannot be a job; see its subclasses.
    """
    keys_of(queue)  # a name that cannot be one is the caller's error
    job_id = new_id() + mark_of(queue) if "@" in queue else new_id()
    fields = place.fields | {"lane": lane[1]} if lane[1] else place.fields
    if seal is not None:
        args, kwargs = seal(name, args, kwargs, names)
    body = encode_call(name, args, kwargs, names, **fields)
    if place.key_until == "start":
        body = KEY_UNTIL_START + body
    return Call(
        queue,
        job_id,
        assemble(job_id, body, place.priority, "" if place.key_ttl_ms else place.key or ""),
        place.due,
        place.priority,
        place.key,
        place.key_ttl_ms,
        place.fields.get("result_ttl", result_ttl_s),
        decode,
        producer,
        place.expires_ms,
        place.if_exists,
        lane[0],
    )


def job_handle(producer: Producer, call: Call[Any], job_id: str) -> Job[Any]:
    """Return the handle of an enqueued call; its id may be that of an earlier job with its key.

    Raises:
        JobExists: it is, and the call was to be rejected then.
    """
    # One whose expiry Redis' clock decides has other bytes by now.
    job = call.job if job_id == call.job_id and not call.expires_ms else b""
    handle: Job[Any] = Job(
        producer,
        call.queue,
        job_id,
        job=job,
        result_ttl_s=call.result_ttl_s,
        accepted=True,
        decode=call.decode,
    )
    if call.if_exists == "reject" and job_id != call.job_id:
        raise JobExists(f"job {job_id} in queue {call.queue!r} has this key already", handle)
    return handle


def enqueue_hooked(producer: Producer, calls: Sequence[Call[Any]]) -> list[Job[Any]]:
    """Enqueue calls of which some have hooks.

    Raises what ``Producer.send`` raises, and what the hooks do.
    """
    sent, ids = send_hooked(producer, calls)
    return [job_handle(producer, call, job_id) for call, job_id in zip(sent, ids, strict=True)]


async def aenqueue_hooked(producer: Producer, calls: Sequence[Call[Any]]) -> list[Job[Any]]:
    """Enqueue calls of which some have hooks, as ``enqueue_hooked`` does."""
    sent, ids = await asend_hooked(producer, calls)
    return [job_handle(producer, call, job_id) for call, job_id in zip(sent, ids, strict=True)]


class BoundTask(Schedulable, Generic[P, R]):
    """Ways to enqueue one task, under one set of job options."""

    def __init__(
        self, task: Task[P, R], place: Placement, options: JobOptions | None = None
    ) -> None:
        self._task = task
        self._place = place
        self._options = options

    def call(self, *args: P.args, **kwargs: P.kwargs) -> Call[R]:
        """Make a job without enqueuing it: for ``app.enqueue_many``.

        Raises:
            InvalidArguments: the call does not fit the function, or an argument its annotation.
            InvalidJob: an argument does not come back equal from JSON, or the job is too large.
        """
        task = self._task
        task.bind(args, kwargs)
        sent_args: tuple[Any, ...] = args
        sent_kwargs: dict[str, Any] = kwargs
        if task.conversion is not None:
            sent_args, sent_kwargs = task.conversion.encode(args, kwargs)
        place, lane = self._place, NOWHERE
        queue = place.queue or task.config.queue
        if task.config.flow_limits is not None or task.queue_limits or place.lane is not None:
            lane = lane_of_call(task, place, args, kwargs)
        if task.partitions.declared:
            queue = task.partitions.place(
                queue, args, kwargs, names=task.argument_names, key=place.key, lane=lane[0]
            )
        call = prepare(
            task.name,
            sent_args,
            sent_kwargs,
            queue=queue,
            place=place,
            names=task.argument_names,
            result_ttl_s=task.config.result_ttl_s,
            decode=task.decode_result,
            producer=task.producer,
            lane=lane,
            seal=task.seal,
        )
        if task.around_enqueue is None:
            return call
        return task.hooked_call(call, args, kwargs, self._options or {})

    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """Enqueue a job that calls the function with these arguments.

        Raises:
            InvalidArguments: the call does not fit the function, or an argument its annotation.
            InvalidJob: an argument does not come back equal from JSON, or the job is too large.
            JobExists: an earlier job has its key, and ``if_exists="reject"``.
            NotReplicated: too few replicas have confirmed the job; the primary has it.
            QueueFull: too many jobs wait already.
            StoreUnavailable: Redis cannot be reached; the job was not accepted.
            ReplyLost: the answer never came; the job may have been accepted.
            StoreRefused: Redis answered with an error; the job was not accepted.
        """
        call = self.call(*args, **kwargs)
        producer = self._task.producer()
        if type(call) is not Call:
            return enqueue_hooked(producer, (call,))[0]
        return job_handle(producer, call, producer.send((call,))[0])

    async def aenqueue(self, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """Enqueue a job, as ``enqueue`` does; calls under way together share a round trip."""
        call = self.call(*args, **kwargs)
        producer = self._task.producer()
        if type(call) is not Call:
            return (await aenqueue_hooked(producer, (call,)))[0]
        return job_handle(producer, call, (await producer.asend((call,)))[0])

    delay = enqueue
    """As ``enqueue``: the name that users of Celery know."""

    def _scheduled(self) -> tuple[str, list[Declared]]:
        return self._task.name, self._task.schedules

    def _call_of(self, task: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call[Any]:
        return BoundTask(task or self._task, self._place, self._options).call(*args, **kwargs)


class Task(BoundTask[P, R], HookedTask, EncryptedTask):
    """A function whose calls can be enqueued. Calling it calls the function, here and now.

    Args:
        function: the user's function, sync or async.
        name: the name under which its jobs travel.
        config: how its jobs are run.
        producer: gives the producer when the first job is enqueued.
    """

    def __init__(
        self,
        function: Callable[P, R],
        *,
        name: str,
        config: TaskOptions,
        producer: Callable[[], Producer],
    ) -> None:
        super().__init__(self, ANYWHERE)
        # Of an object that can be called, the attributes are its own business.
        plain = inspect.isfunction(function)
        functools.update_wrapper(self, function, updated=("__dict__",) if plain else ())
        self.function = function
        self.name = name
        self.config = config
        self.producer = producer
        self.schedules: list[Declared] = []
        self.is_async: bool = is_async(function)
        self.context_parameter: str | None = context_parameter(function)
        signature = inspect.signature(function)
        parameters = self._passed(function, signature)
        names = [parameter.name for parameter in parameters]
        self._context_at: int | None = None  # where it stands among positional arguments
        if self.context_parameter is not None:
            context = parameters.pop(names.index(self.context_parameter))
            if context.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:
                self._context_at = names.index(context.name)
        self._signature = inspect.Signature(parameters)
        self._arity = _arity(self._signature)
        self.argument_names: list[str] = [
            one.name for one in parameters if one.kind <= one.POSITIONAL_OR_KEYWORD
        ]
        self.encode_result: Callable[[Any], bytes] = results.encode_value
        self.decode_result: Callable[[Any], Any] | None = None
        self.conversion: Conversion | None = conversion_of(
            name, function, parameters, signature.return_annotation
        )
        if self.conversion is not None:
            self.encode_result = self.conversion.encode_result
            self.decode_result = self.conversion.decode_result
        self._takes_plain = self.conversion is None and self.context_parameter is None
        self.queue_limits: Mapping[str, QueueLimits] = {}
        self.partitions = UNDIVIDED

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function, here and now."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"Task({self.name!r})"

    def options(self, **options: Unpack[JobOptions]) -> BoundTask[P, R]:
        """Return the same ways to enqueue, under job options: see ``JobOptions``.

        Raises:
            InvalidJob: an option is unknown, or its value has no meaning.
        """
        return BoundTask(self, placement(options), options)

    def call_with(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], options: JobOptions
    ) -> Call[R]:
        """Make a job under job options, without enqueuing it.

        Raises what ``options`` and ``call`` raise.
        """
        return (self.options(**options) if options else self).call(*args, **kwargs)

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Check that a call fits the function's signature.

        Raises:
            InvalidArguments: it does not.
        """
        if not kwargs and self._arity[0] <= len(args) <= self._arity[1]:
            return
        try:
            self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise InvalidArguments(f"{self.name}{self._signature}: {error}") from None

    def arguments(
        self, args: Sequence[Any], kwargs: dict[str, Any], context: Context
    ) -> tuple[Sequence[Any], dict[str, Any]]:
        """Return a job's arguments as the function takes them: with the context, if it asks for it.

        Raises:
            InvalidArguments: one does not fit its annotation; or they cannot be decrypted here.
        """
        if ENCRYPTED in kwargs or context.hand_off is not None:  # of a workflow they are results
            args, kwargs = self.opened(args, kwargs, context.job)
        if self._takes_plain:  # most functions: asked once for both
            return args, kwargs
        if self.conversion is not None:
            args, kwargs = self.conversion.decode(args, kwargs)
        if self.context_parameter is None:
            return args, kwargs
        if self._context_at is None or self._context_at >= len(args):
            return args, {**kwargs, self.context_parameter: context}
        kwargs = {name: value for name, value in kwargs.items() if name != self.context_parameter}
        return [*args[: self._context_at], context, *args[self._context_at :]], kwargs


class AsyncTask(Task[P, R]):
    """A task whose function is async: calling it gives a coroutine."""

    def __call__(  # type: ignore[override]
        self, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, R]:
        """Call the function, here and now."""
        coroutine: Any = self.function(*args, **kwargs)
        return cast("Coroutine[Any, Any, R]", coroutine)


def _arity(signature: inspect.Signature) -> tuple[int, float]:
    """Return how many positional arguments fit when there are no others; binding them takes longer."""
    least, most = 0, 0.0
    for parameter in signature.parameters.values():
        required = parameter.default is parameter.empty
        if parameter.kind is parameter.VAR_POSITIONAL:
            most = math.inf
        elif parameter.kind is parameter.KEYWORD_ONLY and required:
            return 1, 0  # none do
        elif parameter.kind in {parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD}:
            least, most = least + required, most + 1
    return least, most
