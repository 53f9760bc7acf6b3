"""Decide whether a server of our own is needed: only when nobody named one and none is there."""

from __future__ import annotations

import logging
from pathlib import Path
from urllib.parse import urlsplit

from headrace.embedded.directory import TakenError
from headrace.embedded.server import HOST, PORT, EmbeddedServer
from headrace.embedded.wait import within
from headrace.errors import StoreUnavailable
from headrace.settings import RedisUrl
from headrace.store.probe import ServerInfo, probe

logger: logging.Logger = logging.getLogger("headrace.embedded")


def ensure_server(redis_url: RedisUrl, data_dir: Path) -> EmbeddedServer | None:
    """Make sure that a server answers at ``redis_url``; start one only if nobody gave the URL.

    Args:
        redis_url: where it should be.
        data_dir: the directory of a server that has to be started.

    Returns:
        The server, if it was started; None when one was there.

    Raises:
        EmbeddedServerError: one had to be started and cannot be.
        StoreRefused: the server there wants a (another) password.
        StoreUnavailable: nothing answers at the URL given.
        StoreUnsuitable: what is there is no Redis, or too old.
    """
    if info := probe(redis_url.url):
        _warn_of_losses(redis_url, info)
        return None
    if redis_url.given:
        raise StoreUnavailable(
            f"Nothing listens at {redis_url}. Start a Redis there, or correct the URL; with no URL "
            f"given at all, a server is started at {HOST}:{PORT}."
        )
    parts = urlsplit(redis_url.url)
    try:
        server = EmbeddedServer.start(
            data_dir, host=parts.hostname or HOST, port=parts.port or PORT, hardened=True
        )
    except TakenError:
        # Another program like this one may have been faster by some milliseconds.
        if within(1.0, lambda: probe(redis_url.url) is not None):
            return None
        raise
    logger.info(
        "Nothing listened at %s:%d: started %s there (process %d), data in %s",
        HOST,
        server.port,
        server.engine,
        server.pid,
        server.data_dir,
    )
    return server


def _warn_of_losses(redis_url: RedisUrl, info: ServerInfo) -> None:
    """Say what about a server that others run may lose jobs."""
    if not info.aof_enabled:
        logger.warning(
            "%s at %s keeps no append-only file: jobs are lost when it crashes (appendonly yes)",
            info,
            redis_url,
        )
    if info.maxmemory_policy not in {"noeviction", ""}:
        logger.warning(
            "%s at %s drops keys when memory is short, jobs too: maxmemory-policy is %s, "
            "and should be noeviction",
            info,
            redis_url,
            info.maxmemory_policy,
        )
