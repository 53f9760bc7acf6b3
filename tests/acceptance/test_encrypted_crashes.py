"""A consumer is killed with an encrypted job in its hands; another one, with the keys, reads and runs it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from redis import Redis

from headrace import Encryption, Headrace
from headrace.keys import SCHEDULES, keys_of
from tests.support import invariants
from tests.support.journal import lines_of
from tests.support.processes import Process, clean_environment, processes
from tests.support.wait import bound, wait_until

K = keys_of("queue")
CONSUME = (sys.executable, "-m", "headrace", "consume", "tests.acceptance.shop:app")
SHORT = ("--lease", "3", "--bare-lease", "3")
NUMBER = 271_828_182
pytestmark = pytest.mark.timeout(180)


def test_an_encrypted_job_of_a_killed_consumer_is_run_once_more(
    url: str, redis: Redis, tmp_path: Path
) -> None:
    journal, keys = tmp_path / "journal", [Encryption.generate_key() for _ in range(2)]
    journal.touch()
    app = Headrace(url, encryption=Encryption(keys[1]))
    env = clean_environment(
        HEADRACE_URL=url,
        HEADRACE_TEST_JOURNAL=str(journal),
        HEADRACE_ENCRYPTION_KEYS=",".join(keys),
    )

    def happened(event: str) -> int:
        return sum(line[:2] == [event, str(NUMBER)] for line in map(list, lines_of(journal)))

    app.enqueue("nap", NUMBER, 2.0)
    with processes(tmp_path) as start:
        victim = start(*CONSUME, *SHORT, env=env)
        wait_until(lambda: happened("start") == 1, "it runs")
        (claim,) = redis.hvals(K.claims)
        assert b"$encrypted" in claim
        assert str(NUMBER).encode() not in claim
        victim.kill()
        heir = start(*CONSUME, *SHORT, env=env)
        wait_until(lambda: happened("end") == 1, "it is done", within_s=bound(60))
        wait_until(lambda: redis.llen(K.processing) == 0, "it is settled")
        assert heir.end() == 0, heir.output
        assert str(NUMBER) not in victim.output + heir.output
    assert happened("start") == 2
    invariants.check(redis)
    app.close()


def test_what_a_consumer_without_the_key_has_put_aside_is_put_back_by_its_reason(
    url: str, redis: Redis, tmp_path: Path
) -> None:
    journal, key = tmp_path / "journal", Encryption.generate_key()
    journal.touch()
    app = Headrace(url, encryption=Encryption(key))
    env = clean_environment(HEADRACE_URL=url, HEADRACE_TEST_JOURNAL=str(journal))
    job = app.enqueue("note", NUMBER)
    with processes(tmp_path) as start:
        blind = start(*CONSUME, "--burst", env=env)
        wait_until(lambda: not blind.alive(), "it has nothing more to do")
        assert redis.llen(K.dead) == 1
        for words in (("dlq", "show", job.id), ("explain", job.id), ("dlq", "list")):
            shown = _said(start(sys.executable, "-m", "headrace", *words, env=env))
            assert "undecryptable" in shown
            assert str(NUMBER) not in shown
        redrive = ("dlq", "redrive", "--reason", "undecryptable")
        assert "1 dead letter" in _said(start(sys.executable, "-m", "headrace", *redrive, env=env))
        sighted = start(*CONSUME, "--burst", env=env | {"HEADRACE_ENCRYPTION_KEYS": key})
        wait_until(lambda: not sighted.alive(), "it has nothing more to do")
    assert [line[:2] for line in lines_of(journal)] == [
        ["start", str(NUMBER)],
        ["end", str(NUMBER)],
    ]
    invariants.check(redis)
    app.close()


def test_the_command_line_encrypts_what_it_enqueues_where_it_has_keys(
    url: str, redis: Redis, tmp_path: Path
) -> None:
    key = Encryption.generate_key()
    env = clean_environment(HEADRACE_URL=url, HEADRACE_ENCRYPTION_KEYS=key)
    with processes(tmp_path) as start:

        def run(*words: str) -> str:
            return _said(start(sys.executable, "-m", "headrace", *words, env=env))

        run("produce", "echo", str(NUMBER))
        run("schedule", "add", "beat", "echo", str(NUMBER), "--every", "60")
        (job,) = redis.lrange(K.pending, 0, -1)
        (schedule,) = redis.hvals(SCHEDULES)
        for raw in (job, schedule):
            assert b"$encrypted" in raw
            assert str(NUMBER).encode() not in raw
        shown = run("schedule", "list") + run("info") + run("explain", "nobody")
        assert str(NUMBER) not in shown
        run("schedule", "remove", "beat")


def _said(process: Process) -> str:
    wait_until(lambda: not process.alive(), "it has said it")
    return process.output
