"""Starting: from steps to what Redis is handed, and the requests that do so."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import msgspec

from headrace import keys, wire
from headrace.errors import InvalidJob, InvalidSetting, PayloadTooLarge, QueueFull, StoreUnavailable
from headrace.expiry import check_instant
from headrace.flows import Flow, chunks
from headrace.handoff import envelope_around
from headrace.ids import new_id
from headrace.keys import keys_of
from headrace.operations import Argument, Operation, register, run, unfailed
from headrace.options import Seconds, seconds
from headrace.producer import Producer
from headrace.scripts import MAX_BYTES, MAX_ITEMS
from headrace.workflows.keys import begun_of, places_of, workflow_keys
from headrace.workflows.member import MAX_MEMBERS, Member
from headrace.workflows.node import Node

MAX_RESULTS: Final = 10_000
"""Results in one list: Redis puts it together in one step."""

_MAX_EDGES: Final = 10_000  # they are read with each member's end

_FILLED_FOR_MS: Final = 3_600_000  # what a start that never came leaves behind goes after an hour

_pack = msgspec.msgpack.Encoder().encode
_json = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Plan:
    """A workflow as Redis is handed it.

    Attributes:
        id: its id.
        queues: the queues that it uses; the first is its home.
        places: those of them whose keys its scripts need: on a cluster the home alone.
        rest: the records of members that wait for nobody.
        waiting: for each other one: its number, for how many it waits, its record.
        edges: who waits for whom: first and last of a range of numbers, and who waits for all of these.
        last: whose results are its own: as a part of a record.
        decode: makes what it returns of plain JSON.
    """

    id: str
    queues: tuple[str, ...]
    places: tuple[str, ...]
    rest: list[bytes]
    waiting: list[tuple[int, int, bytes]]
    edges: list[tuple[int, int, list[int]]]
    last: Any
    decode: Callable[[Any], Any] | None

    @property
    def home(self) -> str:
        """The queue in whose slot its keys are."""
        return self.queues[0]


class StartOptions(NamedTuple):
    """How it is run; see ``Steps.enqueue``."""

    on_failure: str
    ttl_ms: int
    window: int


def options(on_failure: str, ttl: Seconds, window: int) -> StartOptions:
    """Check and translate the options of a start.

    Raises:
        InvalidSetting: one has no meaning.
    """
    if on_failure not in ("stop", "continue"):
        raise InvalidSetting(f"on_failure={on_failure!r} must be 'stop' or 'continue'")
    if isinstance(window, bool) or not isinstance(window, int) or window < 1:
        raise InvalidSetting(f"window={window!r} must be 1 or more")
    ttl_ms = max(1, round(seconds("ttl", ttl, zero=False) * 1000))
    return StartOptions(on_failure, ttl_ms, window)


@dataclass(slots=True)
class _Graph:
    """What is read of nodes on the way to a plan."""

    parts: dict[int, list[Any]] = field(default_factory=dict)  # of those that wait
    keep: dict[int, int] = field(default_factory=dict)
    edges: dict[tuple[tuple[int, int], ...], list[int]] = field(default_factory=dict)


def planned(nodes: Sequence[Node], exits: Sequence[int], *, many: bool) -> tuple[Producer, Plan]:
    """Return what sends a workflow, and what it sends.

    Raises:
        InvalidJob: its members cannot be jobs, or are too many, or ask for the result of nobody.
    """
    producer = _producer(nodes)
    graph = _read(nodes)
    last: Any = _ranges(exits) if many else exits[0]
    if not many or len(exits) <= MAX_RESULTS:
        for n in exits:
            graph.keep.setdefault(n, 1)
    else:
        last = "null"
    workflow_id = new_id()
    queues = tuple(dict.fromkeys(node.call.queue for node in nodes))
    places = queues if producer.joins_queues else queues[:1]
    numbers = {queue: number for number, queue in enumerate(places)}
    rest: list[bytes] = []
    waiting: list[tuple[int, int, bytes]] = []
    for n, node in enumerate(nodes):
        queue, due = node.call.queue, node.call.due
        member = Member(workflow_id, n, places, graph.keep.get(n, 0))
        parts = _renamed(graph.parts.get(n) or [node.call.job], member)
        if member.is_apart(queue):  # from the home it is forwarded
            before, after = envelope_around(queue, due, "", 0, member.job_id)
            parts, due = [before.decode(), *parts, after.decode()], ""
        record = _pack([numbers.get(queue, 0), due, parts])
        if n in graph.parts:
            waiting.append((n, len(node.after), record))
        else:
            rest.append(record)
    edges = [(*range_, ns) for ranges, ns in graph.edges.items() for range_ in ranges]
    _check_sizes(waiting, sum(1 + len(ns) for _, _, ns in edges))
    decode = _decoder([nodes[n].call.decode for n in exits], many=many)
    return producer, Plan(workflow_id, queues, places, rest, waiting, edges, last, decode)


def _producer(nodes: Sequence[Node]) -> Producer:
    if len(nodes) >= MAX_MEMBERS:
        raise InvalidJob(f"a workflow has fewer than {MAX_MEMBERS:,} members: make several of it")
    for node in nodes:
        if node.call.key is not None:
            raise InvalidJob("a member of a workflow has no key=: it is enqueued once anyway")
        check_instant(node.call.expires_ms, "a member of a workflow")
    made = next((node.call.producer for node in nodes if node.call.producer is not None), None)
    if made is None:
        raise InvalidJob("none of the calls says to which application it belongs")
    return made()


def _read(nodes: Sequence[Node]) -> _Graph:
    graph = _Graph()
    ranges: dict[int, tuple[tuple[int, int], ...]] = {}  # by identity: members of a group share it
    for n, node in enumerate(nodes):
        parts: list[Any] = [*node.parts()]
        if not node.after:
            continue
        graph.parts[n] = parts
        if (known := ranges.get(id(node.after))) is None:
            known = ranges[id(node.after)] = tuple(_ranges(node.after))
        graph.edges.setdefault(known, []).append(n)
        for at, part in enumerate(parts):
            if isinstance(part, bytes):
                continue
            whose = [part] if isinstance(part, int) else part
            if len(whose) > MAX_RESULTS:
                raise InvalidJob(
                    f"RESULT would be a list of {len(whose):,} results; the limit is {MAX_RESULTS:,}: "
                    "let the members store what they find, and leave RESULT out of what follows"
                )
            graph.keep |= dict.fromkeys(whose, 2)
            parts[at] = part if isinstance(part, int) else _ranges(part)
    return graph


def _renamed(parts: list[Any], member: Member) -> list[Any]:
    """Give a job its member's id and the field ``workflow``."""
    head, body = wire.split(parts[0]) or (wire.Head(""), b"")
    front = wire.join(head._replace(id=member.job_id), body)
    tail = b',"workflow":' + _json(member) + b"}"
    named = [front, *parts[1:]]
    named[-1] = named[-1][:-1] + tail
    size = sum(len(part) for part in named if isinstance(part, bytes))
    if size > wire.DEFAULT_MAX_BYTES:
        limit = f"{wire.DEFAULT_MAX_BYTES:,}"
        raise PayloadTooLarge(f"a member of {size:,} bytes is over the limit of {limit}")
    # As text: that is what MessagePack's reader in Redis takes for bytes.
    return [part.decode() if isinstance(part, bytes) else part for part in named]


def _check_sizes(waiting: Sequence[tuple[int, int, bytes]], edges: int) -> None:
    if edges > _MAX_EDGES:
        raise InvalidJob(
            f"its steps wait for one another in {edges:,} ways; the limit is {_MAX_EDGES:,}"
        )
    size = sum(len(record) for _, _, record in waiting)
    if len(waiting) > MAX_ITEMS or size > MAX_BYTES:
        raise InvalidJob(
            f"{len(waiting):,} of its steps wait for others, with {size:,} bytes; the limit is "
            f"{MAX_ITEMS:,} and {MAX_BYTES:,}: a group at the beginning may be larger, or let a step "
            "start a workflow of its own"
        )


def _ranges(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Return numbers as ranges of first and last, in their order."""
    found: list[tuple[int, int]] = []
    for n in numbers:
        if found and n == found[-1][1] + 1:
            found[-1] = (found[-1][0], n)
        else:
            found.append((n, n))
    return found


def _decoder(
    decoders: Sequence[Callable[[Any], Any] | None], *, many: bool
) -> Callable[[Any], Any] | None:
    if not any(decoders):
        return None
    if not many:
        return decoders[0]

    def decode(values: Any) -> Any:
        if not isinstance(values, list):
            return values
        pairs = zip(decoders, values, strict=True)
        return [value if one is None or _is_error(value) else one(value) for one, value in pairs]

    return decode


def _is_error(value: object) -> bool:
    return isinstance(value, dict) and value.keys() == {"error"}


def started(
    plan: Plan, chosen: StartOptions, max_pending: int, *, remembered_ms: int = 0
) -> Flow[None]:
    """Hand a workflow to Redis: what its first members are, and then, in one step, that it begins.

    One that has begun stays as it is. That it has is known from its state, as long as that is kept, and for
    ``remembered_ms`` besides.

    Raises:
        QueueFull: too many jobs wait already.
        StoreError: Redis did not do it; what it has of it expires.
    """
    there = 0
    for some in chunks(plan.rest):
        if (yield fill(plan, there, some)) < 0:
            break  # it has begun; that it is known where to look may not have come through
        there += len(some)  # not what is there: another run may be further
    # Known before it starts, for whoever leads is to look after it; and after it, in case the leader
    # has seen the last workflow end meanwhile, and forgotten where to look.
    known = [*map(register, plan.queues), run("register", (keys.WORKFLOWS,), plan.queues, int)]
    answers = yield [*known, start(plan, chosen, max_pending, remembered_ms), *known]
    if remembered_ms:
        unfailed(answers)  # a starter is tried again, also for the leader's sake
    (answer,) = unfailed(answers[len(known) : -len(known)])
    word = answer[0]
    if word == b"full":
        raise QueueFull(
            f"a queue of {', '.join(plan.queues)} has {answer[1]} jobs waiting: its bound"
        )
    if word == b"incomplete":
        raise StoreUnavailable(
            f"Redis has lost members of workflow {plan.id} before it began: start it again"
        )


def fill(plan: Plan, before: int, records: Sequence[bytes]) -> Operation[int]:
    """Bring members; return how many are there, or -1: it has begun. Sent again, it changes nothing."""
    k = workflow_keys(keys_of(plan.home), plan.id)
    used = (k.rest, k.hash, begun_of(keys_of(plan.home), plan.id))
    return run("workflows/fill", used, (before, _FILLED_FOR_MS, *records), int)


def start(
    plan: Plan, chosen: StartOptions, max_pending: int, remembered_ms: int = 0
) -> Operation[list[Any]]:
    """Start a workflow that was brought."""
    home = keys_of(plan.home)
    used = [*workflow_keys(home, plan.id), begun_of(home, plan.id)]
    used += [key for queue in plan.places for key in places_of(keys_of(queue))]
    most = min(chosen.window, len(next(iter(chunks(plan.rest)))))
    args: list[Argument] = [plan.id, len(plan.rest), chosen.on_failure, chosen.ttl_ms]
    args += (chosen.window, most, _pack([plan.last]), _pack(plan.edges), max_pending)
    args += (remembered_ms, len(plan.queues), *plan.queues)
    for one in plan.waiting:
        args += one
    return run("workflows/start", used, args, list)
