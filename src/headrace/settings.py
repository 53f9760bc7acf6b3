"""Settings: what a program is told from outside. The only module that reads the environment."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from headrace.errors import InvalidSetting

DEFAULT_URL = "redis://127.0.0.1:6379/0"
DEFAULT_QUEUE = "queue"
URL_VARIABLES = ("HEADRACE_URL", "REDIS_URL")
SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")
SENTINEL_PORT = 26379
SENTINEL_EXAMPLE = "redis+sentinel://host1:26379,host2:26379/mymaster/0"


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """Where Redis is, and whether somebody said so.

    Attributes:
        url: a ``redis://``, ``rediss://`` or ``unix://`` URL, or one of Sentinels
            (``redis+sentinel://``), perhaps with a password.
        given: False when it is the default, so that an embedded server may be started there.
    """

    url: str
    given: bool

    def __str__(self) -> str:
        """Give the URL as it may be shown: without its password."""
        return redacted(self.url)


@dataclass(frozen=True, slots=True)
class Sentinels:
    """Whom to ask for the primary, and what it needs.

    Attributes:
        hosts: where the Sentinels listen: host and port.
        service: the name under which they know the primary.
        server_url: all else that the URL says, as the URL of one server without a host.
    """

    hosts: tuple[tuple[str, int], ...]
    service: str
    server_url: str


def redis_url(explicit: str | None = None) -> RedisUrl:
    """Decide where Redis is: what is given, else HEADRACE_URL, else REDIS_URL, else the default.

    Raises:
        InvalidSetting: the URL is none.
    """
    for source, url in (
        ("url", explicit),
        *((name, os.environ.get(name)) for name in URL_VARIABLES),
    ):
        if url:
            _check_url(source, url)
            return RedisUrl(url, given=True)
    return RedisUrl(DEFAULT_URL, given=False)


def sentinels_of(url: str) -> Sentinels | None:
    """Read the URL of Sentinels; None when it is the URL of one server.

    Raises:
        InvalidSetting: it names no Sentinel or no service, or says what has no meaning.
    """
    parts = urlsplit(url)
    scheme, _, kind = parts.scheme.partition("+")
    if kind != "sentinel":
        return None
    access, at, hosts = parts.netloc.rpartition("@")
    service, _, database = parts.path.strip("/").partition("/")
    try:
        found = tuple(_host(host) for host in hosts.split(","))
    except ValueError:  # its words may quote a password
        found = ()
    if not all(dict(found)) or not found or not service or re.search(r"\D", database):
        raise InvalidSetting(
            f"{redacted(url)} must name each Sentinel as HOST or HOST:PORT, then the service as they "
            f"know it, and perhaps the number of a database: {SENTINEL_EXAMPLE}"
        )
    query = f"?{parts.query}" if parts.query else ""
    return Sentinels(found, unquote(service), f"{scheme}://{access}{at}/{database}{query}")


def _host(text: str) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    port = SENTINEL_PORT if parts.port is None else parts.port
    return parts.hostname or "", port


def _check_url(source: str, url: str) -> None:
    try:
        parts = urlsplit(url)
        if "+" not in parts.scheme:
            parts.port  # noqa: B018  raises when it is no number
    except ValueError:
        # Not the reason that it gives: that quotes what stands where the port should, perhaps a
        # part of a password.
        raise InvalidSetting(
            f"{source} is not a URL: a password that holds / # ? @ or : must be percent-encoded, "
            f"and the port is a number, as in {DEFAULT_URL}"
        ) from None
    if parts.scheme not in SCHEMES:
        raise InvalidSetting(
            f"{source}={redacted(url)!r} must begin with redis://, rediss:// (TLS), unix:// or "
            f"redis+sentinel://, for example {DEFAULT_URL}"
        )
    sentinels_of(url)


def redacted(url: str) -> str:
    """Give the URL without its passwords: for logs and messages."""
    # The options first: an @ in one of them is not the end of a user and password.
    url = re.sub(r"(?i)([?&](?:sentinel_)?password=)[^&#]*", r"\1***", url)
    return re.sub(r"(//[^/@]*?:)(.*)@", r"\1***@", url, count=1)
