"""Settings: what a program is told from outside. The only module that reads the environment."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from headrace.errors import InvalidSetting

DEFAULT_URL = "redis://127.0.0.1:6379/0"
DEFAULT_QUEUE = "queue"
URL_VARIABLES = ("HEADRACE_URL", "REDIS_URL")
SCHEMES = ("redis", "rediss", "unix")


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """Where Redis is, and whether somebody said so.

    Attributes:
        url: a ``redis://``, ``rediss://`` or ``unix://`` URL, perhaps with a password.
        given: False when it is the default, so that an embedded server may be started there.
    """

    url: str
    given: bool

    def __str__(self) -> str:
        """Give the URL as it may be shown: without its password."""
        return redacted(self.url)


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


def _check_url(source: str, url: str) -> None:
    try:
        parts = urlsplit(url)
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
            f"{source}={redacted(url)!r} must begin with redis://, rediss:// (TLS) or unix://, "
            f"for example {DEFAULT_URL}"
        )


def redacted(url: str) -> str:
    """Give the URL without its password: for logs and messages."""
    return re.sub(
        r"(?i)([?&]password=)[^&#]*",
        r"\1***",
        re.sub(r"(//[^/@]*?:)(.*)@", r"\1***@", url, count=1),
    )
