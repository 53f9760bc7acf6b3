"""What laboratory processes do: consume, produce, serve, operate. Each role is a spec that runs.

A role runs in a process that was forked from the nursery, so everything is imported already.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from headrace import moving, web, wire
from headrace import operations as op
from headrace.cli.queues import parse_queues
from headrace.consumer import ConsumerOptions
from headrace.errors import StoreError
from headrace.keys import Keys, keys_of
from headrace.operations import Operation
from headrace.options import JobOptions
from headrace.policy import LeasePolicy
from headrace.store import Store
from headrace.supervisor import supervise
from headrace.supervisor.program import run as run_consumer
from tests.faults import failpoints, lab_app, namespaces
from tests.faults.failpoints import Failpoint, Tap
from tests.faults.history import Journal, canary

QUEUE = "queue"
BALLAST = "x" * 950_000


@dataclass(frozen=True)
class Role:
    """A laboratory process.

    Attributes:
        name: unique in its bench.
        url: where its Redis is, perhaps through a proxy.
        history: the folder of the records.
        stop_s: how long it stands still when a failpoint stops it, s.
        timeout_s: how long it waits for an answer; None as the product does.
        points: where it fails.
        clock_off_s: how far its wall clock is off.
        maintains: it takes part in the maintenance.
        confirm_replicas: how many replicas have to have what it enqueues.
        limits: its tasks have some.
        partitions: how many it says that the queue has; 0 for nothing.
        namespace: the host where it is, as ``Hosts`` says; "" where the laboratory is.
    """

    name: str
    url: str
    history: Path
    stop_s: float = 0.0
    timeout_s: float | None = None
    points: tuple[Failpoint, ...] = ()
    clock_off_s: float = 0.0
    maintains: bool = True
    confirm_replicas: int = 0
    limits: bool = False
    partitions: int = 0
    namespace: str = ""

    def begin(self) -> Journal:
        """Prepare this process; gives its journal."""
        if self.namespace:
            namespaces.enter(self.namespace)
        os.environ[lab_app.HISTORY] = str(self.history)
        os.environ[lab_app.NAME] = self.name
        os.environ["HEADRACE_URL"] = self.url
        journal = Journal(self.history, self.name)
        failpoints.install(self.tap(journal))
        if self.timeout_s is not None:
            failpoints.shorten_timeouts(self.timeout_s)
        if self.clock_off_s:
            failpoints.set_clock_off(self.clock_off_s)
        if not self.maintains:
            failpoints.leave_maintenance_to_others()
        if self.confirm_replicas:
            lab_app.app._sending["confirm_replicas"] = self.confirm_replicas
        if self.limits:
            lab_app.limit()
        if self.partitions:
            lab_app.app.partition_queue(QUEUE, self.partitions)
        lab_app.app.use(self.url)
        return journal

    def tap(self, journal: Journal) -> Tap:
        """Return what sees the requests of this process."""
        return Tap(journal, self.points)

    def run(self) -> int:
        """Do the role's work; gives the exit code."""
        raise NotImplementedError


@dataclass(frozen=True)
class ConsumerRole(Role):
    """A consumer.

    Attributes:
        queues: which it consumes.
        suspects: jobs whose consumers died twice run alone, as in the product. Where consumers are
            killed by the hundred from outside, each of them would cost the start of a Python.
        held: its event loop is held most of the time, until it gets SIGUSR2.
    """

    queues: str = QUEUE
    suspects: bool = False
    held: bool = False
    lease: LeasePolicy = field(default_factory=LeasePolicy)
    concurrency: int = 10
    grace_s: float = 30.0

    def begin(self) -> Journal:
        if not self.suspects:
            failpoints.suspect_nobody()
        journal = super().begin()
        if self.held:
            released: list[int] = []
            signal.signal(signal.SIGUSR2, lambda *_: released.append(1))
            failpoints.hold_the_loop(journal, released)
        return journal

    def options(self) -> ConsumerOptions:
        return ConsumerOptions(
            parse_queues(self.queues),
            concurrency=self.concurrency,
            lease=self.lease,
            grace_s=self.grace_s,
            name=self.name,
        )

    def run(self) -> int:
        self.begin()
        return run_consumer(lab_app.app, self.options())


def supervised(options: ConsumerOptions, role: ConsumerRole) -> int:
    """Be one of a supervisor's children: a new process, which starts from nothing."""
    assert options.name is not None
    replace(role, name=options.name).begin()
    return run_consumer(lab_app.app, options)


@dataclass(frozen=True)
class SupervisorRole(ConsumerRole):
    """Several consumers under a supervisor, as ``headrace consume -w`` runs them."""

    workers: int = 3

    def run(self) -> int:
        self.begin()
        program = partial(supervised, role=self)
        return supervise(program, self.options(), self.workers, self.url)


@dataclass(frozen=True)
class ServerRole(Role):
    """A ``headrace serve``: it keeps queues in order, and may lead."""

    lease: LeasePolicy = field(default_factory=LeasePolicy)

    def run(self) -> int:
        self.begin()
        asyncio.run(web.serve(lab_app.app, port=0, policy=self.lease))
        return 0


@dataclass(frozen=True)
class Load:
    """What a producer enqueues.

    Attributes:
        mix: tasks and their weights.
        count: jobs in all.
        first: the first number.
        batch: jobs a call.
        pause_s: between calls.
        seconds: how long a nap or a piece of work takes: from … to.
        delayed: the share of jobs that are delayed, by up to ``delay_s``.
        plain: the share of calls that are a plain LPUSH.
        expires_s: after so long a job expires; 0: it does not.
    """

    mix: tuple[tuple[str, int], ...] = (("quick", 1),)
    count: int = 1000
    first: int = 1
    batch: int = 50
    pause_s: float = 0.0
    seconds: tuple[float, float] = (0.05, 0.2)
    delayed: float = 0.0
    delay_s: float = 1.0
    prioritised: float = 0.0
    expires_s: float = 0.0

    def arguments(self, task: str, number: int, rng: random.Random) -> tuple[Any, ...]:
        if task in ("nap", "work", "stall", "apart", "capped"):
            return number, canary(number), round(rng.uniform(*self.seconds), 3)
        if task == "big":
            return number, canary(number), BALLAST
        return number, canary(number)

    def options(self, rng: random.Random) -> JobOptions:
        options: JobOptions = {}
        if rng.random() < self.delayed:
            options["delay"] = round(rng.uniform(0.1, self.delay_s), 3)
        if rng.random() < self.prioritised:
            options["priority"] = rng.choice((-5, 5, 50))
        if self.expires_s:
            options["expires"] = self.expires_s
        return options


@dataclass(frozen=True)
class ProducerRole(Role):
    """A producer that enqueues a load, and ends then or when it is told to.

    What fails is not tried again: a new job is made instead.
    """

    load: Load = field(default_factory=Load)
    seed: int = 0

    def run(self) -> int:
        journal, load, rng = self.begin(), self.load, random.Random(self.seed)
        names, weights = zip(*load.mix, strict=True)
        accepted, number = 0, load.first
        ended: list[int] = []
        signal.signal(signal.SIGTERM, lambda *_: ended.append(1))
        while accepted < load.count and not ended:
            calls: dict[int, tuple[Any, float, str]] = {}
            for n in range(number, number + min(load.batch, load.count - accepted)):
                task = rng.choices(names, weights)[0]
                options = load.options(rng)
                call = lab_app.app.call_with(task, load.arguments(task, n, rng), {}, options)
                calls[n] = call, float(options.get("delay", 0)), task  # type: ignore[arg-type]
            number += len(calls)
            accepted += _send(journal, calls)
            if load.pause_s:
                time.sleep(load.pause_s)
        return 0


@dataclass(frozen=True)
class MoverRole(Role):
    """Somebody who moves the queue elsewhere, until nothing is left.

    Attributes:
        to: where it goes.
    """

    to: str = ""

    def run(self) -> int:
        self.begin()
        with closing(Store(self.url)) as source, closing(Store(self.to)) as target:
            move = moving.Move(QUEUE, source, target)
            move.prepare()
            while move.step() or move.left():
                pass
        return 0


def _send(journal: Journal, calls: dict[int, tuple[Any, float, str]]) -> int:
    """Enqueue, and write down what became of each; gives how many may be in."""
    jobs = [(n, c.job_id, task, delay) for n, (c, delay, task) in calls.items()]
    journal.write("enqueue", jobs)
    numbers = {job_id: n for n, job_id, *_ in jobs}
    try:
        lab_app.app.enqueue_many(call for call, *_ in calls.values())
    except StoreError as error:
        accepted = {numbers[job_id] for job_id in error.accepted}
        journal.write("acked", sorted(accepted))
        # With several round trips a refusal may belong to a later one; here a call is one.
        if not error.may_have_happened and not error.accepted:
            journal.write("refused", sorted(calls))
            time.sleep(0.02)
        return len(accepted)
    journal.write("acked", list(calls))
    return len(calls)


Move = Literal["cancel", "redrive", "purge", "snapshot"]


@dataclass(frozen=True)
class OperatorRole(Role):
    """Somebody who looks, cancels, redrives and purges, again and again until told to end."""

    moves: tuple[Move, ...] = ("snapshot", "cancel", "redrive", "purge")
    pause_s: float = 0.05
    seed: int = 0

    def run(self) -> int:
        journal, k = self.begin(), keys_of(QUEUE)
        store, rng = Store(self.url, name="operator"), random.Random(self.seed)
        ended: list[int] = []
        signal.signal(signal.SIGTERM, lambda *_: ended.append(1))
        while not ended:
            try:
                getattr(self, f"_{rng.choice(self.moves)}")(store, k, journal)
            except StoreError:
                pass  # it may have happened: that was written down before
            time.sleep(self.pause_s)
        store.close()
        return 0

    def _snapshot(self, store: Store, k: Keys, journal: Journal) -> None:
        store.run(op.snapshot(k))

    def _cancel(self, store: Store, k: Keys, journal: Journal) -> None:
        waiting = _look(store, op.peek_sorted(k.delayed, -1, -1)) or _look(
            store, op.peek(k.pending, 0, 0)
        )
        for job in waiting or [b""]:
            job_id = _id_of(job)
            journal.write("removal", [job_id])
            store.run(op.cancel(k, job_id, job))

    def _redrive(self, store: Store, k: Keys, journal: Journal) -> None:
        letters = _look(store, op.peek(k.dead, 0, 0))
        store.run(op.redrive(k, [(letter, wire.redriven(letter)) for letter in letters]))

    def _purge(self, store: Store, k: Keys, journal: Journal) -> None:
        letters = _look(store, op.peek(k.dead, 0, 0))
        journal.write("removal", [_id_of(letter) for letter in letters])
        store.run(op.purge(k, letters))


def _look(store: Store, peek: Operation[list[bytes]]) -> list[bytes]:
    """Read jobs; none when Redis does not answer: the move is tried all the same."""
    try:
        return store.run(peek)
    except StoreError:
        return []


def _id_of(job: bytes) -> str:
    parts = wire.split(job)
    return parts[0].id if parts is not None else ""
