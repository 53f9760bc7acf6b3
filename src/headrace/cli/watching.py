"""Views that are drawn again and again on a terminal, until Ctrl-C."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from headrace.cli import output
from headrace.errors import StoreError

if TYPE_CHECKING:
    from rich.console import RenderableType

LEAST_S: Final = 0.1
"""How long there is between two looks at least."""


def redraw(look: Callable[[], RenderableType], interval_s: float) -> None:
    """Draw what is seen, again and again; while Redis is away, say so over what was seen last."""
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    pause = threading.Event()
    last: RenderableType = ""
    # What is drawn ends with an empty line: there Ctrl-C leaves its ^C, and is drawn over.
    with Live(auto_refresh=False) as live:
        while output.on_terminal():  # it may be closed without a signal to us
            try:
                last = shown = Group(look(), "")
            except StoreError as error:
                shown = Group(Text(str(error), style="red"), "", last)
            live.update(shown, refresh=True)
            pause.wait(max(LEAST_S, interval_s))
