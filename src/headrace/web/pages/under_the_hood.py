"""For learners: the Redis keys of a queue as they are now, and the life of a job as commands."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Final, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from headrace import operations as op
from headrace.keys import Keys, keys_of
from headrace.web.api.asked import known
from headrace.web.pages.shell import Shell, lead

_SAYS: Final = {
    "pending": "jobs that wait: LPUSH on the left, taken from the right",
    "processing": "jobs that are claimed, the newest on the left",
    "dead": "dead letters, the newest on the left",
    "delayed": "jobs that wait for an instant; score: when they are due, ms",
    "priority": "jobs with a priority other than 0; score: minus the priority",
    "limited": "jobs that wait in lanes, for a limit or their turn",
    "leases": "until when each claim lasts; score: the deadline, ms",
    "claims": "whose each claimed job is, and its bytes",
    "nudge": "hints that wake idle consumers; they may be lost",
    "stats": "counters: accepted, done, retried, …",
    "meta": "whether it is paused, when it was last swept",
    "cancelled": "running jobs that were asked to stop",
}
_LENGTHS: Final = {
    "list": "LLEN",
    "zset": "ZCARD",
    "hash": "HLEN",
    "set": "SCARD",
    "string": "STRLEN",
}
_LOOKS: Final = {
    "list": "LRANGE {key} 0 9", "zset": "ZRANGE {key} 0 9 WITHSCORES", "hash": "HGETALL {key}",
}  # fmt: skip
_USUAL: Final = {
    **dict.fromkeys(("pending", "processing", "dead", "nudge"), "list"),
    **dict.fromkeys(("delayed", "priority", "leases", "cancelled"), "zset"),
    **dict.fromkeys(("limited", "claims", "stats", "meta"), "hash"),
}  # fmt: skip


class KeyRow(NamedTuple):
    """A key.

    Attributes:
        name: the key.
        type: of what stands there now, or would.
        length: how many elements it has; None if it is not there.
        says: what it is for.
        look: the command that shows it.
    """

    name: str
    type: str
    length: int | None
    says: str
    look: str


class UnderTheHood:
    """The page for learners.

    Args:
        shell: writes it.
    """

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    async def choose(self, request: Request) -> Response:
        """Lead to a queue's page."""
        return lead(request, f"under-the-hood/{self._shell.queue_of(request)}")

    async def under_the_hood(self, request: Request) -> Response:
        """Show the keys of a queue, and what each move of a job does with them."""
        k = keys_of(await known(request, self._shell.reader))
        return self._shell.page(
            request, "under-the-hood", queue=k.queue, k=k, rows=await self._rows(k),
            parts=self._shell.reader.parts(k.queue),
        )  # fmt: skip

    async def _rows(self, k: Keys) -> list[KeyRow]:
        names = [field.name for field in fields(k)[1:]]
        keys: list[str] = [getattr(k, name) for name in names]
        types = await self._shell.reader.ask(
            [op.command("TYPE", key, parse=op.text) for key in keys]
        )
        there = [(key, kind) for key, kind in zip(keys, types, strict=True) if kind in _LENGTHS]
        asked: list[op.Operation[Any]] = [
            op.command(_LENGTHS[kind], key, parse=int) for key, kind in there
        ]
        found = await self._shell.reader.ask(asked) if asked else []
        lengths = {key: length for (key, _), length in zip(there, found, strict=True)}
        rows = []
        for name, key, kind in zip(names, keys, types, strict=True):
            shown = kind if kind in _LENGTHS else _USUAL[name]
            look = _LOOKS.get(shown, "GET {key}").format(key=key)
            rows.append(KeyRow(key, shown, lengths.get(key), _SAYS[name], look))
        return rows
