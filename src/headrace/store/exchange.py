"""What both stores share: packing requests, reading answers, naming failures. No I/O.

Nothing is retried here. redis-py by default sends a request again when its answer is lost, ten
times: harmless for a read, but a second BLMOVE moves a second job, and a second enqueue makes one.
Only a script that the server does not know is sent again, for it was not run.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import hiredis
from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterCrossSlotError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    NoPermissionError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import TimeoutError as RedisTimeoutError

from headrace.errors import (
    AccessDenied,
    ClusterUnsupported,
    DatabaseUnknown,
    HostUnknown,
    NotPermitted,
    ReplyLost,
    StoreError,
    StoreFull,
    StoreRefused,
    StoreUnavailable,
    StoreUnsuitable,
)
from headrace.operations import Argument, Operation, load
from headrace.settings import DEFAULT_URL, group_of, redacted

TIMEOUT_S: Final = 5.0
"""How long an answer may take beyond the time that Redis was asked to block."""

IDLE_CHECK_S: Final = 1.0
"""A connection unused for longer is looked at before use: the server may have closed it."""

MOST: Final = 16
"""So many requests of one store are under way at once, each on a connection; the others wait."""

BLOCKING: Final = 16
"""So many block at once, on connections beside those: who waits for a job takes none from who works."""

CROWDED: Final = TimeoutError(f"all {MOST} connections of this program are in use")

LOOK_EVERY_S: Final = 0.2
"""How often those look that would block, beyond that number: together, so that 500 cost little."""

KEPT: Final = 8
"""So many idle connections are kept; the surplus is closed."""

SERVER_ERRORS: Final = (ResponseError, BusyLoadingError, AuthenticationError, AuthorizationError)
"""What the server said: the request was not carried out, and the connection is in order."""

_Kind: TypeAlias = tuple[
    tuple[type[Exception], ...], tuple[str, ...], type[StoreError], str
]  # its classes, words in it, what it is to us, what to do
_KINDS: Final[tuple[_Kind, ...]] = (
    (
        (),
        ("OOM", "used memory"),
        StoreFull,
        "Give Redis more maxmemory, or let consumers drain the queue first",
    ),
    (
        (AuthenticationError,),
        ("NOAUTH", "WRONGPASS", "unauthenticated"),  # the last: for a script, before AUTH
        AccessDenied,
        "Put the user and password into the URL: redis://user:password@host:port/0",
    ),
    (
        (NoPermissionError,),  # by an ACL; or by rename-command, which takes a command away
        ("NOPERM", "no permission", "unknown command"),
        NotPermitted,
        "What Headrace needs is in docs/operators.md; headrace doctor tells what is missing",
    ),
    (
        (AskError, MovedError, ClusterDownError, ClusterCrossSlotError),
        ("cluster mode", "cluster support disabled"),
        ClusterUnsupported,
        "For a cluster write redis+cluster://HOST,HOST,HOST, and for one server redis://HOST",
    ),
    (
        (),
        ("DB index",),
        DatabaseUnknown,
        "Correct the number at the end of the URL: most servers have 0 to 15",
    ),
    (
        (),
        ("compiling script",),
        StoreUnsuitable,
        "It is too old, it seems: Headrace needs Redis >= 7.0 or Valkey >= 7.2",
    ),
)

# The role has changed while a request was blocked; no replicas, which may have another primary now.
_CUT_OFF: Final = ("UNBLOCKED", "NOREPLICAS")

NETWORK_ERRORS: Final = (RedisError, OSError, EOFError)


class Resets:
    """Raises ConnectionResetError for what event loops say of a write to a connection that was reset.

    uvloop raises RuntimeError; asyncio, in early Python 3.12, AttributeError: its transport has no
    loop any more.
    """

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        no_loop = isinstance(error, AttributeError) and error.name == "_add_writer"
        if no_loop or isinstance(error, RuntimeError):
            raise ConnectionResetError(str(error)) from error


def packed(commands: Sequence[Sequence[Argument]]) -> bytes:
    """Encode commands as they travel, in one piece."""
    pack: Any = hiredis.pack_command  # its stub does not know that it takes floats
    return b"".join([pack(tuple(command)) for command in commands])


def has_failed(replies: Sequence[Any]) -> bool:
    """Whether a reply is an error: hardly ever, and then there is more to look at."""
    for reply in replies:  # noqa: SIM110  a generator takes three times as long
        if isinstance(reply, Exception):
            return True
    return False


def to_repeat(operations: Sequence[Operation[Any]], replies: Sequence[Any]) -> list[int]:
    """Return which requests to send again: those whose script the server does not know, so not run.

    With them goes a WAIT after them, which has answered for what was sent before it.
    """
    unknown = [i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
    waits = [i for i, op in enumerate(operations) if op.name == "WAIT" and unknown]
    return [*unknown, *waits]


def is_demoted(replies: Sequence[Any]) -> bool:
    """Whether the server is, or may be, no primary any more: who is one is to be asked anew."""
    return any(
        isinstance(reply, ReadOnlyError | MasterDownError)
        or (isinstance(reply, ResponseError) and str(reply).startswith(_CUT_OFF))
        for reply in replies
    )


def loading(operations: Sequence[Operation[Any]]) -> list[tuple[Argument, ...]]:
    """Return the commands that make the scripts of these requests known."""
    scripts = {op.script.sha: op.script for op in operations if op.script is not None}
    return [load(script).command() for script in scripts.values()]


def after_loading(loads: Sequence[Any], replies: Sequence[Any]) -> list[Any]:
    """Return the replies to scripts that were loaded just before, or why they could not be.

    When they could, a script may be unknown all the same: it was flushed again right then.
    """
    why = next((reply for reply in loads if isinstance(reply, Exception)), None)
    return [why if why and isinstance(r, NoScriptError) else r for r in replies]


def answer(operation: Operation[Any], reply: Any) -> Any:
    """Read one answer: what the operation makes of it, or the error that it is."""
    if isinstance(reply, Exception):
        return refused(operation.name, reply)
    return operation.parse(reply)


def kind_of(error: Exception) -> tuple[type[StoreError], str]:
    """Return what an error that the server answered means, and what to do about it."""
    text = str(error)
    for classes, words, kind, todo in _KINDS:
        if isinstance(error, classes) or any(word in text for word in words):
            return kind, todo
    return StoreRefused, ""


def refused(name: str, error: Exception) -> StoreError:
    """Name an error that the server answered."""
    # The name of the user may be a token, so it ends here, also in the cause.
    error.args = (re.sub(r"\b[Uu]ser \S+ has no", "this user has no", str(error)),)
    kind, advice = kind_of(error)
    said = str(error).rstrip(".")
    refusal = kind(f"Redis refused {name}: {said}{advice and f'. {advice}'}")
    refusal.__cause__ = error
    return refusal


def lost(names: str, url: str, error: BaseException, *, sent: bool) -> StoreError:
    """Name a failed exchange: after sending it may have happened, before it did not."""
    if isinstance(error, SERVER_ERRORS):
        return refused(names, error)
    where, text = redacted(url), str(error).rstrip(".") or type(error).__name__
    if sent:
        failure: StoreError = ReplyLost(f"the answer to {names} from {where} was lost: {text}")
    elif isinstance(error.__cause__ or error.__context__, socket.gaierror):
        failure = HostUnknown(f"no Redis at {where}: {text}. Correct the host's name in the URL")
    else:
        failure = StoreUnavailable(f"no Redis at {where}: {text}. {advice(url)}")
    failure.timed_out = isinstance(error, RedisTimeoutError | TimeoutError)
    failure.__cause__ = error
    return failure


def advice(url: str) -> str:
    """Say what to do when nothing answers at a URL."""
    if group_of(url):
        return "If that primary is dead, another server will soon take its place"
    if url == DEFAULT_URL:
        return "Start one: redis-server, or headrace serve (with no URL given)"
    return "Start one there (redis-server), or correct the URL"


def names_of(operations: Sequence[Operation[Any]]) -> str:
    """Name requests in a message."""
    return " + ".join(dict.fromkeys(op.name for op in operations))
