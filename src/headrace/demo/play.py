"""What happens in the demo, in its order: enqueue, watch, kill, recover, count again, check."""

from __future__ import annotations

import os
from typing import Final

from headrace import flows
from headrace.clock import monotonic
from headrace.demo.audit import Evidence, audit
from headrace.demo.census import TASK, app
from headrace.demo.inventory import Inventory, plain_loop
from headrace.demo.picture import FRAME_EVERY_S, Picture
from headrace.demo.processes import pause
from headrace.demo.stage import LEASE_S, SLOTS, Stage, Trouble
from headrace.demo.story import Story
from headrace.demo.strike import Strike, strike
from headrace.demo.watch import Watch
from headrace.doctor.words import counted
from headrace.policy import LeasePolicy

_STUCK_S: Final = 60.0  # without any job going anywhere
_LOOK_S: Final = 0.01  # few files are counted quickly: so often it looks whether it is time to kill


class Play:
    """One run of the demo."""

    def __init__(self, inventory: Inventory, stage: Stage, picture: Picture) -> None:
        self._inventory = inventory
        self._stage = stage
        self._picture = picture
        self._say = picture.say
        self._strike: Strike | None = None
        self._misses = 0

    def run(self, consumers: int, *, kill: bool) -> Story:
        """Do everything; give what happened.

        Raises:
            Trouble: it cannot go on.
            StoreError: the private server is gone.
        """
        self._open(consumers)
        began = monotonic()
        jobs = self._enqueue()
        watch = Watch(self._stage.store, self._stage.k, list(jobs))
        self._follow(watch, kill_at=len(jobs) // 2 if kill else None)
        queue_s = monotonic() - began
        self._say("every job has ended; now the same files in a plain loop, to compare")
        began = monotonic()
        paths = [*self._inventory.files, *self._inventory.missing]
        expected = plain_loop(paths, lambda done: self._picture.count(done, len(paths)))
        loop_s = monotonic() - began
        moment = watch.look()
        evidence = Evidence(
            jobs=jobs,
            ends=watch.ends,
            letters=list(self._stage.store.follow(flows.dead_letters(self._stage.k))),
            held=self._strike.held if self._strike else frozenset(),
            snapshot=moment.snapshot,
            expected=expected,
        )
        for complaint in self._stage.close():
            self._say(complaint)
        return Story(
            evidence=evidence,
            audit=audit(evidence),
            moment=moment,
            consumers=self._stage.consumers,
            strike=self._strike,
            lease_s=LEASE_S,
            queue_s=queue_s,
            loop_s=loop_s,
            cpus=os.cpu_count() or 1,
        )

    def _open(self, consumers: int) -> None:
        inventory, stage = self._inventory, self._stage
        left_out = (
            f" ({inventory.left_out:,} with names that are no text left out)"
            if inventory.left_out
            else ""
        )
        self._say(f"{counted(len(inventory.files), 'file')} in {inventory.root}{left_out}")
        self._say(f"a private {stage.server.engine} at {stage.server.url}")
        page = stage.serve()
        self._say(f"headrace serve, with a page at {page} while this runs")
        stage.consume(consumers)
        self._say(
            f"headrace consume, {consumers} times: {SLOTS} slots each, leases of {LEASE_S:g} s "
            f"(by default {LeasePolicy().lease_s:g} s)"
        )

    def _enqueue(self) -> dict[str, str]:
        paths = self._inventory.in_order()
        began = monotonic()
        jobs = app.enqueue_many(app.call(TASK, path) for path in paths)
        self._say(
            f"{len(jobs):,} jobs accepted in {monotonic() - began:.2f} s: these files, and "
            f"{len(self._inventory.missing)} that are not there"
        )
        return {job.id: path for job, path in zip(jobs, paths, strict=True)}

    def _follow(self, watch: Watch, *, kill_at: int | None) -> None:
        """Watch until every job has ended; kill a consumer when so many have."""
        look_at, progress, stuck_at = 0.0, -1, 0.0
        while not watch.over:
            if kill_at is not None and self._strike is None:
                self._kill(watch, kill_at)
            if monotonic() >= look_at:
                look_at = monotonic() + FRAME_EVERY_S
                moment = watch.look()
                self._picture.show(moment, self._stage.consumers)
                if self._strike is not None:
                    for news in self._strike.news(moment, watch.ends):
                        self._say(news)
                self._stage.check()
                if moment.progress != progress:
                    progress, stuck_at = moment.progress, monotonic() + _STUCK_S
                elif monotonic() > stuck_at:
                    raise Trouble(f"nothing happens for {_STUCK_S:g} s:\n{self._stage.logs()}")
            pause(_LOOK_S)
        if kill_at is not None and self._strike is None:
            self._say("nobody was killed: the jobs were over before that")

    def _kill(self, watch: Watch, kill_at: int) -> None:
        """Kill a consumer if it is time to and it holds jobs; if it holds none, the next is tried."""
        before = watch.ended()
        if before < kill_at:
            return
        consumers = self._stage.consumers
        victim = consumers[(len(consumers) // 2 + self._misses) % len(consumers)]
        self._strike = strike(victim, self._stage.store, self._stage.k, before)
        if self._strike is None:
            self._misses += 1
        else:
            held = counted(len(self._strike.held), "job")
            self._say(f"kill -9 {victim.pid}: {victim.name} is dead, with {held} in its hands")
