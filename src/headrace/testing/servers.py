"""For tests of the whole: a private real server, and a real consumer in this process."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from headrace import operations as op
from headrace.app import Headrace
from headrace.consumer import Consumer, ConsumerOptions
from headrace.consumer.options import QueueWeight
from headrace.embedded import EmbeddedServer
from headrace.errors import InvalidSetting
from headrace.isolation.runner import IsolatedRunner
from headrace.lifespan import Lifetime
from headrace.operations.request import nothing
from headrace.store import Store
from headrace.supervisor.forward import know_forwarding

_GRACE_S: Final = 5.0  # what still runs when a test ends is given back


@contextmanager
def server(data_dir: Path | None = None) -> Iterator[EmbeddedServer]:
    """Run a server of the test's own while the block runs: on loopback, on a free port.

    Its ``url`` is for ``app.use``; ``stop``, ``kill`` and ``restart`` are for tests of what an
    application does then.

    Args:
        data_dir: where its data go; None for a directory that goes with it.

    Raises:
        EmbeddedServerError: it cannot start here; the message says why.
    """
    with (
        tempfile.TemporaryDirectory(prefix="headrace-test-") as temporary,
        # The system writes when it likes: a test's data need not outlive the machine.
        EmbeddedServer.start(
            data_dir or Path(temporary), port=0, appendfsync="no", die_with_parent=True
        ) as started,
    ):
        yield started


def consume(app: Headrace, **options: Any) -> None:
    """Run a real consumer until nothing is left to claim; what is delayed stays.

    Args:
        app: the application; all queues of its tasks are consumed.
        options: those of ``ConsumerOptions``, as ``concurrency=1``.

    Raises:
        LifespanFailed: the application's lifespan cannot be opened.
    """
    # In a thread, so that it makes no difference whether an event loop runs here.
    with consumer(app, burst=True, **options) as thread:
        thread.join()


@contextmanager
def consumer(app: Headrace, **options: Any) -> Iterator[threading.Thread]:
    """Run a real consumer in a thread while the block runs.

    Args:
        app: the application; all queues of its tasks are consumed.
        options: those of ``ConsumerOptions``.

    Raises:
        LifespanFailed: the application's lifespan cannot be opened.
    """
    app.import_discovered()
    named = {app.queue, *(task.config.queue for task in app.tasks.values())}
    chosen: dict[str, Any] = {
        "queues": tuple(map(QueueWeight, sorted(named))),
        "grace_s": _GRACE_S,
    } | options
    know_forwarding(app)  # as the command line has it
    running = _Running(app, ConsumerOptions(**chosen))
    thread = threading.Thread(target=running.run, name="headrace-test-consumer", daemon=True)
    thread.start()
    try:
        yield thread
    finally:
        running.stop()
        thread.join()
    running.check()


@contextmanager
def live(app: Headrace, url: str, **options: Any) -> Iterator[Headrace]:
    """Put an application on a server of the test's own, emptied, with a real consumer in a thread.

    Args:
        app: the application; afterwards it is back where it was.
        url: the server. All that is on it is deleted.
        options: those of ``ConsumerOptions``.

    Raises:
        InvalidSetting: the application keeps its jobs in memory.
        LifespanFailed: its lifespan cannot be opened.
    """
    if app._held:  # noqa: SLF001 - the seam for this
        raise InvalidSetting(
            "the application keeps its jobs in memory (the fixture headrace, or run_inline), so that "
            "its consumer would get none: have one or the other in a test"
        )
    before = app.redis_url
    store = Store(url)
    store.run(op.command("FLUSHALL", parse=nothing))
    store.close()
    app.close()
    app.use(url)
    try:
        with consumer(app, **options):
            yield app
    finally:
        app.close()
        app.use(before.url)
        app.redis_url = before


class _Running:
    """A consumer in a thread."""

    def __init__(self, app: Headrace, options: ConsumerOptions) -> None:
        self._app = app
        self._options = options
        self._begun = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._consumer: Consumer | None = None
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:
            self._error = error
        finally:
            self._begun.set()

    def stop(self) -> None:
        self._begun.wait()
        if self._loop is not None and self._consumer is not None:
            with contextlib.suppress(RuntimeError):  # its loop is closed: it has ended by itself
                self._loop.call_soon_threadsafe(self._consumer.stop)

    def check(self) -> None:
        if self._error is not None:
            raise self._error

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._consumer, lifetime = (
            Consumer(self._app, self._options, IsolatedRunner),
            Lifetime(self._app),
        )
        self._begun.set()
        await lifetime.open()
        try:
            await self._consumer.run()
        finally:
            await lifetime.close()
            await self._app.aclose()
