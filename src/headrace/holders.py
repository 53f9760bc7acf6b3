"""Who holds a claim over HTTP: the consumer's name, and letters that nobody can guess, new for each request."""

from __future__ import annotations

import re
import secrets
from typing import Final

MARK: Final = "~"
"""Stands between the two; no consumer's name has it."""

_HOLDER = re.compile(rf"(.+){MARK}[0-9a-f]{{16}}")


def new_holder(consumer: str) -> str:
    """Return a holder for the claims of one request of a consumer."""
    return f"{consumer}{MARK}{secrets.token_hex(8)}"


def consumer_of(holder: str) -> str:
    """Return the consumer whose a holder is; "" if it is no holder, but a consumer itself."""
    match = _HOLDER.fullmatch(holder)
    return match[1] if match else ""
