"""A small shop, and its jobs in memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from headrace import Backoff, Headrace
from headrace.testing import Inline, run_inline


@pytest.fixture
def app() -> Headrace:
    # Nothing listens there: what would ask Redis fails.
    return Headrace("redis://127.0.0.1:1/0", queue="shop", backoff=Backoff(base_s=2, factor=2))


@pytest.fixture
def jobs(app: Headrace) -> Iterator[Inline]:
    with run_inline(app) as jobs:
        yield jobs
