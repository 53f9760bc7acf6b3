"""Which node each request goes to: where its keys stand, and how it is taken apart. Pure.

Most requests name keys of one queue, so of one slot. Some ask about many queues, or about all nodes:
they are taken apart, and the answers are put together as one server would have given them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from headrace.operations import Argument, Operation
from headrace.store.cluster.names import placed, unplaced
from headrace.store.guides import Host

Join = Callable[[list[Any]], Any]


class Part(NamedTuple):
    """A request to one node.

    Attributes:
        operation: what is sent.
        slot: it goes to the primary of this slot …
        host: … or to this node; where both are None, with the request beside it.
    """

    operation: Operation[Any]
    slot: int | None = None
    host: Host | None = None


class Whole(NamedTuple):
    """Parts, and what becomes of their answers.

    Attributes:
        parts: the parts.
        join: makes one answer of theirs; None when there is one part, whose answer it is.
        needs_all: without one of them there is none.
    """

    parts: Sequence[Part]
    join: Join | None = None
    needs_all: bool = True


# Where the keys of a plain command stand; of all others the first argument is the key.
_KEYS: Final[dict[str, slice]] = {
    "EXISTS": slice(1, None),
    "MGET": slice(1, None),
    "DEL": slice(1, None),
    "BLMOVE": slice(1, 3),
    "LMOVE": slice(1, 3),
    "RPOPLPUSH": slice(1, 3),
    "BLPOP": slice(1, -1),  # its last argument is the time
}
_WITHOUT_KEYS: Final = frozenset(
    {
        *("ACL", "ASKING", "CLIENT", "CLUSTER", "COMMAND", "CONFIG", "DBSIZE", "ECHO", "FLUSHALL"),
        *("INFO", "PING", "PUBLISH", "ROLE", "SCAN", "SCRIPT", "TIME", "WAIT"),
    }
)

# Of these each so many keys are a question of their own, and the answers are added, or are lists in order.
_EACH: Final[dict[str, tuple[int, bool]]] = {
    "EXISTS": (1, True),
    "DEL": (1, True),
    "MGET": (1, False),
    "snapshot": (10, False),
    "gathering/ended": (1, False),
}

# What all nodes are asked, and what becomes of their answers.
_EVERYWHERE: Final[dict[str, Join]] = {
    "CLIENT LIST": b"".join,
    "SCRIPT LOAD": lambda answers: answers[0],
    "SCRIPT FLUSH": lambda answers: answers[0],
    "DBSIZE": sum,
    "FLUSHALL": lambda answers: answers[0],
    # Of clocks that differ the one that is behind: who takes it for another's waits longer, not shorter.
    "TIME": lambda answers: min(answers, key=lambda time: (int(time[0]), int(time[1]))),
}


# What each node is asked for itself: its answer comes with where it is, also where others do not answer.
_EACH_NODE: Final = frozenset({"INFO default", "CONFIG GET"})


def take_apart(operation: Operation[Any], primaries: Sequence[Host]) -> Whole:
    """Take a request apart, its keys named as they are on a cluster.

    Raises:
        ValueError: it names keys of several queues, and cannot be taken apart.
    """
    name = operation.name
    if operation.script is None and name in _WITHOUT_KEYS:
        return _keyless(operation, primaries)
    if name == "permitted":  # it touches no key, and may name those of several queues
        there = {key: placed(key)[0] for key in operation.keys}
        args = tuple(there.get(str(arg), arg) for arg in operation.args)
        return Whole([Part(operation._replace(keys=(), args=args))])
    named = _keys_of(operation)
    if not named:
        return Whole([Part(operation)])
    pairs = [placed(_text(key)) for key in named]
    slots = {slot for _, slot in pairs}
    if len(slots) == 1:
        return Whole([Part(_with_keys(operation, [key for key, _ in pairs]), slots.pop())])
    if name not in _EACH:
        raise ValueError(f"{name} names keys of several queues: on a cluster each is elsewhere")
    size, added = _EACH[name]
    by_slot: dict[int, list[int]] = {}  # slot -> the numbers of the questions that go there
    for at in range(0, len(pairs), size):
        by_slot.setdefault(pairs[at][1], []).append(at // size)
    parts = []
    for slot, questions in by_slot.items():
        keys = [key for q in questions for key, _ in pairs[q * size : (q + 1) * size]]
        parts.append(Part(_with_keys(operation, keys)._replace(parse=_raw), slot))
    return Whole(parts, sum if added else _in_order([*by_slot.values()]))


def _in_order(asked: Sequence[Sequence[int]]) -> Join:
    def join(answers: list[Any]) -> list[Any]:
        pairs = (
            pair for questions, of in zip(asked, answers, strict=True)
            for pair in zip(questions, of, strict=True)
        )  # fmt: skip
        return [answer for _, answer in sorted(pairs, key=lambda pair: pair[0])]

    return join


def _keyless(operation: Operation[Any], primaries: Sequence[Host]) -> Whole:
    if operation.name == "SCAN":
        return _scanning(operation, primaries)
    words = [str(arg) for arg in operation.args[:2] if isinstance(arg, str)]
    if " ".join(words) in _EACH_NODE:
        each = [operation._replace(parse=partial(_at, host)) for host in primaries]
        parts = [Part(one, host=host) for one, host in zip(each, primaries, strict=True)]
        return Whole(parts, list, needs_all=False)
    join = _EVERYWHERE.get(" ".join(words), _EVERYWHERE.get(operation.name))
    if join is None:
        return Whole([Part(operation)])
    asked = operation._replace(parse=_raw)
    parts = [Part(asked, host=host) for host in primaries]
    return Whole(parts, join, needs_all=operation.name != "TIME")  # whoever is there has a clock


def _scanning(operation: Operation[Any], primaries: Sequence[Host]) -> Whole:
    """Scan one node after the other: a cursor says which one, and where it is there."""
    count = len(primaries)
    cursor, number = divmod(int(operation.args[1]), count)

    def parse(raw: Any) -> Any:
        there, keys = int(raw[0]), [unplaced(key) for key in raw[1]]
        after = there * count + number if there else (number + 1) % count
        return operation.parse([str(after).encode(), keys])

    args = (operation.name, cursor, *operation.args[2:])
    return Whole([Part(operation._replace(args=args, parse=parse), host=primaries[number])])


def _keys_of(operation: Operation[Any]) -> Sequence[Argument]:
    if operation.script is not None:
        return operation.keys
    return operation.args[_stretch(operation)]


def _with_keys(operation: Operation[Any], keys: Sequence[str]) -> Operation[Any]:
    if operation.script is not None:
        return operation._replace(keys=tuple(keys))
    args, stretch = list(operation.args), _stretch(operation)
    args[stretch] = keys
    return operation._replace(args=tuple(args))


def _stretch(operation: Operation[Any]) -> slice:
    if operation.name == "XREAD":  # its one key stands behind this word
        at = operation.args.index("STREAMS") + 1
        return slice(at, at + 1)
    return _KEYS.get(str(operation.args[0]), slice(1, 2))


def _text(key: Argument) -> str:
    return key.decode(errors="surrogateescape") if isinstance(key, bytes) else str(key)


def _raw(answer: Any) -> Any:
    return answer


def _at(host: Host, answer: Any) -> tuple[Host, Any]:
    return host, answer
