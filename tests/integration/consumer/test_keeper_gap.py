"""What the loop decides while the lease keeper's own adoption is under way leaves no lease to nobody.

A task keeps the loop to itself. Its item is gone, so its adoption is refused; meanwhile an equal bare
item stands in processing, which the keeper's adoption takes. The two threads are held and let go, so
that each interleaving comes about every time.
"""

from __future__ import annotations

import threading
from typing import Any

import pytest

from headrace.consumer import leases
from headrace.consumer.claimed import adoption
from headrace.consumer.dispatcher import Dispatcher
from headrace.policy import LeasePolicy
from headrace.store import Store
from tests.support.consuming import Site
from tests.support.wait import WAIT_S, await_until, wait_until

BARE = b'{"task":"hog"}'
LEASE = LeasePolicy(lease_s=600, bare_lease_s=600)  # a lease that is left to nobody stays
KEEPER_COMES_EVERY_S = 0.2  # 200 s


class Stage:
    """A task that keeps the loop while its adoption is refused, and a lease keeper that can be held."""

    def __init__(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        self.site = site
        site.let_nobody_sweep()
        self.keeper_is_there = threading.Event()
        self.loop_has_decided = threading.Event()
        self.ran = 0
        self._loads = 0
        moved, forget = Dispatcher.take_moved, Dispatcher._forget

        def taken(jobs: Dispatcher, k: Any, job: bytes, until: float) -> None:
            if not self.ran:
                assert site.redis.lrem(k.processing, 1, job) == 1  # a plain client has done it
                self._loads = self.loads()
            moved(jobs, k, job, until)

        def forgotten(jobs: Dispatcher, claimed: Any) -> None:
            forget(jobs, claimed)
            self.loop_has_decided.set()

        monkeypatch.setattr(Dispatcher, "take_moved", taken)
        monkeypatch.setattr(LeasePolicy, "extend_every_s", KEEPER_COMES_EVERY_S)
        monkeypatch.setattr(Dispatcher, "_forget", forgotten)
        site.app.task(name="hog")(self._hog)

    def loads(self) -> int:
        stats: dict[str, Any] = self.site.redis.info("commandstats")
        return int(stats.get("cmdstat_script|load", {"calls": 0})["calls"])

    async def _hog(self) -> None:
        self.ran += 1
        if self.ran > 1:
            return
        wait_until(lambda: self.loads() > self._loads)  # and the adoption, which came with it
        self.site.redis.lpush(self.site.k.processing, BARE)  # as if somebody had moved an equal job
        assert self.keeper_is_there.wait(WAIT_S)

    def hold_the_keeper(self) -> None:
        self.keeper_is_there.set()
        assert self.loop_has_decided.wait(WAIT_S)

    async def play(self) -> None:
        async with self.site.consumer(lease=LEASE) as running:
            await self.site.idle(running)
            self.site.push(BARE)
            # Not until the queue is drained: it is that, too, between the one and the other.
            await await_until(lambda: self.site.ends() == {"done": 1}, "the equal one is done")
        assert self.ran == 2  # the one that is gone, and the equal one


@pytest.fixture
def stage(site: Site, monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(site, monkeypatch)


async def test_the_loop_gives_a_job_up_before_the_keeper_has_noted_its_adoption(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Store.run

    def held(store: Store, operation: Any) -> Any:
        answer = run(store, operation)
        if operation.name == "adopt" and answer == "ok" and not stage.keeper_is_there.is_set():
            stage.hold_the_keeper()
        return answer

    monkeypatch.setattr(Store, "run", held)
    await stage.play()


async def test_the_loop_gives_a_job_up_before_the_keeper_has_sent_its_adoption(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def held(*args: Any, **more: Any) -> Any:
        if not stage.keeper_is_there.is_set():
            stage.hold_the_keeper()
        return adoption(*args, **more)

    monkeypatch.setattr(leases, "adoption", held)
    await stage.play()
