"""The sampler: looks at a queue again and again, as nobody who works on it does.

Each look is one MULTI, so it sees one instant. What stands somewhere without a live lease is timed
by how long the sampler has seen it there: a Redis that was away does not count against anybody.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable

from redis import Redis
from redis.exceptions import RedisError

from headrace.errors import StoreError
from headrace.keys import Keys, keys_of
from tests.faults.history import Journal, number_of
from tests.support import invariants

EVERY_S = 0.2
_GAP_S = 1.0  # without a look for so long, what was seen before is not counted
_WHOLE_UP_TO = 2_000  # jobs: to read them all takes a few milliseconds


class Sampler(threading.Thread):
    """Samples one queue into a journal.

    Args:
        connect: gives a client of the Redis; asked again when one fails.
        journal: where samples go.
        queue: which queue.
        whole: read all jobs when they are few, to look for doubles and for bare items.
    """

    def __init__(
        self, connect: Callable[[], Redis], journal: Journal, queue: str, *, whole: bool = True
    ) -> None:
        super().__init__(name="sampler", daemon=True)
        self._connect = connect
        self._redis: Redis | None = connect()
        self._journal = journal
        self._queue, self._k = queue, keys_of(queue)
        self._whole = whole
        self._ending = threading.Event()
        self._seen: dict[Hashable, float] = {}  # what has no live lease, and since when
        self._looked_at = 0.0

    def run(self) -> None:
        while not self._ending.wait(EVERY_S):
            try:
                self._redis = self._redis or self._connect()
                self._look(self._redis)
            except (RedisError, OSError, StoreError):
                if self._redis is not None:
                    self._redis.close()
                self._redis = None
        if self._redis is not None:
            self._redis.close()

    def close(self) -> None:
        self._ending.set()
        if self.is_alive():
            self.join()

    def _look(self, redis: Redis) -> None:
        places, counters, expired, overdue_s = _counts(redis, self._k)
        if (now := time.monotonic()) - self._looked_at > _GAP_S:
            self._seen.clear()
        self._looked_at = now
        doubled: list[str] = []
        bare: set[Hashable] = set()
        if self._whole and sum(places.values()) <= _WHOLE_UP_TO:
            state = invariants.read(redis, self._queue)
            numbers = Counter(number_of(job) for jobs in state.places.values() for job in jobs)
            doubled = [str(n) for n, count in numbers.items() if count > 1 and n is not None]
            leased = Counter(job for _, job in state.claims.values())
            bare = {("bare", job) for job in Counter(state.processing) - leased}
        here = bare | {("expired", name, deadline) for name, deadline in expired}
        self._seen = {what: self._seen.get(what, now) for what in here}
        stood = {"bare": 0.0, "expired": 0.0}
        for what, since in self._seen.items():
            stood[what[0]] = max(stood[what[0]], now - since)  # type: ignore[index]
        stood_s = (stood["expired"], stood["bare"], overdue_s)
        self._journal.write("sample", places, counters, doubled, *stood_s)


def _counts(
    redis: Redis, k: Keys
) -> tuple[dict[str, int], dict[str, int], list[tuple[bytes, float]], float]:
    """Count places and counters; give the leases that have expired, and how overdue a job is, s."""
    with redis.pipeline(transaction=True) as pipe:
        for key in (k.pending, k.processing, k.dead):
            pipe.llen(key)
        for key in (k.priority, k.delayed):
            pipe.zcard(key)
        pipe.hlen(k.limited)
        pipe.hgetall(k.stats)
        pipe.time()
        pipe.zrange(k.leases, 0, 99, withscores=True)
        pipe.zrange(k.delayed, 0, 0, withscores=True)
        *sizes, stats, (seconds, micros), leases, delayed = pipe.execute()
    names = ("pending", "processing", "dead", "priority", "delayed", "limited")
    now_ms = seconds * 1000 + micros // 1000
    expired = [(name, deadline) for name, deadline in leases if deadline < now_ms]
    counters = {name.decode(): int(value) for name, value in stats.items()}
    overdue_s = max([0.0, *((now_ms - due_ms) / 1000 for _, due_ms in delayed)])
    return dict(zip(names, sizes, strict=True)), counters, expired, overdue_s
