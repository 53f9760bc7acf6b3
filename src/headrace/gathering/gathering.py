"""The ends of many jobs, in the order in which they come.

Redis can block for many lists only by taking from them, and a result stays for others. So this blocks
for one, the oldest that is open: in the order of a queue that is nearly always the next to end. When it
has ended, or after a pause, one script looks at all. The pause grows from 20 ms to 1 s while nothing ends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar

from headrace import flows, history, results
from headrace import operations as op
from headrace.clock import monotonic
from headrace.errors import InvalidSetting, NoResult, ResultTimeout
from headrace.flows import Flow
from headrace.job import Job
from headrace.keys import keys_of
from headrace.operations import Operation, run
from headrace.producer import Producer

R = TypeVar("R")

_SHORTEST_S: Final = 0.02
_LONGEST_S: Final = 1.0
_A_LOOK: Final = 500  # jobs that one script looks at: a fifth of a millisecond of Redis' time
_LOOKS: Final = (
    8  # scripts in one round trip; with more jobs, the others have their turn the next time
)
_LOST_EVERY_S: Final = 5.0
_LOST: Final = 10  # jobs of which nothing is heard that are looked for at a time: Redis searches


def results_of(jobs: Iterable[Job[R]], *, timeout: float | None = None) -> Iterator[Job[R]]:
    """Give the jobs in the order in which they end. ``result()`` of each then answers at once.

    One connection waits for all of them, and does not poll while they end in their order; one that
    overtakes others is told a second after it has ended, at most.

    Args:
        jobs: handles, of one Redis.
        timeout: seconds to wait for all of them; None for as long as it takes.

    Raises:
        NoResult: the task of one keeps no results. Of one that is lost, its ``result()`` says so.
        ResultTimeout: not all have ended in time; the jobs go on.
        StoreError: Redis did not answer.
        InvalidSetting: the jobs are not all on one Redis.
    """
    return _each(Gathering(jobs, timeout))


def aresults_of(
    jobs: Iterable[Job[R]],
    *,
    timeout: float | None = None,
) -> AsyncIterator[Job[R]]:
    """Give the jobs in the order in which they end, as ``results_of`` does: for ``async for``."""
    return _aeach(Gathering(jobs, timeout))


def _each(gathering: Gathering) -> Iterator[Job[Any]]:
    while gathering.open:
        yield from gathering.producer.store.follow(gathering.next())


async def _aeach(gathering: Gathering) -> AsyncIterator[Job[Any]]:
    while gathering.open:
        for job in await gathering.producer.astore().follow(gathering.next()):
            yield job


# ruff: noqa: SLF001 - it is to handles what they are to themselves


class Gathering:
    """Some jobs, and which of them have not ended yet.

    Args:
        jobs: their handles.
        timeout_s: how long it may take, from now; None for ever.

    Attributes:
        open: those that have not ended, the oldest first.
        producer: through which they are asked for.
    """

    def __init__(self, jobs: Iterable[Job[Any]], timeout_s: float | None) -> None:
        found = list(jobs)
        for job in found:
            job._check_kept()
        self.open: dict[Job[Any], None] = dict.fromkeys(found)
        if len({job._producer.url for job in self.open}) > 1:
            raise InvalidSetting(
                "these jobs are on several Redis servers: gather those of each alone"
            )
        if found:
            self.producer: Producer = found[0]._producer
        self._timeout_s = timeout_s
        self._until = None if timeout_s is None else monotonic() + timeout_s
        self._pause_s = 0.0
        self._turn = deque(self.open)  # who is looked at next, where there are very many
        self._lost_at = monotonic() + _LOST_EVERY_S
        self._lost = deque(self.open)
        self._misses: dict[Job[Any], int] = {}

    def next(self) -> Flow[list[Job[Any]]]:
        """Wait for the next that end; give them, each with its end.

        Raises:
            ResultTimeout: none did in time.
        """
        while True:
            ended: list[Job[Any]] = yield from self._look()
            if not ended and monotonic() >= self._lost_at:
                ended = yield from self._look_for_the_lost()
            if ended:
                self._pause_s = 0.0
                for job in ended:
                    del self.open[job]
                return ended
            if self._until is not None and monotonic() >= self._until:
                raise ResultTimeout(
                    f"{len(self.open):,} jobs have not ended within {self._timeout_s:g} s: "
                    f"{next(iter(self.open)).id} is the first"
                )
            yield from self._wait()

    def _wait(self) -> Flow[None]:
        """Wait until the oldest has ended, or for a pause."""
        self._pause_s = min(max(2 * self._pause_s, _SHORTEST_S), _LONGEST_S)
        wait_s = self._pause_s
        if self._until is not None:
            wait_s = min(wait_s, max(0.001, self._until - monotonic()))
        yield from next(iter(self.open))._await(wait_s)

    def _look(self) -> Flow[list[Job[Any]]]:
        """Look at the oldest, and at others in turn; give those that have ended, in their order."""
        looks: list[list[Job[Any]]] = []
        for jobs in self._by_queue():
            looks += [jobs[at : at + _A_LOOK] for at in range(0, len(jobs), _A_LOOK)]
        ended: list[tuple[int, Job[Any]]] = []
        while looks:
            now, looks = looks[:_LOOKS], looks[_LOOKS:]
            answers = op.unfailed((yield [_ended(jobs) for jobs in now]))
            for jobs, (seen, places) in zip(now, answers, strict=True):
                for place, end in places:
                    jobs[place]._end = end
                    run = history.last_of(end)
                    ended.append((0 if run is None else run.ended_at_ms, jobs[place]))
                if seen < len(jobs):
                    looks.append(jobs[seen:])
        return [job for _, job in sorted(ended, key=lambda pair: pair[0])]

    def _by_queue(self) -> list[list[Job[Any]]]:
        most = _A_LOOK * _LOOKS
        chosen = dict.fromkeys(job for job, _ in zip(self.open, range(most), strict=False))
        if len(self.open) > most:
            for _ in range(most):
                job = self._turn.popleft()
                if job in self.open:
                    self._turn.append(job)
                    chosen[job] = None
        queues: dict[str, list[Job[Any]]] = {}
        for job in chosen:
            queues.setdefault(job.queue, []).append(job)
        return list(queues.values())

    def _look_for_the_lost(self) -> Flow[list[Job[Any]]]:
        """Look for some: one that is purged, or has crashed too often, tells nobody that it has ended."""
        self._lost_at = monotonic() + _LOST_EVERY_S
        ended: list[Job[Any]] = []
        for _ in range(min(_LOST, len(self._lost))):
            job = self._lost.popleft()
            if job not in self.open:
                continue
            self._lost.append(job)
            if job in ended:
                break
            found = yield from flows.locate(keys_of(job.queue), job.id, job._job)
            end: bytes | NoResult | None = results.of_place(found.word, found.raw)
            self._misses[job] = self._misses.get(job, 0) + 1 if found.word == "unknown" else 0
            if end is None and self._misses[job] > 1:
                end = NoResult(job._nothing_known())
            if end is not None:
                job._end = end
                ended.append(job)
        return ended


def _ended(jobs: Sequence[Job[Any]]) -> Operation[tuple[int, list[tuple[int, bytes]]]]:
    """Ask which of these jobs of one queue have ended; their places, and how many were looked at."""
    k = keys_of(jobs[0].queue)
    parse: Callable[[Any], Any] = _places
    return run("gathering/ended", [k.result(job.id) for job in jobs], (), parse)


def _places(raw: Any) -> tuple[int, list[tuple[int, bytes]]]:
    return raw[0], [(place - 1, end) for place, end in zip(raw[1::2], raw[2::2], strict=True)]
