"""One consumer as a program: the event loop, the signals, the exit code."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

from headrace.app import Headrace
from headrace.consumer.consumer import Consumer
from headrace.consumer.options import ConsumerOptions

_loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None
try:
    import uvloop
except ImportError:  # it installs on most systems; asyncio's own loop serves as well
    pass
else:
    _loop_factory = uvloop.new_event_loop


def run(app: Headrace, options: ConsumerOptions) -> int:
    """Consume until SIGTERM or SIGINT; a second signal ends at once.

    Returns:
        The exit code: 0.
    """
    with asyncio.Runner(loop_factory=_loop_factory) as runner:
        runner.run(_main(app, options))
    return 0


async def _main(app: Headrace, options: ConsumerOptions) -> None:
    consumer = Consumer(app, options)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, consumer.stop)
    await consumer.run()
    await app.aclose()
