"""The file of webhooks: TOML, a table for each.

[ops]
url = "https://hooks.example.org/headrace"
secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"   # or secret_env = "OPS_WEBHOOK_SECRET"
events = ["dead", "age"]
queues = ["emails"]         # else all
max_age = 600               # seconds: an event when the oldest job has waited longer
"""

from __future__ import annotations

import base64
import binascii
import logging
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args
from urllib.parse import urlsplit

from headrace.errors import InvalidSetting
from headrace.keys import keys_of
from headrace.settings import variable

log: logging.Logger = logging.getLogger(__name__)

EventKind = Literal["dead", "age"]
"""What is told of: a job that failed for good; one that has waited too long."""

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_FIELDS: Final = {"url", "secret", "secret_env", "events", "queues", "max_age"}
_LEAST_SECRET: Final = 16  # bytes
_PREFIX: Final = "whsec_"


@dataclass(frozen=True, slots=True)
class Webhook:
    """Who is told of what.

    Attributes:
        name: what it is called here, and in jobs: neither address nor secret stands in Redis.
        url: where to.
        secret: what requests are signed with.
        events: what it is told of.
        queues: of which queues; None of all.
        max_age_s: how long a job may wait, seconds.
    """

    name: str
    url: str
    secret: bytes
    events: frozenset[EventKind] = frozenset({"dead"})
    queues: frozenset[str] | None = None
    max_age_s: float = 0.0

    def watches(self, event: EventKind, queue: str) -> bool:
        """Whether it is told of this, of this queue."""
        return event in self.events and (self.queues is None or queue in self.queues)


def read_webhooks(path: Path) -> list[Webhook]:
    """Read the file.

    Raises:
        InvalidSetting: it is no such file; the message says where.
    """
    try:
        tables: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidSetting(f"the webhooks cannot be read: {path}: {error}") from None
    if not tables:
        raise InvalidSetting(f"{path} has no webhook: a table for each, as in docs/webhooks.md")
    if path.stat().st_mode & 0o077:
        log.warning("%s: others may read its secrets: chmod 600", path)
    found = []
    for name, table in tables.items():
        try:
            found.append(webhook(name, table))
        except (TypeError, ValueError, InvalidSetting) as error:
            raise InvalidSetting(f"{path}: [{name}]: {error}") from None
    return found


def webhook(name: str, table: object) -> Webhook:
    """Make a webhook of its table.

    Raises:
        TypeError, ValueError, InvalidSetting: it cannot be one.
    """
    if not isinstance(table, Mapping):
        raise TypeError("it must be a table")
    if _NAME.fullmatch(name) is None:
        raise ValueError("a name has letters, digits, - and _")
    if unknown := set(table) - _FIELDS:
        raise ValueError(f"unknown {', '.join(sorted(unknown))}")
    events = _texts(table.get("events", ["dead"]), "events")
    if not events or not events <= {*get_args(EventKind)}:
        raise ValueError(f"events must be some of {', '.join(get_args(EventKind))}")
    queues = table.get("queues")
    own = None if queues is None else frozenset(keys_of(q).queue for q in _texts(queues, "queues"))
    max_age = table.get("max_age", 0)
    if isinstance(max_age, bool) or not isinstance(max_age, int | float) or max_age < 0:
        raise ValueError("max_age must be seconds")
    if ("age" in events) != (max_age > 0):
        raise ValueError(
            "events with age need max_age, the seconds that a job may wait; no others do"
        )
    return Webhook(name, _url(table.get("url")), _secret(table), events, own, float(max_age))  # type: ignore[arg-type]


def _texts(value: object, name: str) -> frozenset[str]:
    if not isinstance(value, Sequence) or not all(isinstance(one, str) for one in value):
        raise TypeError(f"{name} must be a list of texts")
    return frozenset(value)


def _url(url: object) -> str:
    parts = urlsplit(url) if isinstance(url, str) else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("url must be http://… or https://…")
    if "@" in parts.netloc or not str(url).isascii() or re.search(r"[\s\x00-\x20\x7f]", str(url)):
        raise ValueError("url must have no user in it, and ASCII letters alone")
    _ = parts.port  # raises ValueError: it is none
    return str(url)


def _secret(table: Mapping[str, Any]) -> bytes:
    if ("secret" in table) == ("secret_env" in table):
        raise ValueError("give either secret or secret_env, the variable that has it")
    secret = table["secret"] if "secret" in table else variable(str(table["secret_env"]))
    if not isinstance(secret, str):
        raise TypeError("secret must be a text")
    try:
        plain = secret.removeprefix(_PREFIX)
        key = base64.b64decode(plain, validate=True) if plain != secret else secret.encode()
    except binascii.Error:
        raise ValueError(f"what follows {_PREFIX} must be base64") from None
    if len(key) < _LEAST_SECRET:
        raise ValueError(f"its secret must have {_LEAST_SECRET} bytes or more, or is not there")
    return key
