"""Hides arguments where people would see them: the page, the API, the command line, errors, the consumers' logs.

    HEADRACE_REDACT="password, card_*, pay()"

A name hides what stands under it: a keyword argument, a header, or a key at any depth of an argument; with ``()`` it
hides all arguments of a task; ``*`` and ``?`` stand for letters. What is hidden is hidden in the job's error, too, where
it appears again. In Redis it stands as it is: see SECURITY.md.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import msgspec

from headrace.settings import variable

VARIABLE: Final = "HEADRACE_REDACT"
MASK: Final = "•••"

_PACKED: Final = (
    "headrace.start"  # whose fourth argument is a workflow, with the arguments of its members
)
_HOLDERS: Final = ("args", "kwargs", "headers")
_LEAST: Final = 3  # letters of a text that is looked for in errors: shorter ones stand everywhere

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Rule:
    """What is hidden.

    Attributes:
        names: what is called so …
        tasks: … and all arguments of these tasks.
    """

    names: re.Pattern[str]
    tasks: re.Pattern[str]


def rule() -> Rule | None:
    """Return what the environment says is hidden; None: nothing."""
    return _read(variable(VARIABLE))


@lru_cache(maxsize=8)
def _read(text: str) -> Rule | None:
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        return None
    tasks = [word.removesuffix("()") for word in words if word.endswith("()")]
    return Rule(_any_of([word for word in words if not word.endswith("()")]), _any_of(tasks))


def _any_of(globs: list[str]) -> re.Pattern[str]:
    """Return what matches one of these; nothing, if there are none."""
    return re.compile("|".join(map(fnmatch.translate, globs)) or r"(?!)", re.IGNORECASE)


def shown(job: bytes) -> bytes:
    """Return a job, or a dead letter, as it may be shown; what is no JSON is hidden whole."""
    hidden = rule()
    if hidden is None:
        return job
    try:
        fields = _decode(job)
    except Exception:  # whatever decoding raises
        return MASK.encode()
    secrets = _hide(fields, hidden)
    error = fields.get("error")
    if isinstance(error, dict):
        for name in ("payload", "payload_base64"):
            if name in error:
                error[name] = MASK
        mask = _masker(secrets)
        error |= {name: mask(text) for name, text in error.items() if isinstance(text, str)}
    return _encode(fields)


def masked(text: str, job: bytes) -> str:
    """Return a text about a job, without what is hidden of that."""
    hidden = rule()
    if hidden is None:
        return text
    try:
        return _masker(_hide(_decode(job), hidden))(text)
    except Exception:  # whatever decoding raises
        return MASK


def _hide(fields: dict[str, Any], hidden: Rule) -> set[str]:
    """Hide what is to be hidden in a job's fields; return the texts that it was."""
    secrets: set[str] = set()
    task = fields.get("task")
    whole = isinstance(task, str) and hidden.tasks.fullmatch(task) is not None
    if task == _PACKED and isinstance(fields.get("args"), list):
        fields["args"] = [*fields["args"][:3], *([MASK] * len(fields["args"][3:]))]
    for name in _HOLDERS:
        if name in fields:
            fields[name] = _without(fields[name], hidden.names, secrets, whole=whole)
    return secrets


def _without(value: Any, names: re.Pattern[str], secrets: set[str], *, whole: bool) -> Any:
    if isinstance(value, dict):
        return {
            key: _without(part, names, secrets, whole=whole or names.fullmatch(key) is not None)
            for key, part in value.items()
        }
    if isinstance(value, list):
        return [_without(part, names, secrets, whole=whole) for part in value]
    if not whole:
        return value
    secrets.add(value if isinstance(value, str) else _encode(value).decode())
    return MASK


def _masker(secrets: set[str]) -> Callable[[str], str]:
    """Return what hides these in a text, the longest first."""
    found = sorted((one for one in secrets if len(one) >= _LEAST), key=len, reverse=True)
    if not found:
        return lambda text: text
    pattern = re.compile("|".join(map(re.escape, found)))
    return lambda text: pattern.sub(MASK, text)
