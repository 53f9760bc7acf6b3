"""Each bug of the museum is found, by a check that was not written for it; without the bug nothing is.

A change of the product changes what a seed does: where an exhibit's own does not show it any more, some
others are tried (with ``HYPOTHESIS_PROFILE=deep`` many). Then ``python -m tests.museum`` tells the next.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import chain

import pytest
from redis import Redis

from headrace import Headrace
from headrace.store import AsyncStore, Store
from tests.integration.consumer.test_maintenance import looks_in
from tests.integration.schedules.conftest import Bench
from tests.integration.schedules.test_sum import walk
from tests.integration.transitions.driver import Driver
from tests.museum import (
    in_flows,
    in_redis,
    in_schedules,
    in_the_consumer,
    in_the_leader,
    in_the_server,
)
from tests.museum.exhibit import Exhibit
from tests.museum.find import find
from tests.museum.in_lua import MISPRINTS, Misprint
from tests.simulation.flows import real_flows
from tests.simulation.run import Parts
from tests.support.consuming import Site
from tests.support.processes import ROOT, clean_environment

MOST_SEEDS = 10_000 if os.environ.get("HYPOTHESIS_PROFILE") == "deep" else 1_000
EXHIBITS = [*in_redis.EXHIBITS, *in_the_consumer.EXHIBITS]


@pytest.mark.timeout(1_200)  # they may need all of those
@pytest.mark.parametrize("exhibit", EXHIBITS, ids=lambda exhibit: exhibit.name)
def test_the_simulation_finds(exhibit: Exhibit) -> None:
    found = find(exhibit, chain([exhibit.seed], range(MOST_SEEDS)))
    assert found is not None, f"{MOST_SEEDS:,} seeds, and nothing was found"
    violation = found.outcome.violations[0]
    assert re.match(r"I\d+: ", violation), f"the patch does not fit the product: {violation}"


@pytest.fixture(scope="module")
def flows() -> Iterator[Parts]:
    with real_flows() as parts:
        yield parts


@pytest.mark.timeout(600)
@pytest.mark.parametrize("exhibit", in_flows.EXHIBITS, ids=lambda exhibit: exhibit.name)
def test_the_simulation_on_real_scripts_finds(exhibit: Exhibit, flows: Parts) -> None:
    found = find(exhibit, chain([exhibit.seed], range(MOST_SEEDS)), flows)
    assert found is not None, f"{MOST_SEEDS:,} seeds, and nothing was found"


@pytest.fixture
def queue(url: str, redis: Redis) -> Iterator[Driver]:
    store = Store(url, name="museum")
    yield Driver(store, redis)
    store.close()


@pytest.mark.parametrize("misprint", MISPRINTS, ids=lambda misprint: misprint.name)
def test_a_misprint_is_found_on_a_real_server(
    misprint: Misprint, queue: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    misprint.put_in(monkeypatch)
    with pytest.raises(AssertionError):
        misprint.check(queue)


@pytest.mark.parametrize("misprint", MISPRINTS, ids=lambda misprint: misprint.name)
def test_without_the_misprint_nothing_is_found(misprint: Misprint, queue: Driver) -> None:
    misprint.check(queue)


@pytest.mark.parametrize("has_bug", [False, True], ids=["without", in_the_leader.NAME])
async def test_a_leader_that_looks_rarely_is_found(
    has_bug: bool, url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    if has_bug:
        in_the_leader.paced_by_elapsed_time(monkeypatch)
    site = Site(url, redis)
    looks = await looks_in(in_the_leader.TURNS, site, monkeypatch)
    await site.close()
    assert (looks < in_the_leader.TURNS) == has_bug


@pytest.mark.timeout(120)
@pytest.mark.parametrize("word", ["", "bug"], ids=["without", in_the_server.NAME])
def test_a_settle_without_a_fence_is_found_by_the_checker_of_the_laboratory(word: str) -> None:
    command = [sys.executable, "-m", "tests.museum.in_the_server", word]
    said = subprocess.run(
        command, cwd=ROOT, env=clean_environment(), capture_output=True, text=True, check=True
    ).stdout
    assert ("I4: done of delivery 0 ended" in said) == bool(word), said
    assert (" 4 late settles refused" in said) == (not word), said


@pytest.mark.parametrize("name", ["", *in_schedules.EXHIBITS], ids=lambda name: name or "without")
async def test_a_bug_of_schedules_is_found_by_their_sum(
    name: str, url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = AsyncStore(url)
    app = Headrace(url)
    if name:
        in_schedules.EXHIBITS[name](monkeypatch)
    try:
        if name:
            with pytest.raises(AssertionError):
                await walk(Bench(store, redis, app), seed=0)
        else:
            await walk(Bench(store, redis, app), seed=0)
    finally:
        await store.close()
        app.close()
