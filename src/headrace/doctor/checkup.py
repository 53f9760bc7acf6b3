"""One checkup: the server, its keys and each queue are looked at, and judged. Nothing is changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from headrace import keys
from headrace.doctor import keyspace, queue, schedule_checks, server
from headrace.doctor.finding import Check, Finding, judge
from headrace.doctor.humanize import counted, subject
from headrace.doctor.keyspace import Keyspace
from headrace.doctor.queue import CheckedQueue
from headrace.doctor.queue_checks import judge_queue, judge_types
from headrace.doctor.schedule_checks import CheckedSchedule, judge_schedules
from headrace.doctor.server import ServerFacts
from headrace.doctor.server_checks import judge_server
from headrace.flows import Flow
from headrace.keys import is_name
from headrace.operations import Snapshot
from headrace.policy import LeasePolicy
from headrace.settings import DEFAULT_QUEUE


@dataclass(frozen=True)
class Checkup:
    """All that was read.

    Attributes:
        server: the server.
        space: its keys.
        queues: what was seen of each queue, in the order in which they were looked at.
        schedules: all of them.
    """

    server: ServerFacts
    space: Keyspace
    queues: Sequence[CheckedQueue]
    schedules: tuple[CheckedSchedule, ...] = ()

    @property
    def snapshots(self) -> dict[str, Snapshot]:
        """The counts of each queue that could be read, by name."""
        return {one.name: one.facts.snapshot for one in self.queues if one.facts is not None}

    @cached_property
    def findings(self) -> list[Finding]:
        """What was found: about all queues, the server, the keys, then each queue."""
        found = [*judge_server(self.server)]
        if self.server.is_loading:
            return found
        found = [*judge(_PROGRAMS, self), *found, *judge_types(self.space.wrong)]
        found += [*judge(_KEYSPACE, self.space), *judge_schedules(self.schedules)]
        return found + [finding for one in self.queues for finding in judge_queue(one)]


def check_up(named: Sequence[str], policy: LeasePolicy, *, sample: int) -> Flow[Checkup]:
    """Look at a server and its queues.

    Args:
        named: the queues; if none, all that there are.
        policy: how long claims last.
        sample: how many jobs of each place of a queue are read.

    Raises:
        StoreError: the server does not answer.
    """
    seen: ServerFacts = yield from server.look(*named[:1])
    if seen.is_loading:
        return Checkup(seen, Keyspace(), ())
    space = yield from keyspace.look()
    everything = {DEFAULT_QUEUE, *filter(is_name, space.registered), *space.strays}
    queues: list[CheckedQueue] = []
    for name in dict.fromkeys(named or sorted(everything)):
        one = yield from queue.look(name, policy, sample=sample, server=seen, space=space)
        queues.append(one)
    return Checkup(seen, space, queues, (yield from schedule_checks.look(space)))


def _consumers(c: Checkup) -> str:
    count, idle = len(c.server.connections.consumers), len(c.server.connections.idle)
    waits = f"{idle:,} of them idle" if idle else "all of them busy"
    return f"{subject(count, 'consumer')} connected, {waits}"


_PROGRAMS: Final[tuple[Check[Checkup], ...]] = (
    Check("consumers", "ok", lambda c: c.server.connections.consumers, _consumers),
    Check("leader", "ok", lambda c: c.server.leader,
          lambda c: f"{c.server.leader} leads: it sweeps and promotes"),
    Check("no_leader",
          lambda c: "problem" if any(s.processing or s.delayed for s in c.snapshots.values()) else "note",
          lambda c: not c.server.leader and "GET" not in (c.server.refused or ()),
          "nobody leads: no consumer and no server is running",
          "Delayed jobs do not fall due, and jobs of lost consumers do not run again.",
          "headrace consume, with your application; or headrace serve"),
)  # fmt: skip

_KEYSPACE: Final[tuple[Check[Keyspace], ...]] = (
    Check("keys_unknown", "note", lambda s: s.refused,
          lambda s: f"which queues and keys there are is not known: {s.refused}"),
    Check("registry", "warning", lambda s: s.nameless,
          lambda s: f"{counted(len(s.nameless), 'name')} in the registry cannot be a queue's: "
          f"{', '.join(map(repr, s.nameless[:3]))}",
          "It is passed over.", f"redis-cli SREM {keys.QUEUES} NAME"),
    Check("strangers", "note", lambda s: s.strangers,
          lambda s: f"{counted(len(s.strangers), 'key')} called as if a queue's, with no jobs in: "
          f"{', '.join(s.strangers[:3])}",
          "It is another program's, and is left alone."),
    Check("keys_sample", "note", lambda s: s.looked_at < s.total,
          lambda s: f"of {s.total:,} keys, {s.looked_at:,} were looked at",
          "Queues that nobody registered may be among the others."),
)  # fmt: skip
