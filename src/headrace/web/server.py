"""The server process: HTTP on a loopback address, and the maintenance of all queues beside it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Final

import uvicorn

from headrace.app import Headrace
from headrace.duties import DUTIES
from headrace.errors import InvalidSetting, StoreError
from headrace.ids import new_id
from headrace.leasing import Leases, Lines
from headrace.listening import listen
from headrace.maintenance import MaintenanceThread
from headrace.policy import LeasePolicy
from headrace.store import AsyncStore
from headrace.web.application import LABEL, LOCAL, Access, create_app
from headrace.web.connections import (
    ACCEPTED_AT_ONCE,
    Connection,
    Sparing,
    hurry,
    most_connections,
)
from headrace.web.guard import LOOPBACK
from headrace.web.reader import Reader
from headrace.web.updates import Updates
from headrace.webhooks.hook import Webhook
from headrace.webhooks.service import WebhookService

log: logging.Logger = logging.getLogger(__name__)

HOST: Final = "127.0.0.1"
PORT: Final = 8390
"""Nobody's by convention: not of the peers' pages, nor in the list of assigned ports."""

_GRACE_S: Final = 1  # for requests under way when the server is asked to end
_AGAIN_S: Final = 1.0
_BACKLOG: Final = 1024


async def serve(
    headrace: Headrace,
    *,
    host: str = HOST,
    port: int = PORT,
    policy: LeasePolicy | None = None,
    stop: asyncio.Event | None = None,
    access: Access = LOCAL,
    webhooks: Sequence[Webhook] = (),
    read_only: bool = False,
) -> None:
    """Serve until asked to stop, then end within two seconds, whoever is still connected.

    Args:
        headrace: the application whose Redis is served.
        host: a loopback address; where there are tokens, any.
        port: a TCP port; 0 for a free one.
        policy: how long claims last.
        stop: ends the server when set; None to end on SIGTERM and SIGINT.
        access: who may reach it, and how.
        webhooks: who is told of dead letters, and of jobs that wait too long.
        read_only: take no part in keeping queues in order, as its user may change nothing in Redis.

    Raises:
        InvalidSetting: the server may not, or cannot, listen there.
    """
    name = f"server-{socket.gethostname()}-{os.getpid()}-{new_id()[-8:]}"
    url, policy = headrace.redis_url.url, policy or LeasePolicy()
    store = AsyncStore(url, name=LABEL)
    updates = Updates(Reader(store, headrace))
    lines = Lines(store, Leases(store, headrace), LABEL, policy)
    maintenance = MaintenanceThread(url, LABEL, name, policy, DUTIES)
    hooks = WebhookService(url, store, Reader(store, headrace), webhooks, policy=policy)
    parts: dict[str, Any] = {"updates": updates, "lines": lines, "access": access}
    app = create_app(headrace, store, **parts, leads=lambda: maintenance.leads)
    server = _Server(_config(app, access))
    listener = _listen(host, port, access)
    with ExitStack() as stack:
        stack.callback(listener.close)
        stack.enter_context(_sparing_logs())
        stop = stop or stack.enter_context(_stopped_by_signals())
        stopping = asyncio.create_task(stop.wait())
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        maintaining = asyncio.create_task(stop.wait() if read_only else _maintain(maintenance))
        hooks.start()
        log.info("Serving at http%s://%s:%d", "s" * access.secure, *_address(listener))
        try:
            await asyncio.wait(
                {stopping, serving, maintaining}, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            server.should_exit = True
            ended = (_ended(stopping), _ended(maintaining), asyncio.wait({serving}))
            await asyncio.gather(*ended, updates.close(), lines.close(), hooks.close())
            await store.close()
            await headrace.aclose()
        if not maintaining.cancelled():
            maintaining.result()  # raises what ends the server: Redis will not do
        serving.result()  # raises what ended it, if that was not us
        log.info("The server has ended")


class _Server(uvicorn.Server):
    """Uvicorn, without its hands on the signals, and in a hurry with those that keep it waiting."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen; let more connections wait in the kernel than are accepted at once."""
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(_BACKLOG)

    async def on_tick(self, counter: int) -> bool:
        """Look once a second who is late; uvicorn does this ten times a second."""
        if counter % 10 == 0:
            hurry(self.server_state.connections)
        return await super().on_tick(counter)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _config(app: Any, access: Access) -> uvicorn.Config:
    chain, key = access.certificate or (None, None)
    return uvicorn.Config(
        app,
        ssl_certfile=chain,
        ssl_keyfile=key,
        lifespan="off",
        log_config=None,
        log_level=logging.WARNING,
        http=Connection,
        ws="none",
        limit_concurrency=most_connections(),
        backlog=ACCEPTED_AT_ONCE,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_GRACE_S,
    )


def _listen(host: str, port: int, access: Access) -> socket.socket:
    if host not in LOOPBACK and access.tokens is None:
        raise InvalidSetting(
            f"host={host!r}: without tokens, whoever reaches the server can read and add jobs, so it "
            f"listens on {', '.join(LOOPBACK)} alone. Make some: headrace token me --role admin >> "
            "tokens.toml; then headrace serve --tokens tokens.toml"
        )
    if host not in LOOPBACK and not access.secure:
        log.warning(
            "tokens and jobs travel to %s in plain text: --tls-certificate and --tls-key, or a proxy "
            "that has https",
            host,
        )
    if not 0 <= port < 1 << 16:
        raise InvalidSetting(f"port {port} is not valid: use 1 to 65535, or 0 for a free one")
    return listen(host, port, "port")


def _address(listener: socket.socket) -> tuple[str, int]:
    host, port = listener.getsockname()[:2]
    return f"[{host}]" if ":" in host else host, port


@contextmanager
def _sparing_logs() -> Iterator[None]:
    """Let what each of very many connections can cause be said a few times, and not by each."""
    sparing = Sparing()
    loggers = [logging.getLogger(name) for name in ("asyncio", "uvicorn.error")]
    for logger in loggers:
        logger.addFilter(sparing)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(sparing)


@contextmanager
def _stopped_by_signals() -> Iterator[asyncio.Event]:
    """Return an event that SIGTERM and SIGINT set; in a thread of its own a server has no signals."""
    stop, loop, before = asyncio.Event(), asyncio.get_running_loop(), {}
    with suppress(ValueError, RuntimeError, NotImplementedError):
        for number in (signal.SIGTERM, signal.SIGINT):
            handler = signal.getsignal(number)
            loop.add_signal_handler(number, stop.set)
            before[number] = handler
    try:
        yield stop
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)  # our caller's, which the loop does not give back


async def _maintain(maintenance: MaintenanceThread) -> None:
    while True:
        try:
            await maintenance.run()
        except StoreError:  # to wait does not help
            raise
        except Exception:
            log.exception("The maintenance failed; it begins again")
        await asyncio.sleep(_AGAIN_S)


async def _ended(task: asyncio.Task[Any]) -> None:
    """Cancel a task; again when it does not leave: Redis hangs, or redis-py swallowed it."""
    for _ in range(3):
        task.cancel()
        await asyncio.wait({task}, timeout=_GRACE_S / 2)
