"""Which of the commands that Headrace gives Redis a user may not give, before one of them fails."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from headrace.errors import StoreRefused
from headrace.flows import Flow
from headrace.keys import CHANNEL_PREFIX, DUE, LEADER, QUEUES, Keys
from headrace.operations import Argument, Operation, run

_LIST: Final = "LINDEX LLEN LPOS LPUSH LRANGE LREM LTRIM RPOP RPUSH"
_ZSET: Final = "ZADD ZCARD ZMSCORE ZRANGE ZREM ZREMRANGEBYSCORE ZSCORE"
_HASH: Final = "HDEL HEXISTS HGET HGETALL HINCRBY HLEN HMGET HSCAN HSET HSETNX"
# Redis 8 refuses to judge a command that has too few or too many arguments.
_BEHIND_THE_KEY: Final = {
    **dict.fromkeys(("LLEN", "ZCARD", "HGETALL", "HLEN"), 0),
    **dict.fromkeys(("LRANGE", "LREM", "LTRIM", "ZADD", "ZRANGE", "ZREMRANGEBYSCORE"), 2),
    **dict.fromkeys(("HINCRBY", "HSET", "HSETNX"), 2),
}

_CHANNELS: Final = (DUE, f"{CHANNEL_PREFIX}-")
_LATE: Final = (
    "delayed jobs may be a second late, and a running one hears up to 5 s late that it is cancelled"
)

HELPFUL: Final = {
    "CLIENT LIST": "consumers whose process is gone are noticed only when their leases run out",
    "CLIENT KILL": "a supervisor cannot close the connections of a child that died",
    "CLIENT UNBLOCK": "a consumer that stops waits up to 5 s for its blocking move",
    "PUBLISH": _LATE,
    "SUBSCRIBE": _LATE,
    "CONFIG GET": "the doctor does not see all settings",
    "WAIT": "no enqueue can be confirmed by replicas (confirm_replicas)",
}
"""Commands that Headrace can do without, and what is worse then."""


def refused(k: Keys) -> Flow[tuple[str, ...] | None]:
    """Return the commands that this user may not give; None if unknown."""
    commands = _commands(k)
    used = [k.pending, k.processing, k.delayed, k.claims, k.cancelled, k.nudge, QUEUES, LEADER]
    try:
        places: list[int] = yield permitted(commands, used)
    except StoreRefused as error:
        # Without scripts there is no Headrace at all.
        return ("EVALSHA",) if "NOPERM" in str(error) or "permission" in str(error) else None
    return tuple(dict.fromkeys(_name_of(commands[place]) for place in places))


def _commands(k: Keys) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = [
        ("BLMOVE", k.pending, k.processing, "RIGHT", "LEFT", "1"),
        ("LMOVE", k.pending, k.pending, "LEFT", "LEFT"), ("BLPOP", k.nudge, "1"),
        ("SADD", QUEUES, k.queue), ("SMEMBERS", QUEUES),
        ("GET", LEADER), ("SET", LEADER, ""), ("DEL", LEADER),
        ("EXISTS", k.cancelled), ("TYPE", k.pending), ("PEXPIRE", k.cancelled, "1"),
        ("TIME",), ("SCRIPT", "LOAD", ""), ("CLIENT", "SETNAME", "0"),
    ]  # fmt: skip
    for names, key in ((_LIST, k.pending), (_ZSET, k.delayed), (_HASH, k.claims)):
        found += [(name, key, *("0",) * _BEHIND_THE_KEY.get(name, 1)) for name in names.split()]
    others: dict[str, list[tuple[str, ...]]] = {
        "PUBLISH": [("PUBLISH", name, "") for name in _CHANNELS],
        "SUBSCRIBE": [("SUBSCRIBE", name) for name in _CHANNELS],
        "WAIT": [("WAIT", "0", "0")],
    }
    for name in HELPFUL:
        found += others.get(name) or [(*name.split(), "0")]
    return found


def permitted(commands: Sequence[Sequence[str]], used: Sequence[str]) -> Operation[list[int]]:
    """Return which commands this user may not give, by their places; ``used``: the keys in them."""
    args: list[Argument] = []
    for words in commands:
        args += (len(words), *words)
    return run("permitted", used, args, list)


def _name_of(command: tuple[str, ...]) -> str:
    """Name a command as people write it."""
    words = 2 if command[0] in {"CLIENT", "CONFIG", "SCRIPT"} else 1
    return " ".join(command[:words])
