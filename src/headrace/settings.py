"""Settings: what a program is told from outside. The only module that reads the environment."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from headrace.errors import InvalidSetting

DEFAULT_URL = "redis://127.0.0.1:6379/0"
DEFAULT_QUEUE = "queue"
URL_VARIABLES = ("HEADRACE_URL", "REDIS_URL")
SCHEMES = (
    *("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel"),
    *("redis+cluster", "rediss+cluster"),
)
PORTS: Final = {"sentinel": 26379, "cluster": 6379}
_MUST: Final = {
    "sentinel": "name each Sentinel as HOST or HOST:PORT, then the service as they know it, and perhaps the "
    "number of a database: redis+sentinel://host1:26379,host2:26379/mymaster/0",
    "cluster": "name some nodes of the cluster, each as HOST or HOST:PORT, and no database, for a cluster has "
    "one: redis+cluster://host1:6379,host2:6379,host3:6379",
}


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """Where Redis is, and whether somebody said so.

    Attributes:
        url: a ``redis://``, ``rediss://`` or ``unix://`` URL, or one of Sentinels
            (``redis+sentinel://``) or of a cluster (``redis+cluster://``), perhaps with a password.
        given: False when it is the default, so that an embedded server may be started there.
    """

    url: str
    given: bool

    def __str__(self) -> str:
        """Return the URL as it may be shown: see ``redacted``."""
        return redacted(self.url)

    def __repr__(self) -> str:
        """Return it without secrets: a traceback, a log or a dead letter may quote this."""
        return f"RedisUrl({redacted(self.url)!r}, given={self.given})"


@dataclass(frozen=True, slots=True)
class Group:
    """Several servers that are one Redis: whom to ask where it is, and what it needs.

    Attributes:
        kind: ``sentinel`` or ``cluster``.
        hosts: where the Sentinels, or some nodes of the cluster, listen: host and port.
        service: the name under which Sentinels know the primary; "" for a cluster.
        server_url: all else that the URL says, as the URL of one server without a host.
    """

    kind: str
    hosts: tuple[tuple[str, int], ...]
    service: str
    server_url: str = field(repr=False)  # with user and password


def redis_url(explicit: str | None = None) -> RedisUrl:
    """Decide where Redis is: what is given, else HEADRACE_URL, else REDIS_URL, else the default.

    Raises:
        InvalidSetting: the URL is not valid.
    """
    for source, url in (("url", explicit), *((name, variable(name)) for name in URL_VARIABLES)):
        if url:
            _check_url(source, url)
            return RedisUrl(url, given=True)
    return RedisUrl(DEFAULT_URL, given=False)


def variable(name: str) -> str:
    """Return what the environment says, "" if nothing: for what other programs have laid down."""
    return os.environ.get(name, "")


def group_of(url: str) -> Group | None:
    """Read the URL of Sentinels, or of a cluster; None when it is the URL of one server.

    Raises:
        InvalidSetting: it names no host or no service, or says what has no meaning.
    """
    parts = urlsplit(url)
    scheme, _, kind = parts.scheme.partition("+")
    if kind not in PORTS:
        return None
    access, at, hosts = parts.netloc.rpartition("@")
    service, _, database = parts.path.strip("/").partition("/")
    if kind == "cluster":
        service, database = database, service
    try:
        found = tuple(_host(host, PORTS[kind]) for host in hosts.split(","))
    except ValueError:  # its words may quote a password
        found = ()
    fits = bool(service) if kind == "sentinel" else not service and database in {"", "0"}
    whole = _split(url) is not None and found and all(dict(found))
    if not fits or not whole or re.search(r"\D", database):
        raise InvalidSetting(f"{redacted(url)} must {_MUST[kind]}")
    query = f"?{parts.query}" if parts.query else ""
    return Group(kind, found, unquote(service), f"{scheme}://{access}{at}/{database}{query}")


def _host(text: str, usual_port: int) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    port = usual_port if parts.port is None else parts.port
    return parts.hostname or "", port


def _check_url(source: str, url: str) -> None:
    # Neither the URL nor a reason that quotes it: what stands at the wrong place may be a password.
    parts = _split(url)
    if parts is None:
        raise InvalidSetting(
            f"{source} is not a URL: a password (or an option) that holds / # ? @ or : must be "
            f"percent-encoded, and the port is a number, as in {DEFAULT_URL}"
        )
    if parts.scheme not in SCHEMES:
        raise InvalidSetting(
            f"{source} must begin with redis://, rediss:// (TLS), unix://, redis+sentinel:// or "
            f"redis+cluster://, for example {DEFAULT_URL}"
        )
    group_of(url)


def _split(url: str) -> SplitResult | None:
    """Take a URL apart; None when it is not certain where its user and password end."""
    try:
        parts = urlsplit(url)
        if "+" not in parts.scheme:
            parts.port  # noqa: B018  raises when it is no number
    except ValueError:
        return None
    return None if "@" in parts.path + parts.query + parts.fragment else parts


NOT_SHOWN: Final = "the given URL"
_SERVICE: Final = re.compile(r"/[\w.-]+(?=/|$)")


def redacted(url: str) -> str:
    """Return what may be shown of a URL: scheme, hosts, ports, the path to a server, the database.

    No user either, for a token may stand there, and none of the options. Where it is not certain
    what is what, nothing of it is shown.
    """
    parts = _split(url)
    if parts is None or parts.scheme not in SCHEMES:
        return NOT_SHOWN
    hosts = parts.netloc.rpartition("@")[2]
    try:
        for host in hosts.split(","):
            _host(host, 0)
    except ValueError:
        return NOT_SHOWN
    option = next(iter(parse_qs(parts.query).get("db", ())), "")
    if parts.scheme == "unix":
        return f"unix://{hosts}{parts.path}" + (f"?db={option}" if option.isdecimal() else "")
    service = _SERVICE.match(parts.path) if parts.scheme.endswith("+sentinel") else None
    shown = f"{parts.scheme}://{hosts}{service[0] if service else ''}"
    database = option or parts.path.rpartition("/")[2]
    return f"{shown}/{database}" if database.isdecimal() else shown
