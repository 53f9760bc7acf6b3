"""The admission: which jobs of this consumer may run under their limits, and word of what has ended.

A job that was let out of its lane says so itself, by its permit. One that was not (it was retried, fell due,
was handed on, came from a plain client, …) goes into its lane, before it begins. What has come and what has
ended is told in requests of their own, one at a time: what happens meanwhile goes with the next.

The word that a run has ended may come before or after its outcome, and may be lost: a slot says only that a
run may be under way, and whoever leads frees those of jobs that are nowhere. So nothing depends on the order.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from headrace import operations as op
from headrace.clock import monotonic
from headrace.consumer.claimed import ClaimedJob
from headrace.consumer.claims import Claims
from headrace.consumer.limited import LimitedClaims
from headrace.errors import InvalidJob, StoreError
from headrace.ids import time_ms_of
from headrace.keys import Keys
from headrace.lanes import operations as lanes
from headrace.lanes.declared import declared, is_limited, lane_of_call, name_for
from headrace.options import Placement
from headrace.policy import ReconnectBackoff
from headrace.store import AsyncStore
from headrace.task import Task

if TYPE_CHECKING:
    from headrace.app import Headrace

log: logging.Logger = logging.getLogger(__name__)

_MOST: Final = 1_000  # told in one call
_DECLARE_EVERY_S: Final = 60.0  # Redis may have been emptied


class Admission:
    """What one consumer knows of limits. Belongs to its event loop.

    Args:
        app: says which limits there are.
        queues: the keys of the consumer's queues.

    Attributes:
        claims: the consumer's claims.
    """

    def __init__(self, app: Headrace, queues: Sequence[Keys]) -> None:
        self._app = app
        self._come: defaultdict[Keys, list[str]] = defaultdict(list)
        self._ended: defaultdict[Keys, list[str]] = defaultdict(list)
        self._alarms: dict[Keys, tuple[str, float]] = {}  # what Redis calls them; when (monotonic)
        self._wake = asyncio.Event()
        self._telling = False
        self._out = 0
        self._needed = any(self._declared(k) for k in queues)
        self.claims: Claims = LimitedClaims(queues, self) if self._needed else Claims(queues)

    def _declared(self, k: Keys) -> dict[str, str]:
        return declared(self._app, k.queue)

    def open(self, store: AsyncStore, hint: Callable[[], None], *, always: bool) -> None:
        """Take what it needs before anything is claimed.

        Args:
            store: the consumer's store.
            hint: is called when something was told, and jobs were let out …
            always: … or may have been.
        """
        self._store, self._hint, self._always = store, hint, always

    async def declare(self) -> None:
        """Declare the limits of all queues.

        Raises:
            StoreError: Redis has not taken them.
        """
        for k in self.claims.queues if self._needed else ():
            if limits := self._declared(k):
                op.unfailed(await self._store.run_all(lanes.declaration(k, limits)))

    def hold_of(self, claimed: ClaimedJob) -> lanes.Hold | None:
        """Return what puts a job into its lane; None if it may run."""
        permit = permission(claimed)
        if permit is None or isinstance(permit, lanes.Hold):
            return permit
        self._come[claimed.k].append(permit.member)
        self._wake.set()
        return None

    @property
    def telling(self) -> bool:
        """Whether there is something to tell, so that jobs may yet be let out."""
        return self._telling or self._wake.is_set()

    def ended(self, claimed: ClaimedJob) -> None:
        """Note that a job has ended, however."""
        task, k = claimed.task, claimed.k
        if task is None or not is_limited(task, k.queue):
            return
        if (permit := lanes.permit_of(claimed.job, claimed.head.id)) is not None:
            self._ended[k].append(permit.member)
            self._wake.set()

    async def run(self) -> None:
        """Tell Redis, and keep the time where it says so, until cancelled; then what ended last."""
        if not self._needed:
            return
        try:
            await self._run()
        finally:
            self._alarms.clear()
            with contextlib.suppress(StoreError):  # else whoever leads finds it
                await self._tell()

    async def _run(self) -> None:
        reconnect = ReconnectBackoff("limits")
        declare_at = monotonic() + _DECLARE_EVERY_S
        while True:
            due_at = min((at for _, at in self._alarms.values()), default=math.inf)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, min(due_at, declare_at) - monotonic())):
                    await self._wake.wait()
            self._wake.clear()
            self._telling = True
            try:
                if monotonic() >= declare_at:
                    declare_at = monotonic() + _DECLARE_EVERY_S
                    await self.declare()
                await self._tell()
                reconnect.over()
                self._telling = False
                if self._always or self._out:
                    self._hint()
            except StoreError as error:
                await reconnect.wait(error)
                self._wake.set()

    async def _tell(self) -> None:
        """Tell once what there is to tell.

        Raises:
            StoreError: it is kept, and told again: a second time it changes nothing.
        """
        now = monotonic()
        self._out = 0
        due = [k for k, (_, at) in self._alarms.items() if at <= now]
        for k in {*self._come, *self._ended, *due}:
            come, ended = self._come[k][:_MOST], self._ended[k][:_MOST]
            name, _ = self._alarms.get(k, ("0", 0.0))
            alarm = await self._store.run(lanes.admit(k, alarm=name, come=come, ended=ended))
            del self._come[k][: len(come)], self._ended[k][: len(ended)]
            if self._come[k] or self._ended[k]:
                self._wake.set()
            else:
                del self._come[k], self._ended[k]
            self._out += alarm.out
            if alarm.at:
                self._alarms[k] = (alarm.at, monotonic() + alarm.left_s)
            else:
                self._alarms.pop(k, None)


def permission(claimed: ClaimedJob) -> lanes.Permit | lanes.Hold | None:
    """Return with which permit a job may run, or what puts it into its lane; None if it is not limited."""
    k, head, task, body = claimed.k, claimed.head, claimed.task, claimed.decoded
    if task is None or body is None or not is_limited(task, k.queue):
        return None
    permit = lanes.permit_of(claimed.job, head.id)
    if permit is not None and permit.delivery == head.delivery:
        name, _, _ = permit.member.partition("/")
        if name == name_for(task):
            return permit
    place, args = Placement(queue=k.queue, lane=lanes.key_of(claimed.job)), body.args
    return lanes.Hold(_lane_of(task, place, args, body.kwargs, head.id), time_ms_of(head.id) or 0)


def _lane_of(
    task: Task[Any, Any],
    place: Placement,
    args: Sequence[Any],
    kwargs: dict[str, Any],
    job_id: str,
) -> str:
    try:
        if place.lane is None and task.conversion is not None:
            args, kwargs = task.conversion.decode(args, kwargs)
        return lane_of_call(task, place, args, kwargs)[0]
    except InvalidJob as error:  # its task says so, too, or sees to it
        log.debug("job %s has no key: %s", job_id, error)
        return lane_of_call(task, Placement(queue=place.queue, lane=""), (), {})[0]
