"""One examination: the server, then each queue. Nothing is changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from headrace import keys
from headrace import operations as op
from headrace.doctor import keyspace, queue_checks, server, server_checks
from headrace.doctor import queue as queue_module
from headrace.doctor.finding import Finding
from headrace.doctor.keyspace import Keyspace
from headrace.doctor.queue import QueueFacts
from headrace.doctor.server import ServerFacts
from headrace.doctor.words import be, command, counted
from headrace.errors import StoreError, StoreRefused
from headrace.flows import Flow
from headrace.keys import is_name, keys_of
from headrace.operations import Snapshot
from headrace.operations.request import text
from headrace.policy import LeasePolicy
from headrace.settings import DEFAULT_QUEUE

_OWN_TYPES: Final = {
    keys.QUEUES: "set", keys.CONSUMERS: "hash", keys.FORGOTTEN: "hash", keys.LEADER: "string",
}  # fmt: skip


@dataclass(slots=True)
class Examination:
    """What was found.

    Attributes:
        server: the server.
        findings: about the server and about all queues, in the order in which they were looked at.
        snapshots: the counts of each queue that could be read, by name.
        endless: keys without an expiry, by queue.
    """

    server: ServerFacts
    findings: list[Finding] = field(default_factory=list)
    snapshots: dict[str, Snapshot] = field(default_factory=dict)
    endless: dict[str, tuple[str, ...]] = field(default_factory=dict)


def examine(named: Sequence[str], policy: LeasePolicy, *, sample: int) -> Flow[Examination]:
    """Examine a server and its queues.

    Args:
        named: the queues; none: all that there are.
        policy: how long claims last.
        sample: how many jobs of each place of a queue are read.

    Raises:
        StoreError: the server does not answer.
    """
    facts: ServerFacts = yield from server.look(*named[:1])
    found = Examination(facts, server_checks.judge(facts))
    if facts.info.get("loading") == "1":
        return found
    wrong = yield from _wrong_own_types()
    found.findings += wrong
    registered: list[str] = []
    space = Keyspace(0, 0, (), (), {})
    try:
        if not wrong:
            registered = yield op.registered()
        space = yield from keyspace.look(frozenset(registered))
    except StoreRefused as error:
        text = f"which queues and keys there are is not known: {error}"
        found.findings.append(Finding("note", "keys_unknown", text))
    found.findings += _of_keyspace(space, registered)
    strays = [name for name in space.strays if name not in registered]
    everything = sorted({DEFAULT_QUEUE, *filter(is_name, registered), *strays})
    for name in dict.fromkeys(named) or everything:
        if name in strays:
            found.findings.append(_stray(name))
        try:
            yield from _examine_queue(name, found, policy, sample=sample, space=space)
        except StoreRefused as error:
            found.findings.append(_refused(name, error))
    found.findings[:0] = _maintenance(found)
    return found


def _examine_queue(
    name: str, found: Examination, policy: LeasePolicy, *, sample: int, space: Keyspace
) -> Flow[None]:
    k = keys_of(name)
    wrong: dict[str, str] = yield from keyspace.wrong_types(k)
    if wrong:
        found.findings += [
            _wrong_type(key, type_, keyspace.expected(k, key), name) for key, type_ in wrong.items()
        ]
        return
    endless = space.endless.get(name, ())
    facts: QueueFacts = yield from queue_module.look(name, policy, sample=sample, endless=endless)
    found.snapshots[name], found.endless[name] = facts.snapshot, facts.endless
    server_ = found.server
    found.findings += queue_checks.judge(
        facts, leader=server_.leader, connections=server_.connections
    )


def _wrong_own_types() -> Flow[list[Finding]]:
    types = yield [op.command("TYPE", key, parse=text) for key in _OWN_TYPES]
    pairs = zip(_OWN_TYPES.items(), types, strict=True)
    return [
        _wrong_type(key, type_, should, "")
        for (key, should), type_ in pairs
        if not isinstance(type_, StoreError) and type_ not in ("none", should)
    ]


def _wrong_type(key: str, type_: str, should: str, queue: str) -> Finding:
    return Finding(
        "problem",
        "wrong_type",
        f"the key {key} is a {type_}, and should be a {should}",
        "Another program uses that name; Headrace's scripts refuse to touch it.",
        f"redis-cli RENAME {key} {key}.old, if nobody needs it; or use another database",
        queue,
    )


def _of_keyspace(space: Keyspace, registered: Sequence[str]) -> Iterator[Finding]:
    if bad := [name for name in registered if not is_name(name)]:
        yield Finding(
            "warning",
            "registry",
            f"{counted(len(bad), 'name')} in the registry cannot be a queue's: {', '.join(map(repr, bad[:3]))}",
            "It is passed over.",
            f"redis-cli SREM {keys.QUEUES} NAME",
        )
    if space.strangers:
        yield Finding(
            "note",
            "strangers",
            f"{counted(len(space.strangers), 'key')} called as if a queue's, with no jobs in: "
            f"{', '.join(space.strangers[:3])}",
            "It is another program's, and is left alone.",
        )
    if space.looked_at < space.total:
        yield Finding(
            "note",
            "keys_sample",
            f"of {space.total:,} keys, {space.looked_at:,} were looked at",
            "Queues that nobody registered may be among the others.",
        )


def _stray(name: str) -> Finding:
    return Finding(
        "problem",
        "unregistered",
        "it holds jobs, and is not in the registry",
        "Only plain clients have used it, so nobody sweeps it, and headrace info does not show it.",
        f"{command('consume', f'--queues={name}')}, if its name is no mistake",
        name,
        mends=True,
    )


def _refused(name: str, error: StoreRefused) -> Finding:
    return Finding("problem", "unreadable", f"it cannot be looked at: {error}", queue=name)


def _maintenance(found: Examination) -> Iterator[Finding]:
    """Judge who is there, and whether somebody leads, by what there is to do."""
    server_ = found.server
    if server_.connections is not None and server_.connections.consumers:
        count, idle = len(server_.connections.consumers), len(server_.connections.idle)
        waits = f", {idle:,} of them idle" if idle else ", all of them busy"
        yield Finding(
            "ok", "consumers", f"{counted(count, 'consumer')} {be(count)} connected{waits}"
        )
    if server_.leader:
        yield Finding("ok", "leader", f"{server_.leader} leads: it sweeps and promotes")
        return
    if server_.refused and "GET" in server_.refused:
        return
    busy = any(s.processing or s.delayed for s in found.snapshots.values())
    yield Finding(
        "problem" if busy else "note",
        "no_leader",
        "nobody leads: no consumer and no server is running",
        "Delayed jobs do not fall due, and jobs of lost consumers do not run again.",
        "headrace consume, with your application; or headrace serve",
    )
