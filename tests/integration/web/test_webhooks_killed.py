"""A server with webhooks is killed, again and again: each dead letter is told all the same."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis

from headrace import Headrace
from headrace.clock import now_ms
from headrace.embedded.server import free_port
from headrace.keys import keys_of
from headrace.store import AsyncStore
from headrace.webhooks.marks import MARKS
from headrace.webhooks.watcher import QUEUE
from tests.integration.web.client import K, kill_one
from tests.support.receiver import receiving
from tests.support.wait import await_until, wait_until

SOURCES = Path(__file__).resolve().parents[3] / "src"
SECRET = "sixteen bytes or more"
PROGRAM = """
import sys
from headrace.cli import main
from headrace.retry import Backoff
from headrace.webhooks import service
service.BACKOFF, service.LOOK_EVERY_S = Backoff(base_s=0.1, max_s=0.1), 0.05
sys.exit(main(sys.argv[1:]))
"""


@contextmanager
def serving(url: str, hooks: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``headrace serve`` and kill it."""
    options = ("--url", url, "--port", "0", "--lease", "3", "--webhooks", str(hooks))
    command = [sys.executable, "-c", PROGRAM, "serve", *options]
    running = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(SOURCES)})
    try:
        yield running
    finally:
        running.kill()
        running.wait()


async def test_a_server_that_is_killed_before_it_was_heard_has_lost_nothing(
    url: str, store: AsyncStore, app: Headrace, redis: Redis, tmp_path: Path
) -> None:
    port, hooks = free_port(), tmp_path / "hooks.toml"
    hooks.write_text(f'[ops]\nurl = "http://127.0.0.1:{port}/x"\nsecret = "{SECRET}"\n')
    hooks.chmod(0o600)
    with serving(url, hooks):
        wait_until(lambda: redis.hexists(MARKS, "ops"), "it has looked")
        for n in range(5):
            await app.aenqueue("a", n)
            await kill_one(store, K, "rejected", ValueError("no"), now_ms())
        tried = keys_of(QUEUE).stats
        await await_until(lambda: int(redis.hget(tried, "retry") or 0) >= 2, "nobody hears")
    with receiving(port) as receiver:
        receiver.answers = [500] * 3
        with serving(url, hooks):
            await await_until(lambda: len(set(receiver.ids)) == 5, "all five are told")
            done = keys_of(QUEUE).stats
            await await_until(lambda: int(redis.hget(done, "done") or 0) == 5, "and taken")
    assert all(one.is_signed_with(SECRET.encode()) for one in receiver.got)
    assert {one.event["data"]["queue"] for one in receiver.got} == {"queue"}
