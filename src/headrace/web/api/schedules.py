"""Schedules: see, add, change, pause and remove them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from datetime import datetime
from typing import Annotated, Any, Final, TypedDict, cast

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from headrace import redaction
from headrace.app import Headrace
from headrace.flows import Flow
from headrace.hooks import apassed
from headrace.options import JobOptions
from headrace.schedules import Missed, Schedule, changes, define, timing_of
from headrace.store import AsyncStore
from headrace.web.access import may_use, who_asks
from headrace.web.answers import answer
from headrace.web.api.asked import read
from headrace.web.openapi import Endpoint
from headrace.web.problems import Refusal
from headrace.web.shapes import Priority, QueueName, as_whole, has
from headrace.wire import MAX_TASK_NAME

_TICKS: Final = 5  # that are shown ahead

ScheduleName = Annotated[
    str,
    Meta(
        description="Up to 255 characters, no white space.",
        extra_json_schema={"pattern": r"^[^\s\x00-\x1f\x7f]{1,255}$"},
    ),
]


class NewSchedule(msgspec.Struct, forbid_unknown_fields=True):
    """When the ticks are, and what each enqueues. Give `cron` or `every`."""

    task: Annotated[str, Meta(min_length=1, max_length=MAX_TASK_NAME)]
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    cron: Annotated[str, Meta(max_length=200)] | None = None
    every: Annotated[float, Meta(ge=0.1, le=1e9, description="Seconds.")] | None = None
    timezone: Annotated[str, Meta(max_length=100)] = "UTC"
    missed: Missed = "latest"
    queue: QueueName | None = None
    priority: Priority | None = None
    replace: Annotated[bool, Meta(description="Change the one that is there.")] = False


_ONE_TIMING: Final = Meta(extra_json_schema={"oneOf": [has("cron"), has("every")]})


class ScheduleView(TypedDict):
    """A schedule; instants are seconds since 1970."""

    name: str
    task: str
    queue: str
    when: str
    missed_policy: str
    paused: bool
    next_at: float | None
    next_ticks: list[float]
    fired: int
    missed: int
    last_due_at: float | None
    last_fired_at: float | None
    drift_s: Annotated[float | None, Meta(description="How late the last tick fired.")]
    missed_at: float | None
    declared: Annotated[bool, Meta(description="It stands in the code of an application.")]
    declared_at: float | None
    undeclared: Annotated[bool, Meta(description="It did, and no running application says so.")]
    broken: Annotated[str, Meta(description='Why it has no ticks, or "".')]
    job: Annotated[dict[str, Any] | None, Meta(description="What each tick enqueues.")]


class ScheduleList(TypedDict):
    """All schedules, by name."""

    schedules: list[ScheduleView]


class Changed(TypedDict):
    """A schedule, and whether something changed."""

    name: str
    changed: bool


_NEW: Final = msgspec.json.Decoder(NewSchedule)


class Schedules:
    """The endpoints of schedules.

    Args:
        headrace: the application: its tasks' calls are checked.
        store: the Redis.
    """

    def __init__(self, headrace: Headrace, store: AsyncStore) -> None:
        self._headrace = headrace
        self._store = store

    def endpoints(self) -> list[Endpoint]:
        """Return what there is, in the order in which it is looked for."""
        named = (("name", ScheduleName, None),)
        turn: dict[str, Any] = {"method": "POST", "parameters": named, "answers": (Changed,)}
        turn |= {"errors": (400, 404, 503), "rights": ("operate",)}
        return [
            Endpoint(
                path="/schedules", handle=self.schedules, says="Show all schedules, by name.",
                answers=(ScheduleList,), errors=(503,),
            ),
            Endpoint(
                path="/schedules/{name:rest}/pause", handle=self.pause,
                says="Let a schedule have no ticks until it is resumed.", **turn,
            ),
            Endpoint(
                path="/schedules/{name:rest}/resume", handle=self.resume,
                says="Let a paused schedule go on with its next tick.", **turn,
            ),
            Endpoint(
                path="/schedules/{name:rest}", handle=self.schedule, parameters=named,
                says="Show one schedule.", answers=(ScheduleView,), errors=(404, 503),
            ),
            Endpoint(
                path="/schedules/{name:rest}", handle=self.add, method="PUT", rights=("operate",), parameters=named,
                body=Annotated[NewSchedule, _ONE_TIMING], answers=(Changed,), errors=(400, 409, 413, 415, 503),
                says="Add a schedule, or change one; whoever leads sees it within a second.",
            ),
            Endpoint(
                path="/schedules/{name:rest}", handle=self.remove, method="DELETE", rights=("operate",), parameters=named,
                says="Remove a schedule. One that a running application declares comes back: pause it.",
                answers=(Changed,), errors=(404, 503),
            ),
        ]  # fmt: skip

    async def schedules(self, request: Request) -> Response:
        """Show all schedules."""
        return answer(ScheduleList(schedules=[_view(one) for one in await self.mine(request)]))

    async def schedule(self, request: Request) -> Response:
        """Show one schedule."""
        return answer(_view(await self.named(request)))

    async def add(self, request: Request) -> Response:
        """Add a schedule, or change one."""
        new = await read(request, _NEW, 'schedule. Send {"task": "report", "every": 30}')
        return answer(await self.put(request, request.path_params["name"], new))

    async def put(self, request: Request, name: str, new: NewSchedule) -> Changed:
        """Add a schedule, or change the one of that name.

        Raises:
            InvalidArguments: the task is known, and cannot be called so.
            InvalidSetting: it has no meaning.
            Refusal: there is one, or whoever asks may not use its queue.
            StoreError: Redis did not do it.
        """
        timing = timing_of(new.cron, new.every, new.timezone)
        priority = None if new.priority is None else as_whole(new.priority)
        given = {"queue": new.queue, "priority": priority}
        options = cast("JobOptions", {key: one for key, one in given.items() if one is not None})
        call = self._headrace.call_with(new.task, tuple(new.args), new.kwargs, options)
        may_use(request, call.queue)
        call = await apassed(call, name)
        definition = define(call, timing, missed=new.missed, partitions=self._headrace.partitions)
        there = next((one for one in await self._all() if one.name == name), None)
        if there is not None:
            may_use(request, there.queue)
        if there is not None and not new.replace:
            say = f'there is a schedule {name!r} already: send "replace": true to change it'
            raise Refusal("conflict", say)
        changed = await self._store.follow(changes.add(name, definition, replace=new.replace))
        return Changed(name=name, changed=changed)

    async def pause(self, request: Request) -> Response:
        """Let a schedule have no ticks."""
        return answer(await self.change(request, changes.pause))

    async def resume(self, request: Request) -> Response:
        """Let a schedule go on."""
        return answer(await self.change(request, changes.resume))

    async def remove(self, request: Request) -> Response:
        """Remove a schedule."""
        return answer(await self.change(request, changes.remove))

    async def change(self, request: Request, how: Callable[[str], Flow[bool]]) -> Changed:
        """Pause, resume or remove the schedule in the path.

        Raises:
            Refusal: there is none that whoever asks may use.
            StoreError: Redis did not do it.
        """
        name = (await self.named(request)).name
        return Changed(name=name, changed=await self._store.follow(how(name)))

    async def mine(self, request: Request) -> list[Schedule]:
        """Read the schedules of the queues that whoever asks may use, by name."""
        return [one for one in await self._all() if _is_mine(request, one)]

    async def _all(self) -> list[Schedule]:
        return await self._store.follow(changes.all_schedules())

    async def named(self, request: Request) -> Schedule:
        """Return the schedule in the path.

        Raises:
            Refusal: there is none that whoever asks may use.
        """
        name = request.path_params["name"]
        found = next((one for one in await self.mine(request) if one.name == name), None)
        if found is None:
            raise Refusal(
                "unknown", f"there is no schedule {name!r}: GET /api/v1/schedules has all"
            )
        return found


def _is_mine(request: Request, one: Schedule) -> bool:
    """Whether whoever asks may use the queue of a schedule; one that cannot be read is nobody's."""
    own = who_asks(request).queues
    return own is None or one.queue in own


def _view(one: Schedule) -> ScheduleView:
    shown: dict[str, Any] = {
        field.name: value.timestamp() if isinstance(value, datetime) else value
        for field in fields(one)
        if (value := getattr(one, field.name)) is not one.definition or value is None
    }
    shown.pop("definition", None)
    shown["next_ticks"] = [tick.timestamp() for tick in one.ticks(_TICKS)]
    shown["drift_s"] = one.drift_s
    job = None if one.definition is None else redaction.shown(bytes(one.definition.job))
    shown["job"] = None if job is None else msgspec.json.decode(job)
    return cast("ScheduleView", shown)
