"""The five command lines that Headrace was asked for, run verbatim from the root of a checkout.

With the package installed, and without: then the launchers run the checkout's own code. The default
port is used, in a network of the test's own.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis

from headrace.embedded.engine import engine_in_wheel
from tests.support.network import alone_on_port
from tests.support.processes import ROOT, Process, clean_environment, processes
from tests.support.servers import engine_under_test
from tests.support.wait import WAIT_S, wait_until

PORT = 6379


@pytest.fixture(scope="module", params=["installed", "not installed"])
def environment(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """Give an environment in which `python3` and `redis-server` are what a user has."""
    folder = tmp_path_factory.mktemp("bin")
    binary = engine_under_test().path if engine_under_test().name == "redis" else _wheel()
    (folder / "redis-server").symlink_to(binary)
    python = Path(sys.executable)
    if request.param == "not installed":
        python = _python_without_headrace(tmp_path_factory.mktemp("venv"))
    env = clean_environment()
    return env | {"PATH": f"{folder}:{python.parent}:{env['PATH']}"}


def _wheel() -> Path:
    engine = engine_in_wheel()
    assert engine is not None
    return engine.path


def _python_without_headrace(folder: Path) -> Path:
    """Make an interpreter that has Headrace's dependencies, but not Headrace."""
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python3"
    here = (
        Path(sys.executable).parents[1]
        / "lib"
        / f"python{sys.version_info[0]}.{sys.version_info[1]}"
    )
    there = folder / "lib" / here.name / "site-packages"
    for package in (here / "site-packages").iterdir():
        # An editable install is a .pth file, or a finder, named for the package.
        if "headrace" not in package.name and package.suffix != ".pth":
            (there / package.name).symlink_to(package)
    found = subprocess.run(
        [python, "-c", "import headrace"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert "ModuleNotFoundError: No module named 'headrace'" in found.stderr
    return python


@contextmanager
def client() -> Iterator[Redis]:
    with Redis(port=PORT, decode_responses=True) as redis:
        yield redis


def answers(redis: Redis) -> bool:
    try:
        return bool(redis.ping())
    except OSError:
        return False
    except Exception:
        return False


def done(redis: Redis, count: int, *programs: Process) -> bool:
    """Whether so many jobs are done; fails at once when one of the programs has ended."""
    for program in programs:
        assert program.alive(), program.output
    return redis.hget("queue:stats", "done") == str(count)


def produce(env: dict[str, str], *args: str) -> str:
    ended = subprocess.run(
        ["python3", "-m", "client.producer", *args],
        cwd=ROOT, env=env, capture_output=True, text=True, timeout=WAIT_S, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


@alone_on_port(PORT)
def test_the_five_commands_work_together(environment: dict[str, str], tmp_path: Path) -> None:
    with processes(tmp_path) as start, client() as redis:
        start("redis-server", env=environment, cwd=tmp_path)
        wait_until(lambda: answers(redis), what="redis-server answers")
        server = start("python3", "-m", "server.server", env=environment)
        early = produce(environment)
        assert len(early) == 26 and early in redis.lrange("queue", 0, -1)[0]
        consumers = [start("python3", "-m", "client.consumer", env=environment) for _ in range(2)]
        wait_until(lambda: done(redis, 1, *consumers), "the early job is done")
        late = produce(environment)
        assert late > early
        wait_until(lambda: done(redis, 2, *consumers), what="the late job is done")

        running = produce(environment, "sleep", "2")
        wait_until(lambda: redis.llen("queue:processing") == 1, what="a job runs")
        assert running in redis.lrange("queue:processing", 0, -1)[0]
        assert redis.lrange("queue", 0, -1) == []
        wait_until(lambda: done(redis, 3, *consumers), what="it is done")
        assert [redis.llen(key) for key in ("queue", "queue:processing", "queue:dlq")] == [0, 0, 0]
        for program in (*consumers, server):
            assert program.end() == 0, program.output
            assert "Traceback" not in program.output
        for consumer in consumers:
            assert "runs headrace.demo.tasks at redis://127.0.0.1:6379/0" in consumer.output
            assert "these are the demo's tasks" in consumer.output


@alone_on_port(PORT)
def test_without_a_redis_the_server_brings_one(environment: dict[str, str], tmp_path: Path) -> None:
    with processes(tmp_path) as start, client() as redis:
        consumer = start("python3", "-m", "client.consumer", env=environment)
        data = tmp_path / "data"
        server = start("python3", "-m", "server.server", "--data-dir", str(data), env=environment)
        wait_until(lambda: answers(redis), "the embedded server answers")
        assert redis.config_get("appendonly")["appendonly"] == "yes"
        assert redis.config_get("bind")["bind"] == "127.0.0.1"
        produce(environment)
        wait_until(lambda: done(redis, 1, consumer), "the job is done")
        assert consumer.end() == 0, consumer.output
        assert server.end() == 0, server.output
        wait_until(lambda: not answers(redis), what="the embedded server has ended with it")
        assert data.is_dir()


@alone_on_port(PORT)
def test_without_any_redis_the_producer_says_what_to_do(
    environment: dict[str, str], tmp_path: Path
) -> None:
    ended = subprocess.run(
        ["python3", "-m", "client.producer"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=WAIT_S, check=False,
    )  # fmt: skip
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert "redis-server" in ended.stderr and "headrace serve" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_launchers_take_an_application_too(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("from headrace import Headrace\napp = Headrace()\n")
    path = environment | {"PYTHONPATH": str(tmp_path)}
    for args, env in (["shop"], path), ([], path | {"HEADRACE_APP": "shop"}):
        command = ["python3", "-m", "client.consumer", *args, "--url", "redis://127.0.0.1:1/0"]
        with processes(tmp_path) as start:
            consumer = start(*command, env=env)
            wait_until(lambda: "runs shop at" in consumer.output, what="its first line")


@alone_on_port(PORT)
def test_a_plain_lpush_is_run(environment: dict[str, str], tmp_path: Path) -> None:
    with processes(tmp_path) as start, client() as redis:
        start("redis-server", env=environment, cwd=tmp_path)
        wait_until(lambda: answers(redis), what="redis-server answers")
        consumer = start("python3", "-m", "client.consumer", env=environment)
        redis.lpush("queue", '{"task":"echo","args":["hi"]}')
        wait_until(lambda: done(redis, 1, consumer), "the job is done")
        assert (redis.llen("queue"), redis.llen("queue:processing")) == (0, 0)
