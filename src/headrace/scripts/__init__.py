"""The Lua scripts: each one a transition of the protocol, and nothing changes state outside them.

A script is called by the SHA-1 of its text, so consumers of two versions share a server. A line
``-- include: name`` is replaced by ``lib/name.lua``: functions that several transitions share.

Those of the core stand here; a part beside it has its own with it, called ``part/name``, also
what they share: ``part/lib/name``.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

MAX_ITEMS = 1_000
"""Jobs in one call: bounds how long a script keeps Redis from everybody else."""

MAX_BYTES = 1 << 20
"""Bytes of jobs in one call, about: 500 jobs of 1 MB in one reply block Redis for 1.7 s."""

_INCLUDE = re.compile(r"^-- include: (?:(\w+)/lib/)?(\w+)\n", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    """A script's name, its text as Redis gets it, and the text's SHA-1."""

    name: str
    source: str
    sha: str


@cache
def script(name: str) -> Script:
    """Load a script from the package, its includes resolved; ``part/name``: one of a part."""
    part, _, plain = name.rpartition("/")
    source = with_includes(_text(part, f"{plain}.lua"))
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


def with_includes(source: str) -> str:
    """Return the text of a script with what it includes."""
    return _INCLUDE.sub(lambda found: _text(found[1], f"lib/{found[2]}.lua"), source)


def _text(part: str | None, path: str) -> str:
    return (files("headrace") / (part or "scripts") / path).read_text("utf-8")
