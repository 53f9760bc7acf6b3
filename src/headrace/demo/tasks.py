"""Tasks to try Headrace with: what consumer and producer use when no application is named."""

from __future__ import annotations

import asyncio
import hashlib
import io
import random
import tokenize
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypedDict

from headrace import Headrace

RESULT_TTL_S: Final = 600.0

app: Headrace = Headrace(result_ttl=RESULT_TTL_S)


class FileCount(TypedDict):
    """What ``count_file`` finds in a file."""

    lines: int
    tokens: int
    sha256: str


@app.task
def echo(*args: Any) -> list[Any]:
    """Give back what it is given."""
    return list(args)


@app.task
def add(a: float, b: float) -> float:
    """Add two numbers."""
    return a + b


@app.task
async def sleep(seconds: float) -> float:
    """Take its time, and no thread."""
    await asyncio.sleep(seconds)
    return seconds


@app.task
def fail(message: str = "this task always fails") -> None:
    """Fail on every attempt, so that its job ends in the dead letters."""
    raise RuntimeError(message)


@app.task
def flaky(p: float = 0.5) -> str:
    """Fail with probability ``p``, so that its job is tried again."""
    if random.random() < p:
        raise RuntimeError(f"bad luck: this task fails {p:.0%} of the time")
    return "lucky"


@app.task
def count_file(path: str) -> FileCount:
    """Count the lines and Python tokens of a file: some work that can be checked.

    Tokens are counted up to the first syntax error, so a file of any kind will do.

    Raises:
        OSError: the file cannot be read.
    """
    content = Path(path).read_bytes()
    return {
        "lines": len(content.splitlines()),
        "tokens": _tokens(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def _tokens(content: bytes) -> int:
    count = 0
    # LookupError: a file may declare a codec that is none for text, such as hex.
    with suppress(SyntaxError, tokenize.TokenError, ValueError, LookupError):
        encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
        text = io.StringIO(content.decode(encoding, errors="replace"))
        for _ in tokenize.generate_tokens(text.readline):
            count += 1
    return count
