"""Sending: one signed request, as Standard Webhooks has it: https://www.standardwebhooks.com.

No redirect is followed, and of an answer the status alone is read.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Final
from urllib.parse import urlsplit

from headrace import __version__
from headrace.errors import Reject
from headrace.webhooks.hook import Webhook

STEP_S: Final = 10.0
"""How long to wait for a connection, and for each part of the answer."""

MAX_BYTES: Final = 1 << 16
"""Of a body; events are smaller."""

_GONE: Final = 410


class DeliveryFailed(Exception):
    """It was not taken: it is sent again."""


def signature(secret: bytes, message_id: str, at_s: int, body: bytes) -> str:
    """Sign a message: HMAC-SHA256 of its id, its instant (s since 1970) and its body."""
    signed = b"%b.%d.%b" % (message_id.encode(), at_s, body)
    return "v1," + base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode()


def headers(hook: Webhook, message_id: str, at_s: int, body: bytes) -> Mapping[str, str]:
    """Return the headers of a request."""
    return {
        "content-type": "application/json",
        "user-agent": f"headrace/{__version__}",
        "webhook-id": message_id,
        "webhook-timestamp": str(at_s),
        "webhook-signature": signature(hook.secret, message_id, at_s, body),
    }


def post(hook: Webhook, message_id: str, at_s: int, body: bytes) -> None:
    """Send a message.

    Raises:
        DeliveryFailed: it was not taken, or nobody knows.
        Reject: it never will be: the address is gone, or the message too large.
    """
    if len(body) > MAX_BYTES:
        raise Reject(f"{len(body):,} bytes are more than a webhook may have")
    parts = urlsplit(hook.url)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=STEP_S)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request("POST", path, body, headers(hook, message_id, at_s, body))
        with connection.getresponse() as answer:
            status = answer.status
    except (OSError, HTTPException) as error:
        raise DeliveryFailed(f"webhook {hook.name}: {_kind_of(error)}") from None
    finally:
        connection.close()
    if status == _GONE:
        raise Reject(f"webhook {hook.name} answered 410: it is gone")
    if not 200 <= status < 300:
        raise DeliveryFailed(f"webhook {hook.name} answered {status}")


def _kind_of(error: Exception) -> str:
    # Its text may quote the address, or what was answered, which may quote it; that may hold a secret.
    number = getattr(error, "errno", None)
    return type(error).__name__ + (f" (errno {number})" if isinstance(number, int) else "")
