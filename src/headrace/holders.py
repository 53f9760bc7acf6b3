"""Who holds a claim over HTTP: the consumer's name, when it asked, and letters that nobody can guess.

New for each request. The instant is for statistics: the server keeps nothing between claim and settle.
"""

from __future__ import annotations

import re
import secrets
from typing import Final

from headrace.clock import now_ms

MARK: Final = "~"
"""Stands between the two; no consumer's name has it."""

_HOLDER = re.compile(rf"(.+){MARK}([0-9a-f]{{11}})?[0-9a-f]{{16}}")


def new_holder(consumer: str) -> str:
    """Return a holder for the claims of one request of a consumer."""
    return f"{consumer}{MARK}{now_ms():011x}{secrets.token_hex(8)}"


def consumer_of(holder: str) -> str:
    """Return the consumer whose a holder is; "" if it is no holder, but a consumer itself."""
    match = _HOLDER.fullmatch(holder)
    return match[1] if match else ""


def asked_at_ms(holder: str) -> int | None:
    """Return when a holder was made, ms since 1970 by its server's clock; None if it does not say."""
    match = _HOLDER.fullmatch(holder)
    return int(match[2], 16) if match and match[2] else None
