"""A Redis of our own: a real server process on this machine, when nobody gave us one.

It listens on loopback only and keeps an append-only file. It does not live in our process: other
programs reach it, and it survives us. ``server`` runs it, ``engine`` chooses its binary,
``directory`` guards its data, ``ensure`` decides whether one is needed, and ``ending`` has a program
clean up that started one. All of it blocks: call it before a loop runs.
"""

from __future__ import annotations

from headrace.embedded.directory import DATA_DIR
from headrace.embedded.ending import ended_by_signals
from headrace.embedded.engine import Engine, find_engine
from headrace.embedded.ensure import ensure_server
from headrace.embedded.server import EmbeddedServer

__all__ = [
    "DATA_DIR",
    "EmbeddedServer",
    "Engine",
    "ended_by_signals",
    "ensure_server",
    "find_engine",
]
