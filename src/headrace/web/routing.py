"""Where a request goes, also when the server is mounted in another application."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import Scope


def path_of(scope: Scope) -> str:
    """Return the path of a request below where the server is mounted."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def root_of(scope: Scope) -> str:
    """Return the way from a page to where the server is mounted: it stays right behind a proxy, too.

    A name in the path may hold a slash that is escaped: a browser takes that for no slash.
    """
    raw = scope.get("raw_path") or scope["path"].encode()
    depth = raw.count(b"/") - scope.get("root_path", "").count("/") - 1
    return "" if path_of(scope) == "/" else "../" * depth or "./"


def wants_page(scope: Scope) -> bool:
    """Whether a person asks, with a browser, and not a program."""
    accepted = Headers(scope=scope).get("accept", "")
    return "text/html" in accepted and not path_of(scope).startswith("/api/")
