"""Dead letters as a workbench: look, group by what went wrong, put back (edited, if need be), delete."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, TypeAlias

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from headrace import operations as op
from headrace import redaction
from headrace.doctor import dead_letters
from headrace.doctor.dead_letters import DeadLetter, Group
from headrace.encryption import Encryption, edited_call, is_encrypted
from headrace.keys import Keys, keys_of
from headrace.settings import DEFAULT_QUEUE
from headrace.store import AsyncStore
from headrace.web.access import may_use, note_about
from headrace.web.answers import answer
from headrace.web.api.asked import UNREADABLE, Limit, limit_of, queue_of, read
from headrace.web.api.letter_shapes import (
    MOST_MOVED,
    SAYS_SOMETHING,
    Edited,
    Groups,
    GroupView,
    LetterList,
    LetterView,
    Moved,
    Selected,
    Text,
    WholeLetter,
)
from headrace.web.openapi import Endpoint
from headrace.web.problems import Refusal
from headrace.web.reader import Reader
from headrace.web.shapes import JobId, QueueName
from headrace.web.views import has_text, job_view
from headrace.wire import DEFAULT_MAX_BYTES

MOST_SEARCHED: Final = (
    5_000  # letters that one request reads: some tenths of a second of the server's
)

_IDS_SAID: Final = 5  # in a line of the log

_AFTER: Final = r"^[0-9]{1,4}\.[0-9]{1,12}$"
_After: TypeAlias = Annotated[
    str, Meta(description="`next` of the page before.", extra_json_schema={"pattern": _AFTER})
]


class _Wanted(msgspec.Struct):
    """Which letters are shown, behind the ?."""

    reason: Text | None = None
    task: Text | None = None
    kind: Text | None = None
    text: Text | None = None


_SELECTED: Final = msgspec.json.Decoder(Selected)
_EDITED: Final = msgspec.json.Decoder(Edited)


class DeadLetters:
    """The endpoints of dead letters.

    Args:
        store: the Redis.
        reader: knows how queues are divided.
        encryption: the keys of the application; what was encrypted is, when it was edited, too.
    """

    def __init__(self, store: AsyncStore, reader: Reader, encryption: Encryption | None) -> None:
        self._store = store
        self._encryption = encryption
        self._reader = reader

    def endpoints(self) -> list[Endpoint]:
        """Return what there is, in the order in which it is looked for."""
        queue = ("queue", QueueName, DEFAULT_QUEUE)
        fit = tuple((name, Text, None) for name in ("reason", "task", "kind", "text"))
        one = (("job_id", JobId, None), queue)
        posted = (400, 413, 415, 503)
        return [
            Endpoint(
                path="/dead-letters", handle=self.letters,
                parameters=(queue, *fit, ("after", _After, None), ("limit", Limit, 25)),
                says=f"Show letters that fit, newest first; {MOST_SEARCHED:,} are looked at.",
                answers=(LetterList,), errors=(400, 503),
            ),
            Endpoint(
                path="/dead-letters/groups", handle=self.groups, parameters=(queue,),
                says="Group a queue's letters by what they died of.", answers=(Groups,), errors=(400, 503),
            ),
            Endpoint(
                path="/dead-letters/redrive", handle=self.redrive, method="POST", rights=("operate",), body=Annotated[Selected, SAYS_SOMETHING],
                says=f"Put letters back, oldest first, up to {MOST_MOVED:,}; their attempts start anew.",
                answers=(Moved,), errors=posted,
            ),
            Endpoint(
                path="/dead-letters/purge", handle=self.purge, method="POST", rights=("administer",), body=Annotated[Selected, SAYS_SOMETHING],
                says=f"Delete letters for good, up to {MOST_MOVED:,}.", answers=(Moved,), errors=posted,
            ),
            Endpoint(
                path="/dead-letters/{job_id:rest}/redrive", handle=self.redrive_one, rights=("operate",), method="POST",
                parameters=one, body=Edited,
                says="Put one letter back, with other arguments if they are given.",
                answers=(Moved,), errors=(400, 404, 413, 415, 503),
            ),
            Endpoint(
                path="/dead-letters/{job_id:rest}", handle=self.letter, parameters=one,
                says="Show a letter whole.", answers=(WholeLetter,), errors=(400, 404, 503),
            ),
        ]  # fmt: skip

    async def letters(self, request: Request) -> Response:
        """Show letters that fit."""
        return answer(await self.search(request))

    async def search(self, request: Request) -> LetterList:
        """Read the letters that fit what stands behind the ?."""
        parts, asked = await self._parts(request), request.query_params
        part, offset = _place(asked.get("after", "0.0"))
        try:
            # A form sends its empty fields, too.
            given = {name: value for name, value in asked.items() if value}
            wanted = msgspec.convert(given, _Wanted)
        except UNREADABLE as error:
            raise Refusal("invalid", f"what is searched for is too long: {error}") from None
        fits = _fitting(msgspec.structs.asdict(wanted))
        limit, found, searched = limit_of(request), list[DeadLetter](), 0
        while part < len(parts) and len(found) < limit and searched < MOST_SEARCHED:
            flow = dead_letters.page(
                parts[part], fits, offset, limit - len(found), MOST_SEARCHED - searched
            )
            page = await self._store.follow(flow)
            found += page.letters
            searched += page.searched
            part, offset = (part + 1, 0) if page.offset is None else (part, page.offset)
        following = f"{part}.{offset}" if part < len(parts) else None
        shown = [_view(letter) for letter in found]
        return LetterList(letters=shown, searched=searched, next=following)

    async def groups(self, request: Request) -> Response:
        """Group a queue's letters."""
        return answer(await self.group(request))

    async def group(self, request: Request) -> Groups:
        """Read the groups of a queue's letters."""
        parts = await self._parts(request)
        found: dict[str, Group] = {}
        searched, complete = 0, True
        for k in parts:
            most = MOST_SEARCHED // len(parts)
            page = await self._store.follow(dead_letters.group(k, found, most))
            searched, complete = searched + page.searched, complete and page.offset is None
        ordered = sorted(found.values(), key=lambda one: -one.count)
        shown = [_group_view(one) for one in ordered]
        queue = queue_of(request, DEFAULT_QUEUE)
        return Groups(queue=queue, groups=shown, searched=searched, complete=complete)

    async def letter(self, request: Request) -> Response:
        """Show a letter whole."""
        letter, _ = await self.named(request)
        raw = redaction.shown(letter.raw)
        whole: WholeLetter = {
            **_view(letter),
            "traceback": letter.error.traceback,
            "job": msgspec.Raw(raw) if letter.fields else None,  # type: ignore[typeddict-item]
            "payload_base64": None if letter.fields else b64encode(raw).decode(),
        }
        return answer(whole)

    async def redrive(self, request: Request) -> Response:
        """Put letters back."""
        return answer(await self.move(request, await _selected(request), dead_letters.redrive))

    async def purge(self, request: Request) -> Response:
        """Delete letters for good."""
        return answer(await self.move(request, await _selected(request), dead_letters.purge))

    async def redrive_one(self, request: Request) -> Response:
        """Put one letter back, edited."""
        edited = await read(request, _EDITED, 'edit. Send {}, or {"args": [...]}')
        return answer(await self.put_back(request, edited))

    async def put_back(self, request: Request, edited: Edited) -> Moved:
        """Put the letter in the path back, with other arguments if there are some.

        Raises:
            Refusal: there is none, or it cannot be edited so.
            StoreError: Redis did not do it.
        """
        letter, k = await self.named(request)
        note_about(request, f"queue {k.queue}")
        changes: Mapping[str, Any] = {
            name: value
            for name in ("args", "kwargs")
            if (value := getattr(edited, name)) is not None
        }
        try:
            changes = edited_call(self._encryption, letter.task, letter.fields, changes)
            job = dead_letters.edited(letter.raw, **changes)
        except ValueError as error:
            raise Refusal("invalid", f"it cannot be edited: {error}") from None
        if len(job) > DEFAULT_MAX_BYTES:
            raise Refusal("too-large", f"it would be over the limit of {DEFAULT_MAX_BYTES:,} bytes")
        count = await self._store.run(op.redrive(k, [(letter.raw, job)]))
        return Moved(queue=queue_of(request, DEFAULT_QUEUE), count=count, more=False)

    def lacks_keys(self, letter: DeadLetter) -> bool:
        """Whether a letter's arguments are encrypted, and others could not be."""
        return self._encryption is None and is_encrypted(letter.fields)

    async def move(self, request: Request, selected: Selected, action: Callable[..., Any]) -> Moved:
        """Redrive or purge the letters that are selected, up to ``MOST_MOVED``.

        Raises:
            Refusal: nothing is said of which are meant, or whoever asks may not use the queue.
            StoreError: Redis did not do it.
        """
        if not selected.says_something:
            say = 'say which letters: "ids", "reason", "task", "kind" or "text"; or "all": true'
            raise Refusal("invalid", say)
        may_use(request, selected.queue)
        note_about(request, f"queue {selected.queue}, {_said(selected)}")
        wanted = {
            name: value
            for name in ("reason", "task", "kind", "text")
            if (value := getattr(selected, name)) is not None
        }
        fits, ids, until_ms = _fitting(wanted), selected.ids, selected.died_until_ms

        def chosen(raw: bytes) -> bool:
            letter = dead_letters.read("", raw)
            known = (ids is None or letter.id in ids) and fits(letter)
            return known and (until_ms is None or letter.error.failed_at <= until_ms)

        await self._reader.names()
        count = 0
        for name in self._reader.parts(keys_of(selected.queue).queue):
            if count < MOST_MOVED:
                flow = action(keys_of(name), chosen, lambda _: None, MOST_MOVED - count)
                count += await self._store.follow(flow)
        return Moved(queue=selected.queue, count=count, more=count >= MOST_MOVED)

    async def _parts(self, request: Request) -> list[Keys]:
        await self._reader.names()
        return [keys_of(name) for name in self._reader.parts(queue_of(request, DEFAULT_QUEUE))]

    async def named(self, request: Request) -> tuple[DeadLetter, Keys]:
        """Return the letter in the path, and the keys of its queue; all letters are looked at."""
        job_id = request.path_params["job_id"]
        for k in await self._parts(request):
            flow = dead_letters.page(k, lambda letter: letter.id == job_id, 0, 1, 1 << 40)
            page = await self._store.follow(flow)
            if page.letters:
                return page.letters[0], k
        says = f"no dead letter of queue {queue_of(request, DEFAULT_QUEUE)!r} has the id {job_id!r}"
        raise Refusal("unknown", says)


def _said(selected: Selected) -> str:
    """Say which letters are meant, for the log; what they are searched for may be a secret."""
    said = [
        f"{name} {value or 'none'}"
        for name in ("reason", "task", "kind")
        if (value := getattr(selected, name)) is not None
    ]
    if selected.text is not None:
        said.append("with a text")
    if (ids := selected.ids) is not None:
        more = f" and {len(ids) - _IDS_SAID:,} more" if len(ids) > _IDS_SAID else ""
        said.append(f"{' '.join(ids[:_IDS_SAID])}{more}" if ids else "no letter")
    until_ms = selected.died_until_ms
    every = "all letters" if until_ms is None else f"all that died until {until_ms:.0f}"
    return ", ".join(said) or every


async def _selected(request: Request) -> Selected:
    return await read(request, _SELECTED, 'selection. Send {"queue": "…", "ids": ["…"]}')


def _place(after: str) -> tuple[int, int]:
    if not re.fullmatch(_AFTER, after):
        raise Refusal("invalid", f"after={after} is no `next` that was answered")
    part, _, offset = after.partition(".")
    return int(part), int(offset)


def _fitting(wanted: dict[str, str | None]) -> Callable[[DeadLetter], bool]:
    """Return whether a letter is as it is wanted: its reason, its task, its kind, and a text in it."""
    reason, task, kind, text = (wanted.get(name) for name in ("reason", "task", "kind", "text"))

    def fits(letter: DeadLetter) -> bool:
        return (
            (text is None or has_text(letter.raw, text))
            and reason in {None, letter.error.reason}
            and task in {None, letter.task}
            and (kind is None or kind == letter.kind)
        )

    return fits


def _view(letter: DeadLetter) -> LetterView:
    return {**job_view(letter.raw), "queue": letter.queue, "kind": letter.kind}


def _group_view(group: Group) -> GroupView:
    sample = group.sample
    error = job_view(sample.raw)["error"]
    return {
        "kind": sample.kind,
        "count": group.count,
        "reason": sample.error.reason[:200],
        "task": sample.task[:200],
        "error": error or {"reason": "", "type": "", "message": "", "failed_at_ms": None},
        "first_failed_at_ms": group.first_ms or None,
        "last_failed_at_ms": group.last_ms or None,
        "newest": sample.id,
    }
