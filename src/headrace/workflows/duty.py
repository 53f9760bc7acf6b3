"""The duty: finds members of workflows that ended without a consumer, and lets their workflows know.

A member whose consumers were lost too often is made a dead letter by ``reclaim``, one that is cancelled
while it waits is taken out; neither knows of workflows. Both are counted by its queue, so that a look at
two counters tells whether there is anything to find. What is found is noted by a script that looks again,
and notes each member once: to find something twice, as a new leader does, changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec

from headrace import keys, wire
from headrace.keys import Keys, keys_of
from headrace.operations import Operation, command, nothing, run, texts
from headrace.store import AsyncStore
from headrace.wire import Error
from headrace.workflows.keys import unfinished_of, workflow_keys
from headrace.workflows.member import Member, failure_of, of_job_id, read_member
from headrace.workflows.telling import hear

PAGE: Final = 100  # of letters: at most 100 MiB, and usually 200 kB
_MOST: Final = 10_000
"""Letters, and cancelled jobs, that are looked at when nothing is known of before: the newest."""


class _Letter(msgspec.Struct, frozen=True):
    workflow: msgspec.Raw = msgspec.Raw()
    error: Error | None = None


_decode = msgspec.json.Decoder(_Letter).decode


class _Counts(NamedTuple):
    """Counters of a queue: of its dead letters, of jobs cancelled, of letters that went again."""

    dead: int
    cancelled: int
    redriven: int = 0
    purged: int = 0


_NEVER: Final = _Counts(-_MOST, -1)


class Workflows:
    """Looks after the workflows of one Redis, while its process leads.

    Args:
        store: the Redis.

    Attributes:
        due_at: see ``Duty``: a look each turn is enough.
    """

    def __init__(self, store: AsyncStore) -> None:
        self._store = store
        self._seen: dict[str, _Counts] = {}  # queue -> its counters at the last look
        self.due_at: float = math.inf

    def begin(self) -> None:
        """Note that this one leads from now on: all has to be looked at once."""
        self._seen.clear()

    def look(self) -> Operation[list[str]]:
        """Ask for the queues that members of workflows have gone to."""
        return command("SMEMBERS", keys.WORKFLOWS, parse=texts)

    async def turn(self, seen: Any) -> bool:
        """Look for members that ended without a consumer; nothing is left to do at once."""
        queues = [keys_of(queue) for queue in seen if keys.is_name(queue)]
        if not queues:
            return False
        counts: list[_Counts] = await self._ask([_counts(k) for k in queues])
        if not any(await self._ask([_unfinished(k) for k in queues])):
            await self._forget(queues)
            changed = [*zip(queues, counts, strict=True)]
        else:
            pairs = zip(queues, counts, strict=True)
            changed = [
                (k, now) for k, now in pairs if self._seen.get(k.queue, _NEVER)[:2] != now[:2]
            ]
            changed = [(k, now) for k, now in changed if await self._find(k, now, queues)]
        self._seen.update((k.queue, now) for k, now in changed)
        return False

    async def _forget(self, queues: Sequence[Keys]) -> None:
        """Forget which queues workflows use: all of them are over, and nobody has to look."""
        names = [k.queue for k in queues]
        await self._ask([command("SREM", keys.WORKFLOWS, *names, parse=nothing)])
        # One that has started meanwhile has made them known, too, perhaps before that.
        if any(await self._ask([_unfinished(k) for k in queues])):
            await self._ask([run("register", (keys.WORKFLOWS,), names, int)])

    async def _find(self, k: Keys, now: _Counts, homes: Sequence[Keys]) -> bool:
        """Find who ended in a queue since the last look; False if it has to be looked at again."""
        before = self._seen.get(k.queue, _NEVER)
        if now.cancelled != before.cancelled:
            await self._find_cancelled(k, homes)
        at, counts = 0, now
        # Newest first. More may come meanwhile, by so much the others are further back then.
        while at < min(_MOST, counts.dead - before.dead):
            page, counts = await self._ask([_letters(k, at), _counts(k)])
            notes = [one for letter in page if (one := _of_letter(k, letter)) is not None]
            if notes:
                await self._ask(notes)
            at += PAGE
            if len(page) < PAGE:
                break
        # What is taken out brings others forward, perhaps to where was looked already.
        return counts[2:] == now[2:]

    async def _find_cancelled(self, k: Keys, homes: Sequence[Keys]) -> None:
        ids: list[str] = (await self._ask([_cancelled(k)]))[0]
        members = {job_id: found for job_id in ids if (found := of_job_id(job_id))}
        for job_id, (workflow_id, n) in members.items():
            asked = [_queues_of(home, workflow_id) for home in homes]
            for queues in filter(None, await self._ask(asked)):
                places = queues if self._store.server.joins_queues else queues[:1]
                member = Member(workflow_id, n, tuple(places))
                if member.is_apart(k.queue) and any(await self._ask([_is_claimed(k, job_id)])):
                    continue  # its consumer tells of it
                why = failure_of("cancelled", "", "it was cancelled", job_id, "")
                await self._ask([note(k, member, why, job_id)])

    async def _ask(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        """Return the answers of one round trip.

        Raises:
            StoreError: one of them is an error.
        """
        answers = await self._store.run_all(operations)
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers


def note(k: Keys, member: Member, why: bytes, job_id: str, letter: bytes = b"") -> Operation[int]:
    """Note that a member ended without a consumer; return 0 if it did not. Repeated, it changes nothing.

    Of one on another node than its workflow it is not asked again whether it has: should it have been
    redriven a moment ago, its next end corrects what is noted here.

    Args:
        k: the keys of its queue.
        member: what it knows of its workflow.
        why: how it failed, as JSON.
        job_id: its id.
        letter: its dead letter; b"" if it was cancelled.
    """
    if member.is_apart(k.queue):
        return hear(member, b"", why)
    used = (k.dead, k.claims, k.cancelled, *member.keys(), *member.places())
    args = (letter, job_id, member.n, why, len(member.queues))
    return run("workflows/note", used, args, int)


def _of_letter(k: Keys, letter: bytes) -> Operation[int] | None:
    """Describe what to note of a dead letter; None if it is no member's."""
    if b'"workflow"' not in letter or (parts := wire.split(letter)) is None:
        return None
    try:
        read = _decode(letter)
    except Exception:  # whatever decoding raises: it is no letter of ours
        return None
    member = read_member(read.workflow) if read.workflow else None
    if member is None:
        return None
    error = read.error or Error("unknown")
    job_id = parts[0].id
    why = failure_of(error.reason, error.type, error.message, job_id, k.queue)
    return note(k, member, why, job_id, letter)


def _counts(k: Keys) -> Operation[_Counts]:
    names = ("dead", "cancel", "redriven", "purged")
    return command("HMGET", k.stats, *names, parse=lambda raw: _Counts(*(int(n or 0) for n in raw)))


def _unfinished(k: Keys) -> Operation[int]:
    return command("ZCARD", unfinished_of(k), parse=int)


def _letters(k: Keys, at: int) -> Operation[list[bytes]]:
    return command("LRANGE", k.dead, at, at + PAGE - 1, parse=list)


def _cancelled(k: Keys) -> Operation[list[str]]:
    return command("ZREVRANGE", k.cancelled, 0, _MOST - 1, parse=texts)


def _is_claimed(k: Keys, job_id: str) -> Operation[bool]:
    return command("HEXISTS", k.claims, job_id, parse=bool)


def _queues_of(home: Keys, workflow_id: str) -> Operation[list[str]]:
    def parse(raw: bytes | None) -> list[str]:
        return raw.decode().split() if raw is not None else []

    return command("HGET", workflow_keys(home, workflow_id).hash, "queues", parse=parse)
