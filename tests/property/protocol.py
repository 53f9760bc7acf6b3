"""The whole machine: how an example begins and ends, and how examples are run.

HYPOTHESIS_PROFILE: ``default`` explores anew each time, ``ci`` takes the same examples each time,
``deep`` takes its time.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule, run_state_machine_as_test

from headrace.store import Store
from tests.property.commands import plain
from tests.property.examples import foreign, jobs
from tests.property.machine import Consumer, when
from tests.property.rules_of_consumers import RulesOfConsumers

PROFILE = os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "default")
BASE = settings(
    deadline=None,
    print_blob=True,
    stateful_step_count=60,
    suppress_health_check=list(HealthCheck),
)


class Protocol(RulesOfConsumers):
    """The transitions as rules. Each runs on Redis and on the model, and compares the answers."""

    @initialize(backlog=st.lists(jobs | foreign, max_size=6), dead=st.integers(0, 2))
    def start(self, backlog: list[bytes], dead: int) -> None:
        """Begin with an empty server, then some jobs, of which the first are dead."""
        (_, (seconds, micros)) = self.store.run_all([plain("FLUSHALL"), plain("TIME")])
        self.started_at = int(seconds) * 1000 + int(micros) // 1000
        for job in backlog:
            self.push_as_a_plain_client(job)
        if dead:
            self.claim("A", dead, lost=False)
            self.settle(0, [(0, "dead"), (1, "dead")], 0, oldest=False, lost=False)

    @when("leases")
    @rule(hours=st.sampled_from([2, 3]), extended=st.booleans())
    def leases_run_out(self, hours: int, extended: bool) -> None:
        self.time_passes(hours)
        if extended:
            self.extend("A")
            self.extend("B")
        self.redis_is_as_the_model_says()
        self.reclaim(100, 0, gap=False)

    # The end.

    def teardown(self) -> None:
        if sys.exc_info()[0] is None and hasattr(self, "started_at"):
            self.everything_drains()

    def everything_drains(self) -> None:
        """I10, I11: with all consumers lost, each item is runnable again within one lease."""
        model = self.model
        self.operate("resume", b"")
        self.sweep(everything=True, offset=0)
        self.redis_is_as_the_model_says()
        self.leases_run_out(4, extended=False)
        assert not model.processing, "I10: an item without a live lease is runnable again"
        assert not model.leases
        self.time_passes(4)
        self.promote(1_000)
        assert not model.delayed, "I11: what is due is promoted"
        waiting = len(model.pending) + len(model.priority)
        consumer = self.consumers[0] = Consumer("A", next_number=100_000)
        self.consumers[1].forget()
        self.claim("A", 1_000, lost=False)
        assert len(model.processing) == waiting, "I11: the backlog drains"
        while consumer.moved:
            self.redis_is_as_the_model_says()
            self.adopt(0, swept=False, lost=False)
        self.settle(0, [(i, "done") for i in range(waiting)], 0, oldest=False, lost=False)
        assert not model.processing
        self.redis_is_as_the_model_says()


def find_faults(url: str, profile: settings, rounds: int = 1) -> None:
    """Run the machine on an empty server; raises what it finds."""
    store = Store(url, name="state-machine")
    machine: Any = partial(Protocol, store)
    try:
        for _ in range(rounds):
            run_state_machine_as_test(machine, settings=profile)
    finally:
        store.close()
