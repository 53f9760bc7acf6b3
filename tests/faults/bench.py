"""The bench on which one class of faults runs: a server, a nursery, a sampler, and the end of it all.

A class starts processes, breaks things, and says ``finish``: then the backlog has to drain, every
consumer has to show that it is awake, all processes are told to end, and the checker decides.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
import signal
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any, Self

from redis import Redis
from redis.exceptions import RedisError

from headrace.embedded import EmbeddedServer
from headrace.keys import keys_of
from headrace.policy import LONGEST_PAUSE_S, LeasePolicy
from tests.faults import history as records
from tests.faults import yielded
from tests.faults.checker import check
from tests.faults.evidence import Final, Terms, Verdict
from tests.faults.failpoints import Failpoint
from tests.faults.history import Journal
from tests.faults.lab_app import HISTORY
from tests.faults.nursery import Nursery, end_strays
from tests.faults.roles import (
    QUEUE,
    ConsumerRole,
    Load,
    OperatorRole,
    ProducerRole,
    Role,
    ServerRole,
)
from tests.faults.sampler import Sampler
from tests.support import invariants
from tests.support.clusters import Cluster, running_cluster
from tests.support.servers import private_server
from tests.support.wait import bound, wait_until

SHORT = LeasePolicy(lease_s=1.5, bare_lease_s=1.5, max_crashes=50)
"""Leases short enough to wait for many of them; and nobody dies of being killed so often."""

_PROBE_S = 0.4  # long enough for jobs claimed ahead to be handed to whoever is free
_FIRST_PROBE = 900_000_000


class Bench:
    """One class' place.

    Attributes:
        rng: all chance comes from here.
        folder: everything that is written.
        server: the Redis.
        lease: what consumers are told.
        scale: how much of the full work to do: 1 is all.
    """

    def __init__(
        self, folder: Path, seed: int, *, scale: float = 1.0, lease: LeasePolicy = SHORT
    ) -> None:
        self.rng = random.Random(seed)
        self.folder, self.lease, self.scale = folder, lease, scale
        self.history = folder / "history"
        self.history.mkdir(parents=True)
        self.nursery = Nursery(folder, self.history)
        self.journal = Journal(self.history, "bench")
        self.server: EmbeddedServer
        self.cluster: Cluster | None = None  # in place of the server
        self.queues = [QUEUE]  # it, and where it is divided its other partitions
        self.url = ""  # how processes reach Redis, unless they are told otherwise
        self.consumers: dict[str, int] = {}  # name -> pid
        self.producers: list[int] = []
        self.operators: list[int] = []
        self.servers: list[int] = []
        self.infrastructure: list[int] = []  # proxies and Sentinels: they end last
        self._names = 0
        self._numbers = 1
        self.moved: invariants.State | None = None  # of the server that the queue has left
        self._sampler: Sampler | None = None
        self.closing = contextlib.ExitStack()

    # — what there is —

    def serve_redis(self, **options: Any) -> EmbeddedServer:
        """Start the Redis of this bench."""
        self.server = private_server(self.folder / "data", **options)
        self.closing.callback(self.server.kill)
        self.url = self.server.url
        return self.server

    def serve_cluster(self) -> Cluster:
        """Start the cluster of this bench."""
        (self.folder / "cluster").mkdir()
        self.cluster = self.closing.enter_context(running_cluster(self.folder / "cluster"))
        self.url = self.cluster.url
        return self.cluster

    def sample(self, *, whole: bool = True) -> None:
        """Begin to take samples."""
        self._sampler = Sampler(self.redis, self.journal, QUEUE, whole=whole)
        self._sampler.start()
        self.closing.callback(self._sampler.close)

    def redis(self, queue: str = QUEUE) -> Redis:
        """Give a plain client of the server where a queue is; close it."""
        if self.cluster is not None:
            return self.cluster.placed_client_of(queue)
        return Redis.from_url(self.server.url, socket_timeout=5)

    def name(self, kind: str) -> str:
        self._names += 1
        return f"{kind}{self._names}"

    def start(self, role: type[Role], **options: Any) -> int:
        """Start a process."""
        given: dict[str, Any] = {"url": self.url, "history": self.history} | options
        return self.nursery.start(role(**given))

    def consumer(self, points: tuple[Failpoint, ...] = (), **options: Any) -> str:
        """Start a consumer; gives its name."""
        name = self.name("c")
        options = {"lease": self.lease, "stop_s": 1.5 * self.lease.lease_s} | options
        self.consumers[name] = self.start(ConsumerRole, name=name, points=points, **options)
        return name

    def maintainer(self, **options: Any) -> int:
        """Start a ``headrace serve``."""
        pid = self.start(ServerRole, name=self.name("s"), lease=self.lease, **options)
        self.servers.append(pid)
        return pid

    def operator(self, **options: Any) -> int:
        """Start somebody who looks, cancels, redrives and purges until the end of the faults."""
        options = {"name": self.name("o"), "seed": self.rng.getrandbits(32)} | options
        pid = self.start(OperatorRole, **options)
        self.operators.append(pid)
        return pid

    def producer(self, count: int, *, role: dict[str, Any] | None = None, **load: Any) -> int:
        """Start a producer of so many jobs, scaled."""
        count = max(1, round(count * self.scale))
        self.producers.append(
            self.start(
                ProducerRole,
                name=self.name("p"),
                seed=self.rng.getrandbits(32),
                load=Load(count=count, first=self._numbers, **load),
                **(role or {}),
            )
        )
        self._numbers += 1_000_000
        return self.producers[-1]

    # — faults —

    def fault(self, what: str, transition: str = "", target: str = "") -> None:
        """Note that something is broken now."""
        self.journal.write("fault", what, transition, target)

    def refused(self, word: str, transition: str) -> int:
        """Count how often Redis has refused a transition so far, with this word."""
        record = f'"refused {word}","{transition}"'.encode()
        return sum(path.read_bytes().count(record) for path in self.history.glob("*.jsonl"))

    def healed(self) -> None:
        """Note that what was broken works again."""
        self.journal.write("healed")

    def forgot(self) -> None:
        """Note that Redis may have forgotten its last moments."""
        self.journal.write("rollback")

    def kill(self, name: str) -> None:
        """SIGKILL a consumer."""
        self.fault("SIGKILL", target=name)
        self.nursery.signal(self.consumers.pop(name), signal.SIGKILL)

    def leave_bare(self) -> None:
        """Take a job as a plain consumer does, and be seen no more: it stands bare in processing."""
        k = keys_of(QUEUE)
        with self.redis() as redis:
            if redis.rpoplpush(k.pending, k.processing):
                self.fault("plain consumer lost")

    def kill_child(self, parent: int) -> None:
        """SIGKILL one of the processes that a laboratory process started: a consumer."""
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        consumers = [int(pid) for pid in children if b"spawn_main" in _command_line(pid)]
        pid = self.rng.choice(consumers)
        self.fault("SIGKILL", target=str(pid))
        os.kill(pid, signal.SIGKILL)
        self.journal.write("death", pid, "child", -signal.SIGKILL)

    def connected(self, prefix: str) -> int:
        """Count the consumers of such names that are connected."""
        with self.redis() as redis:
            names = {client["name"] for client in redis.client_list()}
        return sum(name.startswith(f"headrace:{prefix}") for name in names)

    def any_consumer(self) -> str:
        return self.rng.choice(sorted(self.consumers))

    def forget_the_dead(self) -> int:
        """Drop consumers that died at a failpoint; gives how many."""
        self.nursery.look()
        dead = [name for name, pid in self.consumers.items() if pid not in self.nursery.alive]
        for name in dead:
            del self.consumers[name]
        return len(dead)

    def pause(self, low_s: float, high_s: float) -> None:
        """Let a random time pass."""
        time.sleep(self.rng.uniform(low_s, high_s))

    # — waiting —

    def producing(self) -> bool:
        self.nursery.look()
        return any(pid in self.nursery.alive for pid in self.producers)

    def end_producers(self) -> None:
        """Tell producers that it is enough."""
        for pid in self.producers:
            self.nursery.signal(pid, signal.SIGTERM)

    def until_produced(self) -> None:
        wait_until(lambda: not self.producing(), "producers end", within_s=bound(120))

    def waiting(self) -> int:
        """Count the jobs that have not ended."""
        return sum(map(self._waiting_in, self.queues))

    def _waiting_in(self, queue: str) -> int:
        k = keys_of(queue)
        with self.redis(queue) as redis, redis.pipeline(transaction=False) as pipe:
            for key in (k.pending, k.processing):
                pipe.llen(key)
            for key in (k.delayed, k.priority):
                pipe.zcard(key)
            pipe.hlen(k.limited)
            return sum(pipe.execute())

    def drained(self, without_progress_s: float = 40) -> bool:
        """Wait until nothing waits and nothing is in processing; False when that does not get on."""
        least, deadline = sys.maxsize, time.monotonic() + without_progress_s
        while time.monotonic() < deadline:
            with contextlib.suppress(RedisError):
                left = self.waiting()
                if left == 0:
                    return True
                if left < least:
                    least, deadline = left, time.monotonic() + without_progress_s
            time.sleep(0.05)
        return False

    # — the end —

    def finish(self, terms: Terms) -> Verdict:
        """Drain, probe, end everything, and let the checker decide."""
        self.until_produced()
        for pid in self.operators:  # else they would redrive for ever what fails for ever
            self.nursery.signal(pid, signal.SIGTERM)
        drained = self.drained()
        if drained and self.consumers:
            # Whoever has just failed to reach Redis may pause for so long before he asks again.
            time.sleep(1.25 * LONGEST_PAUSE_S)
        probed_at = time.monotonic()
        if drained and self.consumers:
            self._probe()
            self.drained()
        awake = tuple(sorted(self.consumers)) if drained else ()
        self._end_processes()
        final = self._final(probed_at)
        self.closing.close()
        terms = dataclasses.replace(terms, consumers=awake, max_crashes=self.lease.max_crashes)
        return check(records.read(self.history), final, terms)

    def _probe(self) -> None:
        """Enqueue naps for all slots of all consumers: each has to take some."""
        count = 10 * len(self.consumers)
        pid = self.start(
            ProducerRole,
            name=self.name("probe"),
            load=Load(
                (("nap", 1),), count, _FIRST_PROBE, batch=count, seconds=(_PROBE_S, _PROBE_S)
            ),
        )
        wait_until(lambda: pid not in self.nursery.still_alive(), "probe")

    def _end_processes(self) -> None:
        """End those who talk, and then those through whom they talk."""
        for left in (set(self.infrastructure), set()):
            self.nursery.look()
            for pid in self.nursery.alive - left:
                self.nursery.signal(pid, signal.SIGTERM)
            wait_until(
                partial(self._only_left, left),
                "laboratory processes end",
            )

    def _only_left(self, left: set[int]) -> bool:
        return self.nursery.still_alive() <= left

    def _final(self, probed_at: float) -> Final:
        states, keys, streams = [], dict[str, int](), dict[str, list[yielded.Entry]]()
        for queue in self.queues:
            with self.redis(queue) as redis:
                states.append(invariants.read(redis, queue))
                keys |= {key.decode(): redis.pttl(key) for key in redis.scan_iter()}
                streams |= yielded.read(redis, queue)
        state = invariants.merged(states)
        if self.moved is not None:  # what was counted there was counted here again, if it was moved
            there = Counter(self.moved.counters)
            there["enqueued"] -= there.pop("moved", 0)
            state = dataclasses.replace(state, counters=dict(there + Counter(state.counters)))
        return Final(state, keys, probed_at, streams)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.nursery.close()
        end_strays(f"{HISTORY}={self.history}")
        self.closing.close()


def _command_line(pid: str) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""
