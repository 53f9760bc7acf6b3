"""Dead letters as a workbench: groups, filters, and what is done with all that fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from headrace import operations as op
from headrace.doctor import dead_letters
from headrace.doctor.humanize import counted
from headrace.web.access import who_asks
from headrace.web.api.dead_letters import DeadLetters
from headrace.web.api.letter_shapes import Selected
from headrace.web.pages.shell import Shell, form_of, lead
from headrace.web.problems import Refusal

FILTERS: Final = ("reason", "task", "kind", "text")
ROUNDS: Final = 20  # of ``MOST_MOVED`` letters that one action moves

_MOST_QUEUES: Final = 30  # with letters, that are offered


class Workbench:
    """The page of a queue's dead letters.

    Args:
        shell: writes it.
        letters: what the API does with letters.
    """

    def __init__(self, shell: Shell, letters: DeadLetters) -> None:
        self._shell = shell
        self._letters = letters

    async def letters(self, request: Request) -> Response:
        """Show the groups of a queue's letters, and those that fit; without a queue, of one that has some."""
        queues = await self._queues(request)
        if "queue" not in request.query_params and queues:
            return lead(request, "dead-letters", queue=max(queues, key=lambda one: queues[one]))
        queue = self._shell.queue_of(request)
        groups = await self._letters.group(request)
        found = await self._letters.search(request)
        filters = _filters(request.query_params)
        total = queues.get(queue, 0)
        return self._shell.page(
            request, "dead-letters", queue=queue, queues=queues, total=total,
            groups=groups, letters=found["letters"], searched=found["searched"],
            following=found["next"] if found["searched"] < total else None,
            filters=filters, now_ms=int((await self._shell.reader.ask([op.time_ms()]))[0]),
        )  # fmt: skip

    async def redrive(self, request: Request) -> Response:
        """Put letters back."""
        return await self._move(request, dead_letters.redrive, "redriven")

    async def ask_purge(self, request: Request) -> Response:
        """Ask whether letters are to be deleted, and say how many that are."""
        asked = request.query_params
        queue, ids = self._shell.queue_of(request), asked.getlist("id")
        filters = _filters(asked)
        queues = await self._queues(request)
        (now_ms,) = await self._shell.reader.ask([op.time_ms()])
        if ids:
            which = counted(len(ids), "dead letter")
        elif filters:
            said = ", ".join(f"{name} {value}" for name, value in filters.items())
            which = f"all dead letters with {said}"
        else:
            which = f"all {counted(queues.get(queue, 0), 'dead letter')}"
        hidden = [("id", one) for one in ids] + [*filters.items()]
        hidden += [("queue", queue), ("until", str(int(now_ms)))]
        return self._shell.ask(
            request, here="dead-letters", queue=queue, title="Delete dead letters", hidden=hidden,
            question=f"Delete {which} of queue {queue} for good?", what="", verb="Delete for good",
            why="They cannot be put back then. Those that die from now on stay.", back="dead-letters",
        )  # fmt: skip

    async def purge(self, request: Request) -> Response:
        """Delete letters for good."""
        return await self._move(request, dead_letters.purge, "purged")

    async def _move(self, request: Request, action: Callable[..., Any], word: str) -> Response:
        form = await form_of(request)
        (now_ms,) = await self._shell.reader.ask([op.time_ms()])
        selected = _selected(form, self._shell.queue_of(request), int(now_ms))
        count, more = 0, True
        for _ in range(ROUNDS):
            moved = await self._letters.move(request, selected, action)
            count, more = count + moved["count"], moved["more"]
            if not more:
                break
        done = f"{word}-some" if more else word
        kept = {name: getattr(selected, name) for name in FILTERS} if more else {}
        return lead(request, "dead-letters", queue=selected.queue, done=done, n=count, **kept)

    async def _queues(self, request: Request) -> dict[str, int]:
        """Count the letters of the queues that have some; the largest, by name."""
        own = who_asks(request).queues
        names = [one for one in await self._shell.reader.names() if own is None or one in own]
        found = {one.queue: one.dead for one in await self._shell.reader.read(names) if one.dead}
        largest = sorted(found, key=lambda name: -found[name])[:_MOST_QUEUES]
        return {name: found[name] for name in sorted(largest)}


def _filters(asked: Mapping[str, str]) -> dict[str, str]:
    """Return the filters that are set."""
    return {name: asked[name] for name in FILTERS if asked.get(name)}


def _selected(form: dict[str, list[str]], usual: str, now_ms: int) -> Selected:
    """Read which letters a form means: those that are ticked, or all that fit and are dead by now."""
    first = {name: values[0] for name, values in form.items()}
    until = first.get("until", "")
    if not (until.isascii() and until.isdigit() and len(until) < 16):
        until = str(now_ms)
    filters, ids = _filters(first), form.get("id")
    if "ticked" in form and ids is None:
        raise Refusal("invalid", "no letter is ticked: tick some, or take all that fit")
    return Selected(
        queue=first.get("queue") or usual, ids=ids, died_until_ms=int(until),
        all=not ids and not filters, **filters,
    )  # fmt: skip
