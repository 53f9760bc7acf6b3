"""The event loop of our own processes: uvloop's, where that is installed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

new_event_loop: Callable[[], asyncio.AbstractEventLoop] | None = None
"""Makes one; None for asyncio's own."""

try:
    import uvloop
except ImportError:  # it installs on most systems; asyncio's own loop serves as well
    pass
else:
    new_event_loop = uvloop.new_event_loop
