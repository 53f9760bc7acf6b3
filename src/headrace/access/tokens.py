"""The file of tokens: TOML, a table for each, with the digest of the token and never the token itself.

    [grafana]
    role = "viewer"
    sha256 = "9f86d081…"
    queues = ["emails"]         # else all
    expires = 2027-01-01        # else never

Not in Redis: whoever reaches that has no need of a token, and shall not be able to make one. A token has
192 random bits, so that its digest needs neither salt nor stretching.
"""

from __future__ import annotations

import hashlib
import logging
import re
import secrets
import tomllib
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

from headrace.access.rights import ROLES, Role, Who
from headrace.clock import monotonic, now_ms
from headrace.errors import InvalidSetting
from headrace.keys import keys_of

log: logging.Logger = logging.getLogger(__name__)

_LOOK_EVERY_S: Final = 1.0  # whether the file has changed: so long a token lives that was taken out
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_FIELDS: Final = {"role", "sha256", "queues", "expires"}


def digest_of(token: str) -> str:
    """Return what the file keeps of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def new_token(
    name: str, role: Role, queues: Sequence[str], expires: date | None
) -> tuple[str, str]:
    """Make a token; return it, and what is to stand in the file.

    Raises:
        InvalidSetting: the name, or a queue's, cannot be one.
    """
    if _NAME.fullmatch(name) is None:
        raise InvalidSetting(f"{name!r}: a token's name has letters, digits, - and _")
    token = f"hr_{secrets.token_urlsafe(24)}"
    lines = [f"[{name}]", f'role = "{role}"', f'sha256 = "{digest_of(token)}"']
    if queues:
        names = ", ".join(f'"{_plain(keys_of(queue).queue)}"' for queue in queues)
        lines.append(f"queues = [{names}]")
    if expires is not None:
        lines.append(f"expires = {expires.isoformat()}")
    return token, "\n".join(lines)


def _plain(text: str) -> str:
    """Write text as TOML has it between quotes."""
    return text.replace("\\", "\\\\").replace('"', '\\"')


def read(text: str, where: str) -> dict[str, tuple[Who, int | None]]:
    """Read the file: by digest, whose each token is, and until when (ms since 1970).

    Raises:
        InvalidSetting: it is no such file; the message says where.
    """
    try:
        tables: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidSetting(f"{where} is no TOML: {error}") from None
    found: dict[str, tuple[Who, int | None]] = {}
    for name, table in tables.items():
        try:
            digest, who, until_ms = _entry(name, table)
        except (TypeError, ValueError, InvalidSetting) as error:
            raise InvalidSetting(
                f"{where}: [{name}]: {error}. headrace token makes entries"
            ) from None
        if digest in found:
            raise InvalidSetting(f"{where}: [{name}] has the token of [{found[digest][0].name}]")
        found[digest] = who, until_ms
    return found


def _entry(name: str, table: Any) -> tuple[str, Who, int | None]:
    if not isinstance(table, Mapping):
        raise TypeError("it must be a table")
    if unknown := set(table) - _FIELDS:
        raise ValueError(f"unknown {', '.join(sorted(unknown))}")
    digest, queues = table.get("sha256"), table.get("queues")
    role = next((role for role in ROLES if role == table.get("role")), None)
    if role is None:
        raise ValueError(f"role={table.get('role')!r} must be one of {', '.join(ROLES)}")
    if not isinstance(digest, str) or _DIGEST.fullmatch(digest) is None:
        raise ValueError("sha256 must be 64 hexadecimal digits")
    if queues is not None and not isinstance(queues, list):
        raise TypeError("queues must be a list of names")
    own = None if queues is None else frozenset(keys_of(str(queue)).queue for queue in queues)
    return digest, Who(name, role, own), _until_ms(table.get("expires"))


def _until_ms(expires: object) -> int | None:
    """Read until when a token counts; a date counts until it begins, in UTC."""
    if expires is None:
        return None
    if not isinstance(expires, date):
        raise TypeError("expires must be a date, as in 2027-01-01")
    if not isinstance(expires, datetime):
        expires = datetime(expires.year, expires.month, expires.day, tzinfo=UTC)
    at = expires if expires.tzinfo is not None else expires.replace(tzinfo=UTC)
    return round(at.timestamp() * 1000)


class Tokens:
    """The tokens of a file, which is read again when it has changed.

    Args:
        path: where it is.

    Raises:
        InvalidSetting: it cannot be read, or has no token.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: object = None
        self._look_at = 0.0
        self._found: dict[str, tuple[Who, int | None]] = {}
        self._load()
        if not self._found:
            raise InvalidSetting(f"{path} has no token: headrace token NAME >> {path}")

    def find(self, token: str) -> Who | None:
        """Return whose a token is; None if it is nobody's, or over."""
        self._look_again()
        return self._valid(digest_of(token))

    def named(self, name: str) -> tuple[str, Who] | None:
        """Return the token of a name, its digest and whose it is; None if there is none, or it is over."""
        self._look_again()
        for digest, (who, _) in self._found.items():
            if who.name == name:
                return None if self._valid(digest) is None else (digest, who)
        return None

    def _valid(self, digest: str) -> Who | None:
        who, until_ms = self._found.get(digest, (None, None))
        return None if until_ms is not None and now_ms() >= until_ms else who

    def _look_again(self) -> None:
        if monotonic() < self._look_at:
            return
        try:
            self._load()
        except InvalidSetting as error:  # half written, or wrong: what was read last counts
            log.error("the tokens are as before: %s", error)

    def _load(self) -> None:
        self._look_at = monotonic() + _LOOK_EVERY_S
        try:
            status = self._path.stat()
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
            if stamp == self._stamp:
                return
            text = self._path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidSetting(f"the tokens cannot be read: {error}") from None
        self._stamp = stamp
        self._found = read(text, str(self._path))
        if status.st_mode & 0o022:
            log.warning("%s: others may write it, and make tokens: chmod 600", self._path)
