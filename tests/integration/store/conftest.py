"""Fixtures of the tests of what both stores promise: the one that blocks, and the one that is awaited."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from headrace.store import Store
from tests.integration.store.stores import Looped, Open, OpenStore
from tests.support.proxy import Proxy, proxied


@pytest.fixture(params=[Store, Looped], ids=["sync", "async"])
def open_store(request: pytest.FixtureRequest) -> Iterator[Open]:
    """Give what opens a store; all that were opened are closed in the end."""
    opened: list[OpenStore] = []

    def open_one(url: str, **options: Any) -> OpenStore:
        opened.append(request.param(url, **options))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def store(url: str, open_store: Open) -> OpenStore:
    return open_store(url)


@pytest.fixture
def proxy(url: str) -> Iterator[Proxy]:
    with proxied(url) as proxy:
        yield proxy


@pytest.fixture
def closed_url() -> Iterator[str]:
    """Give a URL where nothing listens, and keep it so: bound, a port is nobody else's."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield f"redis://127.0.0.1:{holder.getsockname()[1]}/0"
