"""The options of a key: what becomes of a second job with it, and when it is free again. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, get_args

from headrace.errors import InvalidJob

IfExists = Literal["keep", "reject", "replace", "debounce", "throttle"]
KeyUntil = Literal["end", "start"]

_WORDS: Final = {"if_exists": IfExists, "key_until": KeyUntil}


def check_key_options(options: Mapping[str, Any]) -> None:
    """Check that what a job's options say of its key has a meaning. The API's document says it too.

    Raises:
        InvalidJob: it has none.
    """
    for name, kind in _WORDS.items():
        if name in options and options[name] not in get_args(kind):
            raise InvalidJob(f"{name}={options[name]!r} must be one of {', '.join(get_args(kind))}")
    how, ttl = options.get("if_exists", "keep"), "key_ttl" in options
    if options.get("key") is None and not _WORDS.keys().isdisjoint(options):
        raise InvalidJob("if_exists= and key_until= are about a key: give key=, too")
    if how == "throttle" and not ttl:
        raise InvalidJob("throttle needs key_ttl=: the seconds in which one job is enqueued")
    if how == "debounce" and {"delay", "at"}.isdisjoint(options):
        raise InvalidJob("debounce needs delay= or at=: when the job is due if no other comes")
    if ttl and (how in ("replace", "debounce") or "key_until" in options):
        raise InvalidJob(
            "key_ttl= holds a key whatever becomes of its job: leave it out with replace, debounce "
            "and key_until="
        )
