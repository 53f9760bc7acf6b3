"""One application, many threads: what they share is made once, whoever comes first."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from headrace import Headrace

URL = "redis://127.0.0.1:1"  # nothing listens there: none of this needs a server
THREADS = 8


@pytest.fixture(autouse=True)
def _threads_take_turns_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def at_once(act: Callable[[], None]) -> None:
    """Let threads do something at the same time, and raise what one of them raises."""
    together = threading.Barrier(THREADS)
    failures: list[Exception] = []

    def one() -> None:
        together.wait()
        try:
            act()
        except Exception as failure:
            failures.append(failure)

    threads = [threading.Thread(target=one) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def test_threads_that_send_first_at_once_share_one_producer() -> None:
    for _ in range(50):
        app, seen = Headrace(URL), set()
        at_once(lambda: seen.add(app.producer()))  # noqa: B023  it is over before the next round
        assert seen == {app.producer()}


def test_event_loops_of_many_threads_come_and_go_beside_one_another() -> None:
    producer = Headrace(URL).producer()

    async def use() -> None:
        producer.astore()

    def one() -> None:
        for _ in range(50):
            asyncio.run(use())

    at_once(one)
    assert not producer._loops
