"""The places in which a job can stand in a queue, and the keys that hold them."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args

from headrace.keys import Keys

Place: TypeAlias = Literal["pending", "priority", "delayed", "processing", "dead"]
PLACES: Final[tuple[Place, ...]] = get_args(Place)

SORTED: Final = frozenset({"priority", "delayed"})
"""Those that are sorted sets; the others are lists."""


def key_of(k: Keys, place: Place) -> str:
    """Return the key that holds a place."""
    key: str = getattr(k, place)
    return key
