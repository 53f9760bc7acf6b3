"""Poison jobs kill the processes that run them, and nothing but the poison dies of it."""

from __future__ import annotations

import json
import re
import sys
import time
from collections import Counter
from itertools import cycle
from pathlib import Path

import pytest
from redis import Redis

from headrace import Headrace, wire
from headrace.keys import keys_of
from tests.support import invariants
from tests.support.journal import lines_of
from tests.support.plain import PlainRedis
from tests.support.processes import Process, clean_environment, processes
from tests.support.wait import wait_until

K = keys_of("queue")
CONSUME = (sys.executable, "-m", "headrace", "consume", "tests.acceptance.poison:app")
SHORT = ("--lease", "3", "--bare-lease", "3")
POISON = {
    "kill": "SIGKILL",
    "exit": "",
    "segfault": "SIGSEGV",
    "hog": "SIGABRT",
    "linger": "SIGKILL",
}
pytestmark = pytest.mark.timeout(180)  # on a quiet machine 20 to 40; each suspect starts a Python


def ended(journal: Path) -> Counter[str]:
    """Count how often each job came to its end, by the tasks' own journal."""
    lines = lines_of(journal)
    return Counter(job for event, job, *_ in lines if event == "end")


class Watch:
    """Looks again and again at how many crashes the innocents are charged with."""

    def __init__(self, redis: PlainRedis, innocents: set[str]) -> None:
        self.redis = redis
        self.innocents = innocents
        self.worst: Counter[str] = Counter()

    def look(self) -> None:
        jobs = [value.split(b" ", 1)[1] for value in self.redis.hvals(K.claims)]
        jobs += self.redis.lrange(K.pending, 0, -1)
        for head, _ in filter(None, map(wire.split, jobs)):
            if head.id in self.innocents:
                self.worst[head.id] = max(self.worst[head.id], head.crashes)


def mixed(app: Headrace, innocents: int, poisons: int) -> tuple[dict[str, str], set[str]]:
    """Enqueue poison among innocents: the poison's ids and how it kills, and the innocents' ids."""
    calls = []
    every = innocents // poisons
    kinds = cycle(POISON)
    for number in range(innocents):
        task = "innocent" if number % 3 else "ainnocent"
        calls.append(app.call(task, number, seconds=0.02 + 0.01 * (number % 3)))
        if number % every == every // 2:
            calls.append(app.call("poison", next(kinds)))
    jobs = app.enqueue_many(calls)
    poison = {
        job.id: json.loads(call.job)["args"][0]
        for job, call in zip(jobs, calls, strict=True)
        if b'"poison"' in call.job
    }
    return poison, {job.id for job in jobs} - poison.keys()


def check(redis: Redis, poison: dict[str, str], innocents: set[str], journal: Path) -> None:
    """Hold the letters and the journal against what was enqueued."""
    letters = [json.loads(letter) for letter in redis.lrange(K.dead, 0, -1)]
    assert {letter["id"] for letter in letters} == poison.keys()
    for letter in letters:
        how, error = poison[letter["id"]], letter["error"]
        assert (error["reason"], letter["crashes"]) == ("crashed", 5)
        assert error.get("signal", "") == POISON[how]
        assert error.get("exit_code") == (3 if how == "exit" else None)
    assert not innocents - ended(journal).keys()
    invariants.check(redis)


def run(
    url: str,
    redis: Redis,
    folder: Path,
    *options: str,
    consumers: int,
    innocents: int,
    poisons: int,
) -> None:
    journal, app = folder / "journal", Headrace(url)
    journal.touch()
    env = clean_environment(HEADRACE_URL=url, HEADRACE_TEST_JOURNAL=str(journal))
    poison, harmless = mixed(app, innocents, poisons)
    app.close()
    watch, deaths = Watch(redis, harmless), 0
    with processes(folder) as start:

        def consumer() -> Process:
            return start(*CONSUME, "-c", "10", *SHORT, *options, env=env)

        running = [consumer() for _ in range(consumers)]
        keys = K.pending, K.processing, K.priority, K.delayed
        while redis.exists(*keys):
            for dead in [process for process in running if not process.alive()]:
                deaths += 1
                running.remove(dead)
                running.append(consumer())
            watch.look()
            time.sleep(0.02)
        for process in running:
            assert process.end() == 0, process.output
    print(f"{deaths} consumers restarted by hand")
    print("innocents by the crashes they were charged with:", Counter(watch.worst.values()))
    check(redis, poison, harmless, journal)


def test_only_poison_dies_when_consumers_are_restarted_by_hand(
    url: str, redis: Redis, tmp_path: Path
) -> None:
    run(url, redis, tmp_path, consumers=2, innocents=200, poisons=5)


def test_only_poison_dies_under_a_supervisor(url: str, redis: Redis, tmp_path: Path) -> None:
    run(url, redis, tmp_path, "-w", "2", consumers=1, innocents=200, poisons=5)


def test_a_suspect_dies_with_its_consumer(url: str, redis: Redis, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    journal.touch()
    call = Headrace(url).call("obedient")
    job = call.job.replace(b',"task"', b',"delivery":2,"crashes":2,"task"', 1)
    redis.lpush(K.pending, job)
    env = clean_environment(HEADRACE_URL=url, HEADRACE_TEST_JOURNAL=str(journal))
    with processes(tmp_path) as start:
        consumer = start(*CONSUME, *SHORT, env=env)
        wait_until(lambda: journal.read_text(), "it runs")
        pid = int(journal.read_text().split()[3])
        assert pid != consumer.pid
        # It logs as its consumer does, with the job on the line.
        wait_until(lambda: re.search(r"poison: waits .*job=\w{26} ", consumer.output))
        consumer.kill()
        wait_until(lambda: not Path(f"/proc/{pid}").exists(), "it is gone")
