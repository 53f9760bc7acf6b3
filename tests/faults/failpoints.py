"""Named points between any two requests to Redis, where a laboratory process can be made to fail.

``before:settle`` is the instant before a settle is sent, ``after:settle`` the one after its answer
was read and before anybody has seen it. The one method of each store that talks is wrapped, inside
laboratory processes only; the same wrapper writes down what came into the process and what it
settled, which is how the checker knows of stale effects.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from redis.exceptions import BusyLoadingError, ReadOnlyError

from headrace import clock, keys, wire
from headrace.consumer import claimed
from headrace.consumer.consumer import Consumer
from headrace.errors import StoreError, StoreFull, StoreRefused
from headrace.maintenance import Maintenance
from headrace.operations import Operation
from headrace.store import AsyncStore, Channel, Store, exchange
from headrace.store.any_store import AnyStore
from tests.faults.history import BURY, Journal

Action = Literal["kill", "stop", "repeat"]
_WIDTH = 7  # of one outcome in a settle's arguments
_ANSWERS: dict[type[BaseException], str] = {
    BusyLoadingError: "LOADING",
    ReadOnlyError: "READONLY",
}


@dataclass(frozen=True, slots=True)
class Failpoint:
    """What happens at the n-th pass of a point.

    Attributes:
        point: ``before:`` or ``after:`` and an operation's name.
        action: ``kill`` this process, ``stop`` it until somebody continues it, or ``repeat`` the
            request, as a network that doubles it would.
        passes: at which pass, from 1.
        every: at each pass from then on.
    """

    point: str
    action: Action
    passes: int = 1
    every: bool = False


class Tap:
    """Sees every request and answer of this process.

    Args:
        journal: where it writes.
        failpoints: what it does.
    """

    def __init__(self, journal: Journal, failpoints: Sequence[Failpoint] = ()) -> None:
        self._journal = journal
        self._points: dict[str, Failpoint] = {f.point: f for f in failpoints}
        self._passed = dict.fromkeys(self._points, 0)
        self._deliveries: dict[tuple[str, int], int] = {}  # (id, claim number) -> delivery
        self._lock = threading.Lock()  # the lease keeper has a thread of its own

    # — failpoints —

    def passing(self, when: str, operations: Sequence[Operation[Any]]) -> list[Operation[Any]]:
        """Act at the points that these operations are at; gives those that are to be repeated."""
        again: list[Operation[Any]] = []
        if not self._points:
            return again
        for name in dict.fromkeys(op.name for op in operations):
            failpoint = self._points.get(f"{when}:{name}")
            if failpoint is None:
                continue
            with self._lock:
                self._passed[failpoint.point] += 1
                passed = self._passed[failpoint.point]
            if passed != failpoint.passes and not (failpoint.every and passed > failpoint.passes):
                continue
            if failpoint.action == "repeat":
                self._journal.write("fault", "sent twice", name)
                again += [op for op in operations if op.name == name]
            else:
                self._fail(failpoint, operations, when)
        return again

    def _fail(self, failpoint: Failpoint, operations: Sequence[Operation[Any]], when: str) -> None:
        """Die, or stand still; whatever travels together is hit together."""
        for name in dict.fromkeys(op.name for op in operations):
            self._journal.write("fault", f"{failpoint.action} {when}", name)
        if failpoint.action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGSTOP)

    @contextmanager
    def asking(self, operations: Sequence[Operation[Any]]) -> Iterator[int]:
        """Surround a request: act at the points before it, and write down if it fails as a whole.

        Gives the instant before it is sent, ns.
        """
        self.passing("before", operations)
        sent_ns = time.monotonic_ns()
        try:
            yield sent_ns
        except StoreError as error:
            self.raised(operations, error, sent_ns)
            raise

    # — the record —

    def answered(
        self,
        operations: Sequence[Operation[Any]],
        answers: Sequence[Any],
        sent_ns: int,
        *,
        repeat: bool = False,
    ) -> None:
        """Write down what came in and what was settled."""
        for op, answer in zip(operations, answers, strict=True):
            if isinstance(answer, StoreRefused):
                self._refused(op, answer)
            elif isinstance(answer, StoreError):
                continue
            elif op.name == "claim" and answer.jobs and not repeat:
                self._claimed(int(op.args[3]), answer.jobs)
            elif op.name == "BLMOVE" and answer and not repeat:
                self._held([answer])
            elif op.name == "adopt" and answer == "ok":
                self._adopted(op)
            elif op.name == "settle":
                self._settled(op, set(answer), sent_ns, repeat=repeat)
            else:
                self._maintained(op, answer)

    def _maintained(self, op: Operation[Any], answer: Any) -> None:
        """Write down which duty of a leader was done."""
        if op.name == "note_consumers":
            self._journal.write("attended", op.args[1 : 1 + int(op.args[0])])
        elif op.args[:2] == ("HDEL", keys.CONSUMERS):
            self._journal.write("duty", BURY, op.args[2])
        elif (op.name == "promote" and answer.moved) or (op.name == "sweep" and answer.given):
            self._journal.write("duty", op.name, "")

    def unknown(self, name: str) -> None:
        """Write down that Redis did not know a script, so that it was loaded and sent again."""
        self._journal.write("fault", "refused NOSCRIPT", name)

    def _refused(self, op: Operation[Any], answer: StoreRefused) -> None:
        text = str(answer)
        word = _ANSWERS.get(type(answer.__cause__), "")  # type: ignore[arg-type]  # None has no word
        if isinstance(answer, StoreFull):
            word = "OOM"
        elif not word and "UNBLOCKED" in text:
            word = "UNBLOCKED"
        self._journal.write("fault", f"refused {word or 'otherwise'}", op.name, text[:200])

    def raised(self, operations: Sequence[Operation[Any]], error: StoreError, sent_ns: int) -> None:
        """Write down what failed as a whole."""
        if isinstance(error, StoreRefused):
            for op in operations:
                self._refused(op, error)
        elif error.may_have_happened:
            self.lost(operations, sent_ns)

    def lost(self, operations: Sequence[Operation[Any]], sent_ns: int) -> None:
        """Write down that nobody knows whether these settles took effect."""
        for op in operations:
            if op.name == "settle":
                self._settled(op, None, sent_ns, repeat=False)

    def _claimed(self, first: int, jobs: list[bytes]) -> None:
        self._held(jobs)
        for number, job in enumerate(jobs, first):
            if (parts := wire.split(job)) is not None:
                self._deliveries[parts[0].id, number] = parts[0].delivery

    def _held(self, jobs: list[bytes]) -> None:
        heads = [parts[0] for job in jobs if (parts := wire.split(job)) is not None]
        if heads:
            self._journal.write("held", [(head.id, head.delivery) for head in heads])

    def _adopted(self, op: Operation[Any]) -> None:
        token, job = str(op.args[0]), op.args[4]
        parts = wire.split(job)  # type: ignore[arg-type]
        assert parts is not None
        self._deliveries[parts[0].id, int(token.rpartition(":")[2])] = parts[0].delivery

    def _settled(
        self, op: Operation[Any], lost: set[str] | None, sent_ns: int, *, repeat: bool
    ) -> None:
        outcomes = []
        for i in range(1, len(op.args), _WIDTH):
            job_id, claim, verb, delay_ms = op.args[i : i + 4]
            delivery = self._deliveries.get((job_id, abs(claim)), -1)  # type: ignore[arg-type]
            effective = None if lost is None else job_id not in lost
            outcomes.append((job_id, delivery, verb, int(delay_ms) / 1000, effective))
        self._journal.write("settled", sent_ns, outcomes, repeat)


def install(tap: Tap) -> None:
    """Wrap the stores of this process."""
    run_all, run = AnyStore.run_all, Channel._run

    async def tapped(
        self: AnyStore[Any],
        operations: Sequence[Operation[Any]],
        meanwhile: Callable[[], None] | None = None,
    ) -> list[Any]:
        with tap.asking(operations) as sent_ns:
            answers = await run_all(self, operations, meanwhile)
        tap.answered(operations, answers, sent_ns)
        if again := tap.passing("after", operations):
            again_ns = time.monotonic_ns()
            tap.answered(again, await run_all(self, again), again_ns, repeat=True)
        return answers

    async def tapped_channel(
        self: Channel, operation: Operation[Any], look: Any, took: Callable[[Any], None] | None
    ) -> Any:
        def tapped_took(answers: Any) -> None:
            tap.answered([operation], [answers[0]], sent_ns)
            tap.passing("after", [operation])
            if took is not None:
                took(answers)

        with tap.asking([operation]) as sent_ns:
            return await run(self, operation, look, tapped_took)

    loading = exchange.loading

    def tapped_loading(operations: Sequence[Operation[Any]]) -> Any:
        for name in dict.fromkeys(op.name for op in operations):
            tap.unknown(name)
        return loading(operations)

    exchange.loading = tapped_loading
    AnyStore.run_all = tapped  # type: ignore[method-assign]
    Channel._run = tapped_channel  # type: ignore[method-assign]


def shorten_timeouts(timeout_s: float) -> None:
    """Let this process wait less for an answer than the product does: leases are short here too."""
    exchange.TIMEOUT_S = timeout_s  # type: ignore[misc]
    for store in (AsyncStore, Store):
        assert store.__init__.__kwdefaults__ is not None
        store.__init__.__kwdefaults__["timeout_s"] = timeout_s


def leave_maintenance_to_others() -> None:
    """Let this process never lead, so that who does is for the laboratory to say."""

    async def run(self: Maintenance) -> None:
        await asyncio.Event().wait()

    Maintenance.run = run  # type: ignore[method-assign]


def hold_the_loop(journal: Journal, released: Sequence[object]) -> None:
    """Let something else than jobs hold this consumer's event loop most of the time.

    Half of it is Python code, which also competes for the interpreter with the other threads.

    Args:
        journal: told when the loop is held, and when it is not.
        released: when there is anything in it, the loop is held no more.
    """
    run, chance = Consumer.run, random.Random(0)

    async def hold() -> None:
        while not released:
            await asyncio.sleep(0.03)
            seconds, computes = chance.uniform(0.3, 0.9), chance.random() < 0.5
            until = time.monotonic() + seconds
            journal.write("busy", True)
            if not computes:
                time.sleep(seconds)
            while time.monotonic() < until:
                pass
            journal.write("busy", False)

    async def held(self: Consumer) -> None:
        holding = asyncio.create_task(hold())
        try:
            await run(self)
        finally:
            holding.cancel()

    Consumer.run = held  # type: ignore[method-assign]


def suspect_nobody() -> None:
    """Let no job be suspected of having killed its consumers: here it was the laboratory, each time."""
    vars(claimed)["SUSPECT_CRASHES"] = sys.maxsize


def set_clock_off(by_s: float) -> None:
    """Set this process' wall clock off, wherever the product reads it."""
    true_now_ms = clock.now_ms

    def wrong_now_ms() -> int:
        return true_now_ms() + round(by_s * 1000)

    for name, module in list(sys.modules.items()):
        if name.startswith("headrace") and getattr(module, "now_ms", None) is true_now_ms:
            module.now_ms = wrong_now_ms  # type: ignore[attr-defined]
