"""How long the fuzzers run: HEADRACE_FUZZ=50 makes it 50 times as many examples as ``make test``.

``make test`` tries the same ones each time, so that it says the same twice; longer runs try others.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

TIMES = int(os.environ.get("HEADRACE_FUZZ") or 1)


def bounded(examples: int) -> settings:
    """Give settings for so many examples in ``make test``."""
    return settings(
        max_examples=examples * TIMES,
        deadline=None,
        derandomize=TIMES == 1,
        suppress_health_check=list(HealthCheck),
    )
