"""Moves a queue from one Redis to another, a batch at a time."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from headrace import keys, lanes, wire
from headrace import operations as op
from headrace.errors import HeadraceError, InvalidSetting
from headrace.ids import new_id
from headrace.keys import keys_of
from headrace.moving import requests
from headrace.moving.requests import Batch, Held
from headrace.workflows.handing import START
from headrace.workflows.keys import unfinished_of

if TYPE_CHECKING:
    from headrace.store import Store

_FLOWS: Final = (
    "workflows that are not over use queue {0}, and those of one workflow stay together: let them end, or "
    "cancel them (headrace workflow ID), then move the queue"
)

_START: Final = START.encode()


class Move:
    """Moves what waits in a queue, and its dead letters, to another Redis; each job once.

    What a consumer has stays there until it has ended; what it puts back is moved then. Any number of
    moves may work on one queue: they end one another's batches.

    Args:
        queue: the queue's name, the same on both.
        source: where it is.
        target: where it goes.

    Attributes:
        moved: how many jobs were moved, by the place they were in.

    Raises:
        InvalidSetting: the name cannot be a queue's.
    """

    def __init__(self, queue: str, source: Store, target: Store) -> None:
        self._k = keys_of(queue)
        self._source = source
        self._target = target
        self.moved: Counter[str] = Counter()

    def prepare(self) -> None:
        """Make the queue there what it is here: known, paused if it is, with its limits.

        What is set on the other server already stays as it is.

        Raises:
            InvalidSetting: there is no such queue.
            HeadraceError: workflows that are not over use the queue.
            StoreError: one of the servers did not do its part.
        """
        k = self._k
        self._refuse_workflows()
        seen = self._source.run(op.snapshot(k))
        known = op.command("SISMEMBER", keys.QUEUES, k.queue, parse=bool)
        if not (seen.size or self._source.run(known) or self._source.run(requests.on_its_way(k))):
            raise InvalidSetting(
                f"there is no queue {k.queue}: headrace info lists those that are there"
            )
        here, there = (
            store.run(lanes.operations.limits(k)) for store in (self._source, self._target)
        )
        missing = {name: limit for name, limit in here.items() if name not in there}
        for operation in lanes.operations.declaration(k, missing) if missing else ():
            self._target.run(operation)
        if seen.paused:
            self._target.run(op.pause(k, paused=True))
        self._target.run(op.register(k.queue))

    def step(self) -> int:
        """Move a batch, or one that was on its way; return how many jobs. 0: there are none to be moved.

        Raises:
            InvalidSetting: both are one server.
            HeadraceError: workflows that are not over use the queue.
            StoreError: one of the servers did not do its part. Another step, or another move, goes on
                where this one was.
        """
        self._refuse_workflows()
        batch = self._source.run(requests.take(self._k, new_id()))
        if batch is None:
            return 0
        if any(map(_is_of_workflow, batch.jobs)):
            self._put_back(batch)
            raise HeadraceError(_FLOWS.format(self._k.queue))
        has = self._held(batch)
        answer = self._target.run(requests.arrive(self._k, batch, has))
        if answer == "here":
            self._put_back(batch)
            raise InvalidSetting("both URLs are of one server: --to is where the queue goes")
        self._source.run(requests.leave(self._k, batch, has))
        self.moved.update(entry.partition(b" ")[0].decode() for entry in batch.entries)
        return len(batch.entries)

    def back(self) -> int:
        """Put back what is on its way, and has not arrived, for good; return how many jobs.

        Only for whoever knows that it has not arrived: else its jobs are on both servers.

        Raises:
            StoreError: the server did not do it.
        """
        if not self._source.run(requests.on_its_way(self._k)):
            return 0
        batch = self._source.run(requests.take(self._k, new_id()))
        return 0 if batch is None else self._put_back(batch)

    def left(self) -> int:
        """Return how many jobs are still here: those that consumers have can come back, and move then."""
        return self._source.run(op.snapshot(self._k)).size

    def _refuse_workflows(self) -> None:
        is_used, here = op.unfailed(
            self._source.run_all(
                [
                    op.command("SISMEMBER", keys.WORKFLOWS, self._k.queue, parse=bool),
                    op.command("ZCARD", unfinished_of(self._k), parse=bool),
                ]
            )
        )
        if is_used or here:
            raise HeadraceError(_FLOWS.format(self._k.queue))

    def _held(self, batch: Batch) -> list[Held]:
        """Read the keys that jobs of a batch have, so that they have them there, too."""
        pairs = requests.keys_in(batch)
        asked = [one for key, _ in pairs for one in requests.look(self._k, key)]
        answers = op.unfailed(self._source.run_all(asked)) if asked else []
        seen = zip(pairs, answers[::2], answers[1::2], strict=True)
        found = (requests.held(*pair, value, ttl_ms) for pair, value, ttl_ms in seen)
        return [one for one in found if one is not None]

    def _put_back(self, batch: Batch) -> int:
        self._source.run(requests.arrive(self._k, batch, (), back=True))
        return len(batch.entries)


def _is_of_workflow(job: bytes) -> bool:
    """Whether a job is a member of a workflow, or starts one."""
    if b'"workflow"' not in job and _START not in job:
        return False
    try:
        body = wire.read_body(job)
        return bool(body.workflow) or body.task == START
    except Exception:  # whatever decoding raises: it is no job, so no member
        return False
