"""What is encrypted, and how it stands in JSON: the arguments of a call, a result, an item of a stream.

    "kwargs": {"$encrypted": "KEYID.BASE64"}                              all arguments of a job
    {"$encrypted": "KEYID.BASE64", "task": "pay", "job": "…"}             what its task has returned

Arguments are bound to their task alone: a job keeps that when it is tried again, redriven, moved to another
queue or server, taken into a workflow or fired by a schedule; its id and its queue it may not. What a task
returns is bound to the task and to the job. No parameter can be called ``$encrypted``, so most consumers of an
older release refuse such a job; not those of a task that takes ``**kwargs``, and one that keeps no dead letters
drops it. Nothing says that a value must be encrypted: who may write to Redis can put plain ones in its place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, Literal, TypeAlias

import msgspec

from headrace.encryption.encryption import CannotOpen, Encryption, key_of
from headrace.errors import InvalidJob
from headrace.faithful import encode_args, encode_kwargs
from headrace.handoff import PLACEHOLDER

ENCRYPTED: Final = "$encrypted"
RESULTS: Final = "$results"
"""Beside it: the results of other members of a workflow, which Redis puts there without reading them."""

Kind: TypeAlias = Literal["result", "item"]

Seal: TypeAlias = Callable[
    [str, tuple[Any, ...], dict[str, Any], Sequence[str]], tuple[tuple[Any, ...], dict[str, Any]]
]
"""Encrypts the arguments of a task's call: its name, args, kwargs, what the first args are called."""

_PLACEHOLDERS: Final = re.compile(rb'"(%b(?:-\d+)?)"' % PLACEHOLDER.encode())
_MARKS: Final = frozenset({ENCRYPTED, RESULTS})
_SEALED: Final = frozenset({ENCRYPTED, "task", "job"})

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


def seal_call(
    encryption: Encryption,
    task: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    names: Sequence[str] = (),
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments that stand in a job in place of these.

    What somebody has encrypted before is left as it is.

    Raises:
        InvalidJob: one of them does not come back equal from JSON, or is called as what is encrypted, and
            is not.
    """
    if ENCRYPTED in kwargs:
        refuse_unsealed(encryption, task, args, kwargs)
        return args, kwargs
    raw = b"%b,%b" % (encode_args(args, names), encode_kwargs(kwargs))
    tokens = [one.decode() for one in dict.fromkeys(_PLACEHOLDERS.findall(raw))]
    token = encryption.seal(b"[%b,%b]" % (raw, _encode(tokens)), about_call(task))
    return (), {ENCRYPTED: token} | ({RESULTS: tokens} if tokens else {})


def refuse_unsealed(
    encryption: Encryption | None, task: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> None:
    """Refuse what no consumer could run; what is under a key that is not here passes.

    Raises:
        InvalidJob: it is not what ``seal_call`` makes.
    """
    if args or not kwargs.keys() <= _MARKS:
        raise InvalidJob(
            f"{ENCRYPTED} holds all arguments of a call, encrypted before: give no others beside it, or "
            "call the argument something else"
        )
    if not isinstance(kwargs.get(RESULTS, []), list):
        raise InvalidJob(f"{RESULTS}, beside {ENCRYPTED}, is a list of results of other members")
    try:
        key = key_of(kwargs[ENCRYPTED])
        if encryption is not None and key in encryption.key_ids:
            encryption.open(kwargs[ENCRYPTED], about_call(task))
    except CannotOpen as error:
        raise InvalidJob(
            f"{ENCRYPTED} is kept for arguments of {task!r} that were encrypted before, and these are {error}. "
            "Call the argument something else, or put it within another one"
        ) from error


def sealer_of(encryption: Encryption | None) -> Seal | None:
    """Return what encrypts the arguments of any task; None without keys."""
    return None if encryption is None else partial(seal_call, encryption)


def open_call(
    encryption: Encryption, task: str, kwargs: dict[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments that ``seal_call`` was given, and in them the results of other members.

    Raises:
        CannotOpen: no key fits, or they are not this task's.
    """
    args, named, tokens = _decode(encryption.open(kwargs[ENCRYPTED], about_call(task)))
    if not tokens:
        return args, named
    filled = kwargs.get(RESULTS)
    if not isinstance(filled, list) or len(filled) != len(tokens):
        raise CannotOpen("encrypted, and the results that belong into it are missing")
    values = dict(zip(tokens, open_within(encryption, filled), strict=True))
    args, named = _each(
        [args, named], lambda one: values.get(one, one) if type(one) is str else one
    )
    return args, named


def seal_value(encryption: Encryption, kind: Kind, task: str, job_id: str, raw: bytes) -> bytes:
    """Return as JSON what stands in place of a result, or an item, that is this JSON."""
    token = encryption.seal(raw, _about(kind, task, job_id))
    return _encode({ENCRYPTED: token, "task": task, "job": job_id})


def is_sealed(value: object) -> bool:
    """Whether a value is an encrypted result or item."""
    return type(value) is dict and value.keys() == _SEALED


def open_value(encryption: Encryption, kind: Kind, value: dict[str, Any]) -> Any:
    """Return a result, or an item, as plain JSON.

    Raises:
        CannotOpen: no key fits, or it is not what it says it is.
    """
    about = _about(kind, str(value["task"]), str(value["job"]))
    return _decode(encryption.open(value[ENCRYPTED], about))


def open_within(encryption: Encryption, value: Any) -> Any:
    """Return a value with all results in it opened.

    Raises:
        CannotOpen: one cannot be.
    """

    def opened(one: Any) -> Any:
        return open_value(encryption, "result", one) if is_sealed(one) else one

    return _each(value, opened)


def holds_sealed(value: Any) -> str:
    """Return the text of an encrypted result that stands somewhere in a value; "" if none does."""
    found: list[str] = []

    def look(one: Any) -> Any:
        if is_sealed(one):
            found.append(str(one[ENCRYPTED]))
        return one

    _each(value, look)
    return found[0] if found else ""


def about_call(task: str) -> bytes:
    """Return what arguments are bound to."""
    return _encode(["headrace", 1, "arguments", task])


def _about(kind: Kind, task: str, job_id: str) -> bytes:
    return _encode(["headrace", 1, kind, task, job_id])


def _each(value: Any, change: Callable[[Any], Any]) -> Any:
    """Return plain JSON in which each part is changed, from the outside; what is put in stays as it is."""
    changed = change(value)
    if changed is not value:
        return changed
    if type(value) is list:
        return [_each(part, change) for part in value]
    if type(value) is dict:
        return {key: _each(part, change) for key, part in value.items()}
    return value
