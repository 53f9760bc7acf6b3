"""The plain client that tests look into Redis with."""

from __future__ import annotations

from typing import Any, TypeAlias

# redis-py types each reply as all that any server, protocol and option may give: `bytes | str | list | None`
# and more. Ours decode nothing, and tests know what they ask for.
PlainRedis: TypeAlias = Any
"""A ``redis.Redis`` whose replies are what the test says they are."""
