"""What keys are called on a cluster, and their slots. Pure."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from redis.crc import key_slot

SLOTS: Final = 16_384


@lru_cache(maxsize=1 << 16)
def placed(key: str) -> tuple[str, int]:
    """Return what a key is called on a cluster, and its slot: ``emails:dlq`` is ``{emails}:dlq``."""
    queue, colon, rest = key.partition(":")
    return f"{{{queue}}}{colon}{rest}", slot_of(queue)


def unplaced(key: bytes) -> bytes:
    """Return what a key of a cluster is called elsewhere; one that is not ours as it is."""
    queue, brace, rest = key.partition(b"}")
    return queue[1:] + rest if brace and queue.startswith(b"{") else key


def slot_of(queue: str) -> int:
    """Return the slot in which all keys of a queue are."""
    return key_slot(queue.encode(errors="surrogateescape"))
