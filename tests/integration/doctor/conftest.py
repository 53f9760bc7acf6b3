"""The ward of each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis import Redis

from headrace import operations as op
from headrace.store import Store
from tests.integration.doctor.ward import Ward


@pytest.fixture
def ward(url: str, redis: Redis) -> Iterator[Ward]:
    store = Store(url, name="test")
    store.run(op.register("queue"))
    yield Ward(store, redis)
    store.close()
