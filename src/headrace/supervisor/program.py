"""One consumer as a program: the event loop, the signals, the exit code."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Final

from headrace.app import Headrace
from headrace.consumer import Consumer, ConsumerOptions
from headrace.duties import DUTIES
from headrace.event_loop import new_event_loop
from headrace.garbage import look_less_often
from headrace.isolation.runner import IsolatedRunner
from headrace.lifespan import Lifetime
from headrace.schedules import adefinitions_of, keep_declared
from headrace.supervisor.forward import know_forwarding
from headrace.supervisor.sharing import Sharing

log: logging.Logger = logging.getLogger("headrace.consumer")

_REST_S: Final = 1.0
_LOOK_S: Final = 0.2


Watch = Callable[[Consumer], Coroutine[Any, Any, None]]

watches: Final[list[Watch]] = []
"""What runs beside the consumer of this process: a supervisor's eye. Without one, it replaces itself."""


def run(app: Headrace, options: ConsumerOptions) -> int:
    """Consume until SIGTERM or SIGINT; a second signal ends at once.

    A consumer whose threads do not end replaces its process, when no supervisor does: it claims
    nothing more, lets jobs finish, and begins anew with the arguments that it was started with.

    Returns:
        The exit code: 0.

    Raises:
        LifespanFailed: the application's lifespan cannot be opened.
    """
    look_less_often()
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        loop = runner.get_loop()
        main = loop.create_task(_main(app, options))
        while not main.done():
            try:
                loop.run_until_complete(main)
            except (SystemExit, KeyboardInterrupt) as exit_:
                # asyncio lets these out of a task's own tasks and callbacks; the job has them, too.
                if main.done():
                    raise
                name = type(exit_).__name__
                log.error("something that a task started raised %s; the consumer goes on", name)
    if main.result():
        logging.shutdown()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - our own arguments
    return 0


async def _main(app: Headrace, options: ConsumerOptions) -> bool:
    know_forwarding(app)
    sharing = Sharing(app)
    options = await sharing.options(options)
    consumer, lifetime = Consumer(app, options, IsolatedRunner, DUTIES), Lifetime(app)
    worn: list[str] = []

    def stop() -> None:
        consumer.stop()
        lifetime.hurry()

    async def look() -> None:
        while not (why := consumer.worn):  # noqa: ASYNC110 - of a thread that ends there is no event
            await asyncio.sleep(_LOOK_S)
        if not consumer.stopping:
            worn.append(why)
            log.error("the process is replaced: %s", why)
            consumer.stop()

    beside = [asyncio.create_task(watch(consumer)) for watch in watches]
    beside = beside or [asyncio.create_task(look())]
    beside.append(asyncio.create_task(sharing.run(consumer)))
    if declared := await adefinitions_of(app.tasks):
        beside.append(asyncio.create_task(keep_declared(app.producer().astore(), declared)))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, stop)
    try:
        await lifetime.open()
        try:
            await consumer.run()
        finally:
            await lifetime.close()
    except asyncio.CancelledError:
        if not consumer.stopping:  # else its lifespan was given up: it was told to end
            raise
    for task in beside:
        task.cancel()
    await asyncio.wait(beside, timeout=_REST_S)
    await app.aclose()
    await _end_the_rest()
    return bool(worn) and consumer.stops == 1


async def _end_the_rest() -> None:
    """End what tasks have left behind, or the process without them: one that has to end, ends.

    A task may swallow its cancellations, or wait for a thread that hangs; asyncio and Python would
    wait for both for ever. Their jobs have been given back.
    """
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    threads = asyncio.ensure_future(asyncio.get_running_loop().shutdown_default_executor())
    _, left = await asyncio.wait({*rest, threads}, timeout=_REST_S)
    if left:
        log.error("tasks and threads that do not end are left behind")
        logging.shutdown()
        if sys.__stdout__ is not None:
            sys.__stdout__.flush()  # what tasks have printed
        os._exit(0)
