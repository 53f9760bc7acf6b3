"""Processes are killed, and nothing is lost: real consumers, a real server, SIGKILL."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from pathlib import Path

from redis import Redis

from headrace import Headrace, StoreError
from headrace.keys import keys_of
from tests.support import invariants
from tests.support.journal import lines_of
from tests.support.processes import Process, clean_environment, processes
from tests.support.servers import private_server
from tests.support.wait import wait_until

K = keys_of("queue")
CONSUME = (sys.executable, "-m", "headrace", "consume", "tests.acceptance.shop:app")


class Journal:
    """What the tasks say they did."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def of(self, event: str) -> Counter[int]:
        """How often each job's number had this event."""
        lines = lines_of(self.path)
        return Counter(int(number) for what, number, *_ in lines if what == event)


def environment(url: str, journal: Journal) -> dict[str, str]:
    return clean_environment(HEADRACE_URL=url, HEADRACE_TEST_JOURNAL=str(journal.path))


def consumes(process: Process) -> bool:
    assert process.alive(), process.output
    return "slots" in process.output


def test_20_jobs_of_a_killed_consumer_are_done_by_another(
    url: str, redis: Redis, tmp_path: Path
) -> None:
    journal, app = Journal(tmp_path / "journal"), Headrace(url)
    env = environment(url, journal)
    with processes(tmp_path) as start:
        victim = start(*CONSUME, "-c", "15", env=env)
        wait_until(lambda: consumes(victim), "the victim consumes")
        # Fifteen run; five more are made to be in its hands, as prefetched ones are.
        app.enqueue_many(app.call("nap", i, 0.001) for i in range(1000, 1200))
        wait_until(lambda: redis.hget(K.stats, "done") == b"200", "it has become quick")
        app.enqueue_many(app.call("nap", i, 3.0) for i in range(20))
        wait_until(lambda: redis.hlen(K.claims) == 20, what="it holds 20 jobs")
        wait_until(lambda: len(journal.of("start") & Counter(range(20))) == 15, what="15 run")
        victim.kill()
        heir = start(*CONSUME, "-c", "20", env=env)
        wait_until(lambda: len(journal.of("end") & Counter(range(20))) == 20, "all are done")
        wait_until(lambda: redis.llen(K.processing) == 0, what="all are settled")
        assert heir.end() == 0, heir.output
    runs = journal.of("start")
    twice = sum(runs[i] > 1 for i in range(20))
    # How soon, the laboratory measures.
    print(f"all 20 are done, {twice} of them were started twice")
    assert all(runs[i] <= 2 for i in range(20))
    invariants.check(redis)
    app.close()


def test_every_acknowledged_job_is_done_when_redis_is_killed_under_load(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    accepted: list[int] = []
    unsure: list[int] = []
    stop = threading.Event()

    def produce(url: str) -> None:
        app, number = Headrace(url), 0
        while not stop.is_set():
            number += 1
            try:
                app.enqueue("note", number)
                accepted.append(number)
            except StoreError as error:
                if error.may_have_happened:
                    unsure.append(number)
        app.close()

    # With everysec Redis answers before it writes, for up to 2 s, where the last sync is not over yet.
    durable = private_server(tmp_path / "data", appendfsync="always")
    with durable as server, processes(tmp_path) as start:
        env = environment(server.url, journal)
        consumers = [start(*CONSUME, env=env) for _ in range(2)]
        wait_until(lambda: all(map(consumes, consumers)), "both consume")
        producer = threading.Thread(target=produce, args=(server.url,))
        producer.start()
        for round_ in range(1, 3):
            wait_until(lambda: len(accepted) > 300 * round_, "there is load")
            server.kill()
            server.restart()
        count = len(accepted)
        wait_until(lambda: len(accepted) > count + 300, "the producer came back by itself")
        stop.set()
        producer.join()
        with Redis.from_url(server.url) as redis:
            # Of one instant: a job that is handed back between two looks would be in none of them.
            wait_until(
                lambda: not any(invariants.read(redis).places.values()), "the backlog drains"
            )
            missing = set(accepted) - set(journal.of("end"))
            assert not missing, f"acknowledged and not done: {sorted(missing)[:10]}"
            unexpected = set(journal.of("end")) - set(accepted) - set(unsure)
            assert not unexpected
            assert redis.llen(K.dead) == 0
        for consumer in consumers:
            assert consumer.end() == 0, consumer.output
