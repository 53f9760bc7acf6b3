"""One dead letter whole: how it failed, its arguments; put back, edited if need be."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from headrace import redaction
from headrace.doctor.dead_letters import DeadLetter
from headrace.web.api.asked import UNREADABLE
from headrace.web.api.dead_letters import DeadLetters
from headrace.web.api.letter_shapes import Edited
from headrace.web.pages.job import MOST_SHOWN, Block, block, blocks_of
from headrace.web.pages.shell import Shell, form_of, lead
from headrace.web.problems import Refusal
from headrace.web.views import job_view

_SHOWN_ELSEWHERE: Final = frozenset(
    (
        "id",
        "task",
        "args",
        "kwargs",
        "headers",
        "error",
        "attempt",
        "delivery",
        "crashes",
        "priority",
    )
)
_EDITABLE: Final[dict[str, Any]] = {"args": list[Any], "kwargs": dict[str, Any]}


class LetterPage:
    """The page of one dead letter.

    Args:
        shell: writes it.
        letters: what the API does with letters.
    """

    def __init__(self, shell: Shell, letters: DeadLetters) -> None:
        self._shell = shell
        self._letters = letters

    async def letter(self, request: Request) -> Response:
        """Show a letter whole."""
        letter, _ = await self._letters.named(request)
        fields, cannot = self._editable(letter)
        rest = {name: one for name, one in letter.fields.items() if name not in _SHOWN_ELSEWHERE}
        return self._shell.page(
            request, "letter", here="dead-letters", letter=letter, job=job_view(letter.raw),
            error=letter.error, blocks=blocks_of(letter.raw), fields=fields, cannot=cannot,
            rest=block("other fields", msgspec.json.encode(rest)) if rest else None,
        )  # fmt: skip

    async def redrive(self, request: Request) -> Response:
        """Put a letter back, with the arguments that the form has, if it changed any."""
        form = await form_of(request)
        letter, _ = await self._letters.named(request)
        before = {one.title: one.text for one in self._editable(letter)[0]}
        changes = {
            name: _value(name, form[name][0])
            for name in _EDITABLE
            if name in form and form[name][0].replace("\r\n", "\n") != before.get(name)
        }
        if changes and not before:
            raise Refusal("invalid", f"it cannot be edited here: {self._editable(letter)[1]}")
        moved = await self._letters.put_back(request, Edited(**changes))
        return lead(
            request, f"jobs/{letter.id}", queue=moved["queue"], done="redriven", n=moved["count"]
        )

    def _editable(self, letter: DeadLetter) -> tuple[list[Block], str]:
        """Return the arguments as they can be edited, or why they cannot be."""
        if not letter.task:
            return [], "it is no job"
        shown = redaction.shown(letter.raw)
        if shown != letter.raw and redaction.MASK.encode() in shown:
            return [], "some of its arguments are hidden, and would be lost"
        if self._letters.lacks_keys(letter):
            return [], "its arguments are encrypted, and this server has no keys"
        blocks = [
            block(name, msgspec.json.encode(letter.fields.get(name, kind())))
            for name, kind in (("args", list), ("kwargs", dict))
        ]
        if any(one.note for one in blocks):
            return [], f"its arguments are over {MOST_SHOWN:,} bytes: use the API"
        return blocks, ""


def _value(name: str, text: str) -> Any:
    """Read an argument list that somebody has typed.

    Raises:
        Refusal: it is none.
    """
    try:
        return msgspec.json.decode(text, type=_EDITABLE[name])
    except UNREADABLE as error:
        kind = "a JSON array" if name == "args" else "a JSON object"
        raise Refusal("invalid", f"{name} must be {kind}: {error}. Nothing has changed") from None
