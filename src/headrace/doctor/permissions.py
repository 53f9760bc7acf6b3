"""The commands that Headrace gives Redis, so that one that is forbidden is named before it fails."""

from __future__ import annotations

from typing import Final

from headrace.keys import LEADER, QUEUES, Keys

_LIST: Final = "LINDEX LLEN LPOS LPUSH LRANGE LREM LTRIM RPOP RPUSH"
_ZSET: Final = "ZADD ZCARD ZRANGE ZREM ZREMRANGEBYSCORE ZSCORE"
_HASH: Final = "HDEL HEXISTS HGET HGETALL HINCRBY HLEN HMGET HSCAN HSET HSETNX"

HELPFUL: Final = {
    "CLIENT LIST": "consumers whose process is gone are noticed only when their leases run out",
    "CLIENT KILL": "a supervisor cannot close the connections of a child that died",
    "CLIENT UNBLOCK": "a consumer that stops waits up to 5 s for its blocking move",
    "CLIENT SETNAME": "nobody sees whose a connection is",
    "CONFIG GET": "the doctor does not see all settings",
}
"""Commands that Headrace can do without, and what is worse then."""


def commands(k: Keys) -> tuple[list[tuple[str, ...]], list[str]]:
    """Return the commands, as their words, and the keys that stand in them."""
    found: list[tuple[str, ...]] = [
        ("BLMOVE", k.pending, k.processing, "RIGHT", "LEFT", "1"),
        ("LMOVE", k.pending, k.pending, "LEFT", "LEFT"),
        ("BLPOP", k.nudge, "1"),
        ("SADD", QUEUES, k.queue),
        ("SMEMBERS", QUEUES),
        ("GET", LEADER),
        ("SET", LEADER, ""),
        ("DEL", LEADER),
        ("EXISTS", k.cancelled),
        ("TYPE", k.pending),
        ("PEXPIRE", k.cancelled, "1"),
        ("TIME",),
        ("SCRIPT", "LOAD", ""),
    ]
    for names, key in ((_LIST, k.pending), (_ZSET, k.delayed), (_HASH, k.claims)):
        found += [(name, key, "") for name in names.split()]
    used = [k.pending, k.processing, k.delayed, k.claims, k.cancelled, k.nudge, QUEUES, LEADER]
    helpful = [tuple(f"{name} 0".split()) for name in HELPFUL]
    return [*found, *helpful], used


def name_of(command: tuple[str, ...]) -> str:
    """Name a command as people write it."""
    words = 2 if command[0] in {"CLIENT", "CONFIG", "SCRIPT"} else 1
    return " ".join(command[:words])
