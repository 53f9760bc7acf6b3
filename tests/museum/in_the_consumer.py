"""Bugs of clients: one patch each on the product's own code, or on where it runs."""

from __future__ import annotations

import asyncio
from functools import wraps
from typing import Any

import pytest

from headrace import operations as op
from headrace import plain
from headrace.clock import monotonic
from headrace.consumer.claims import Claims
from headrace.consumer.consumer import Consumer
from headrace.consumer.listener import Listener
from headrace.errors import StoreError, StoreRefused
from headrace.keys import keys_of
from headrace.maintenance import Maintenance
from headrace.maintenance.promoter import Promoter
from headrace.maintenance.upkeep import Upkeep
from headrace.store import AsyncStore, Channel, exchange
from headrace.store.node import Node
from tests.museum.exhibit import Exhibit
from tests.property.model import id_of, returned
from tests.simulation.fiber import Fiber
from tests.simulation.network import AsyncConnection, Connection
from tests.simulation.server import Server


def two_calls(patch: pytest.MonkeyPatch) -> None:
    """Due jobs travel through the client: taken out in one call, put back in the next."""

    def pop(server: Server, _: Connection, __: int, key: str) -> list[bytes]:
        queue = server.queue(key)
        due = [job for job, at in queue.delayed.items() if at <= queue.now]
        for job in due:
            del queue.delayed[job]
        return due

    def push(server: Server, _: Connection, __: int, key: str, *jobs: bytes) -> int:
        for job in jobs:
            server.queue(key)._place(job)
        return len(jobs)

    async def in_two(store: AsyncStore, queues: list[str]) -> None:
        for k in map(keys_of, queues):
            due = await store.run(op.command("POPDUE", k.delayed, parse=list))
            if due:
                await store.run(op.command("PUT", k.pending, *due, parse=int))

    visit, promote = Upkeep.visit, Promoter._promote

    @wraps(visit)
    async def visiting(self: Upkeep, queues: list[str], gap_s: float) -> bool:
        await in_two(self._store, queues)
        return await visit(self, queues, gap_s)

    @wraps(promote)
    async def promoting(self: Promoter, queues: list[str]) -> None:
        await in_two(self._store, queues)
        await promote(self, queues)

    patch.setattr(Server, "_do_popdue", pop, raising=False)
    patch.setattr(Server, "_do_put", push, raising=False)
    patch.setattr(Upkeep, "visit", visiting)
    patch.setattr(Promoter, "_promote", promoting)


def resurrecting(patch: pytest.MonkeyPatch) -> None:
    """Expired leases are listed in one call; the next one puts their jobs back, come what may."""

    def expired(server: Server, _: Connection, __: int, key: str) -> list[bytes]:
        queue = server.queue(key)
        late = [held.job for n, held in queue.leases.items() if held.deadline <= queue.now]
        return [job for job in late if id_of(job) and returned(job, 1)[1] < 2]  # the rest as usual

    def rescue(server: Server, _: Connection, __: int, key: str, *jobs: bytes) -> int:
        queue = server.queue(key)
        for job in jobs:
            queue.leases = {n: held for n, held in queue.leases.items() if held.job != job}
            if job in queue.processing:
                queue.processing.remove(job)
            queue._place(returned(job, 1)[0])
        return len(jobs)

    visit = Upkeep.visit

    @wraps(visit)
    async def in_two(self: Upkeep, queues: list[str], gap_s: float) -> bool:
        for k in map(keys_of, queues):
            jobs = await self._store.run(op.command("EXPIRED", k.leases, parse=list))
            if jobs:
                await self._store.run(op.command("RESCUE", k.pending, *jobs, parse=int))
        return await visit(self, queues, gap_s)

    patch.setattr(Server, "_do_expired", expired, raising=False)
    patch.setattr(Server, "_do_rescue", rescue, raising=False)
    patch.setattr(Upkeep, "visit", in_two)


def client_clock(patch: pytest.MonkeyPatch) -> None:
    """Deadlines are set, and looked at, by the clock of whoever asks."""
    by_clock(patch, {"claim", "adopt", "extend", "reclaim"})


def producer_clock(patch: pytest.MonkeyPatch) -> None:
    """When a delayed job is due, its producer's clock says."""
    by_clock(patch, {"enqueue"})


def by_clock(patch: pytest.MonkeyPatch, scripts: set[str]) -> None:
    run = Server._script

    def with_skew(self: Server, connection: Connection, client_id: int, command: Any) -> Any:
        queue, skew = self.queue(command[3]), connection.node.skew_ms
        if self.name_of(command) not in scripts:
            return run(self, connection, client_id, command)
        self.jumped_ms += skew
        try:
            return run(self, connection, client_id, command)
        finally:
            self.jumped_ms -= skew
            queue.advance(-skew)

    patch.setattr(Server, "_script", with_skew)


def sends_again(patch: pytest.MonkeyPatch) -> None:
    """A request whose answer is lost is sent again, as redis-py does by default."""
    run_all = AsyncStore.run_all

    @wraps(run_all)
    async def again(self: AsyncStore, operations: Any, *rest: Any, **more: Any) -> Any:
        for _ in range(3):
            try:
                return await run_all(self, operations, *rest, **more)
            except StoreError as error:
                if not error.may_have_happened:
                    raise
        return await run_all(self, operations, *rest, **more)

    patch.setattr(AsyncStore, "run_all", again)


def sends_moves_again(patch: pytest.MonkeyPatch) -> None:
    """The same for blocking requests alone."""
    run = Channel._run

    @wraps(run)
    async def again(self: Channel, *operations: Any) -> Any:
        for _ in range(10):
            try:
                return await run(self, *operations)
            except StoreError as error:
                if not error.may_have_happened:
                    raise
        return await run(self, *operations)

    patch.setattr(Channel, "_run", again)


def cancels_moves(patch: pytest.MonkeyPatch) -> None:
    """A blocking move is ended by cancelling its read."""

    async def end(self: Channel) -> None:
        running, self._running = self._running, None
        if running is not None and not running.done():
            running.cancel()
            await asyncio.wait([running])
            await self._connection.disconnect(nowait=True)

    begin = Channel._begin

    @wraps(begin)
    async def cancelled(self: Channel, *operations: Any) -> Any:
        try:
            return await begin(self, *operations)
        except asyncio.CancelledError:
            return None

    patch.setattr(Channel, "end", end)
    patch.setattr(Channel, "_begin", cancelled)


def short_timeout(patch: pytest.MonkeyPatch) -> None:
    """The client waits as long as the server blocks, and not longer."""
    replies = Channel._replies

    @wraps(replies)
    async def within(self: Channel, count: int, within_s: float) -> Any:
        return await replies(self, count, within_s - exchange.TIMEOUT_S)

    patch.setattr(Channel, "_replies", within)


def keeps_connection(patch: pytest.MonkeyPatch) -> None:
    """A connection whose answer did not come in time is used again: the answer comes to the next."""
    ask, disconnect = AsyncStore._exchange, AsyncConnection.disconnect

    @wraps(ask)
    async def keeping(self: AsyncStore, connection: Any, *rest: Any) -> Any:
        try:
            return await ask(self, connection, *rest)
        except TimeoutError:
            connection.kept = True
            self.server.nodes()[0].idle.append((connection, monotonic()))
            raise

    @wraps(disconnect)
    async def unless_kept(self: Any, **options: Any) -> None:
        if not getattr(self, "kept", False):
            await disconnect(self, **options)
        self.kept = False

    close = Node.close

    @wraps(close)
    async def not_after_a_failure(self: Node[Any], *, nowait: bool = False) -> None:
        if not nowait:
            await close(self)

    patch.setattr(AsyncStore, "_exchange", keeping)
    patch.setattr(Node, "close", not_after_a_failure)
    patch.setattr(AsyncConnection, "disconnect", unless_kept)


class Exited(Exception):
    """A loop was left."""


def exits_on_unblocked(patch: pytest.MonkeyPatch) -> None:
    """A server that becomes a replica ends the loops that wait for work."""
    begin = Channel._begin

    @wraps(begin)
    async def exiting(self: Channel, *operations: Any) -> Any:
        try:
            return await begin(self, *operations)
        except StoreRefused as error:
            if "UNBLOCKED" in str(error):
                raise Exited from error
            raise

    def left(loop: Any) -> Any:
        @wraps(loop)
        async def until(*args: Any) -> None:
            try:
                await loop(*args)
            except Exited:
                return

        return until

    patch.setattr(Channel, "_begin", exiting)
    patch.setattr(Listener, "_await_jobs", left(Listener._await_jobs))
    patch.setattr(Listener, "_await_nudges", left(Listener._await_nudges))


def only_at_boot(patch: pytest.MonkeyPatch) -> None:
    """A process looks for lost jobs when it starts, and never again."""
    requests, booted = Upkeep._requests, set()

    def first(self: Upkeep, queue: str, gap_s: float, *, walk: bool) -> Any:
        promote, sweep, reclaim = requests(self, queue, gap_s, walk=walk)
        if self in booted:
            reclaim = reclaim._replace(args=(0, *reclaim.args[1:]))
        booted.add(self)
        return promote, sweep, reclaim

    patch.setattr(Upkeep, "_requests", first)


def sweeper_dies(patch: pytest.MonkeyPatch) -> None:
    """The thread that recovers ends at the first error of Redis."""
    turn = Maintenance._turn

    async def once(self: Maintenance) -> bool:
        try:
            return await turn(self)
        except StoreError:
            await asyncio.sleep(1e6)
            raise

    patch.setattr(Maintenance, "_turn", once)


def no_extension_while_draining(patch: pytest.MonkeyPatch) -> None:
    """Who is told to end extends no leases any more."""
    stop = Consumer.stop

    @wraps(stop)
    def stopping(self: Consumer) -> None:
        stop(self)
        if self._begun:
            self._keeper.close()

    patch.setattr(Consumer, "stop", stopping)


def extended_by_the_loop(patch: pytest.MonkeyPatch) -> None:
    """Leases are extended by the loop that runs the tasks."""
    wake = Fiber.wake

    @wraps(wake)
    def with_loop(self: Fiber, park: int, why: bool) -> None:
        node = self.node
        if node.busy_until > node.world.now:
            node.world.at(node.busy_until, self.wake, park, why)
        else:
            wake(self, park, why)

    patch.setattr(Fiber, "wake", with_loop)


def drops_failed_settles(patch: pytest.MonkeyPatch) -> None:
    """An outcome that could not be told is forgotten."""

    def forget(self: Claims, batch: Any, **_: Any) -> None:
        self.settled(batch)

    patch.setattr(Claims, "put_back", forget)


def untold_failures(patch: pytest.MonkeyPatch) -> None:
    """Whatever writing down an exception raises, leaves the run without an end."""

    def trusting(error: BaseException) -> BaseException:
        # traceback.format_exception asks for them too, and from Python 3.13 on forgives what that raises.
        notes = getattr(error, "__notes__", ())
        return plain.make(type(error).__name__, "\n".join([str(error), *notes]))

    patch.setattr(plain, "plain_copy", trusting)


EXHIBITS = [
    Exhibit(
        "delayed jobs are popped, then pushed, in two calls",
        "Sidekiq OSS (`scheduled.rb`), Faktory (`RemoveBefore`)",
        "the leader promotes through the client",
        patch=two_calls,
    ),
    Exhibit(
        "the sweeper brings back what has finished meanwhile",
        "River (`JobRescueMany`), Oban (`Lifeline`)",
        "the leader lists what has expired, then rescues it unconditionally",
        patch=resurrecting,
        seed=9,
    ),
    Exhibit(
        "leases go by the clients' clocks",
        "asynq (hence its 30 s of tolerance)",
        "`claim`, `adopt`, `extend`, `reclaim` take the caller's time",
        patch=client_clock,
        seed=6,
    ),
    Exhibit(
        "when a job is due goes by its producer's clock",
        "Celery (`eta`), asynq, Sidekiq",
        "`enqueue` takes the caller's time",
        patch=producer_clock,
    ),
    Exhibit(
        "a request is sent again when its answer is lost",
        "redis-py's default (10 retries)",
        "`AsyncStore.run_all` retries",
        patch=sends_again,
        seed=15,
    ),
    Exhibit(
        "a blocking move is ended by cancelling it",
        "whoever cancels a BLMOVE: in 34 of 200 tries the job had moved",
        "`Channel.end` cancels the read",
        patch=cancels_moves,
        seed=621,
    ),
    Exhibit(
        "the client's timeout is not longer than the block",
        "RQ (PR #2120)",
        "`Channel` waits 5 s for a 5 s block",
        patch=short_timeout,
        seed=2_048,
    ),
    Exhibit(
        "a connection is used again after a timeout",
        "node-redis #898",
        "`AsyncStore` keeps it",
        patch=keeps_connection,
        seed=11,
    ),
    Exhibit(
        "the consumer's loop ends on UNBLOCKED",
        "BullMQ #648",
        "`Listener` leaves its loops",
        patch=exits_on_unblocked,
        seed=65,
    ),
    Exhibit(
        "lost jobs are looked for only at boot",
        "Sidekiq Pro #5540, #3196, #4715",
        "each leader reclaims once",
        patch=only_at_boot,
    ),
    Exhibit(
        "the sweeper dies when Redis goes away",
        "Sidekiq Pro #3684",
        "`Maintenance` stops at the first error",
        patch=sweeper_dies,
    ),
    Exhibit(
        "leases are not extended while draining",
        "whoever stops the heartbeat first; no issue at hand",
        "`Consumer.stop` ends the lease keeper",
        patch=no_extension_while_draining,
        seed=91,
    ),
    Exhibit(
        "the loop that runs the tasks extends the leases",
        "BullMQ (docs: false stalls)",
        "the keeper waits for the loop",
        patch=extended_by_the_loop,
        seed=151,
    ),
    Exhibit(
        "an acknowledgement that fails is forgotten",
        "Sidekiq Pro #4495",
        "`Claims.put_back` drops outcomes",
        patch=drops_failed_settles,
        seed=2,
    ),
    Exhibit(
        "a job whose failure cannot be told is kept for ever",
        "an earlier Headrace: an exception whose `__getattr__` raised",
        "`plain_copy` trusts the exception",
        patch=untold_failures,
    ),
]

# Put in like the others, and harmless here: the sweep leases what the first move left behind.
HARMLESS = Exhibit(
    "a blocking move is sent again when its answer is lost",
    "redis-py's default (10 retries)",
    "`Channel` retries",
    patch=sends_moves_again,
)
