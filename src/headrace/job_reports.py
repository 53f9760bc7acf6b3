"""What a handle gives of its job beside its end: the items that it yields, and its runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from headrace import flows, results
from headrace import history as runs
from headrace import operations as op
from headrace.encryption import refused
from headrace.errors import NoResult
from headrace.flows import Flow
from headrace.history import Run
from headrace.keys import keys_of
from headrace.producer import Producer
from headrace.reports import RESTARTED, Reading, Stream

# ruff: noqa: SLF001 - it is to handles what they are to themselves

_WAIT_S: Final = 5.0  # how long one request blocks


class Handle(Protocol):
    """A job's handle, as it is to itself."""

    id: str
    queue: str
    _job: bytes
    _producer: Producer
    _decode: Callable[[Any], Any] | None

    def _check_kept(self) -> None: ...

    def _await(self, wait_s: float) -> Flow[bytes | None]: ...

    def _nothing_known(self) -> str: ...

    def _value(self, end: bytes, raises: Sequence[type[BaseException]]) -> Any: ...


def history(job: Handle) -> Flow[list[Run]]:
    """Return a job's runs: those after which it was tried again, and that in its end."""
    k = keys_of(job.queue)
    ended = op.command("LINDEX", k.result(job.id), 0, parse=runs.last_of)
    before = op.command("LRANGE", k.history(job.id), 0, -1, parse=list)
    last, listed = op.unfailed((yield [ended, before]))
    return runs.of(listed, last)


def stream(job: Handle) -> Stream:
    """Return the items of a job, to be read any number of times."""
    producer = job._producer
    return Stream(
        lambda: Reading(keys_of(job.queue), job.id),
        lambda reading: _more(job, reading),
        producer.store.follow,
        lambda flow: producer.astore().follow(flow),
    )


def _more(job: Handle, reading: Reading) -> Flow[list[Any] | None]:
    """Wait for the next items; None when there will be no more."""
    job._check_kept()
    while True:
        quiet = reading.over or reading.end is not None or not (reading.begun or reading.idle)
        items = reading.take((yield reading.ask(0 if quiet else _WAIT_S)))
        if items:
            item = getattr(job._decode, "item", refused)
            return [one if one is RESTARTED else item(one) for one in items]
        if reading.end is not None and reading.idle:
            job._value(reading.end, ())
            if not reading.begun:
                raise NoResult(f"job {job.id} is done, and no items of it are kept")
            return None
        if reading.idle:
            yield from _look_for_the_end(job, reading)


def _look_for_the_end(job: Handle, reading: Reading) -> Flow[None]:
    k, idle = keys_of(job.queue), reading.idle
    if reading.over:  # it comes in a moment, or the job is tried again
        reading.end = yield from job._await(min(_WAIT_S, 0.1 * idle))
    else:
        reading.end = yield op.command("LINDEX", k.result(job.id), 0, parse=lambda raw: raw)
    if reading.end is None and idle & (idle - 1) == 0:  # less and less often: Redis searches
        found = yield from flows.locate(k, job.id, job._job)
        reading.end = results.of_place(found.word, found.raw)
        reading.misses = reading.misses + 1 if found.word == "unknown" else 0
        if reading.misses > 1:
            raise NoResult(job._nothing_known())
