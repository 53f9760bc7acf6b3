"""A queue is forgotten in two steps, for on a cluster the registry is on another node than the queue.

First the queue's own counters go, in a script that sees that it is empty; whoever enqueues from then on
finds it new, and makes it known. Then it is taken out of the registry, and its counters are added to the
sums; and known again, if somebody has enqueued in between. Whoever dies between the steps leaves an
empty queue in the registry, which is forgotten at the next turn; its counters are missing in the sums.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

from headrace import keys
from headrace.errors import StoreError
from headrace.flows import Flow
from headrace.keys import Keys
from headrace.moving import moving_of
from headrace.operations import Operation, command, nothing, register, run, text
from headrace.timings import minutes_of, timings_of

ForgetAnswer = Literal["forgotten", "used", "paused"]


def ask(k: Keys, unused_ms: int) -> Operation[tuple[ForgetAnswer, list[tuple[str, int]]]]:
    """Forget a queue that is empty, and not used for so long; 0: whenever it was used last.

    Return with it what it has counted. The registry and the sums are another step: see ``forget``.
    """
    used = (
        k.pending, k.processing, k.priority, k.delayed, k.dead, k.leases, k.claims, k.limited,
        moving_of(k), k.stats, k.meta, timings_of(k), minutes_of(k),
    )  # fmt: skip

    def parse(raw: Any) -> tuple[ForgetAnswer, list[tuple[str, int]]]:
        pairs = zip(raw[1::2], raw[2::2], strict=True)
        return text(raw[0]), [(text(name), int(n)) for name, n in pairs if n.isdigit()]  # type: ignore[return-value]

    return run("forgetting/forget", used, (unused_ms,), parse)


def unregister(queue: str, counted: Iterable[tuple[str, int]]) -> list[Operation[Any]]:
    """Take a queue out of the registry, and add what it has counted to the sums."""
    sums = [command("HINCRBY", keys.FORGOTTEN, name, n, parse=nothing) for name, n in counted]
    return [command("SREM", keys.QUEUES, queue, parse=nothing), *sums]


def is_new(k: Keys) -> Operation[bool]:
    """Whether nothing is there of a queue: no job, and nothing counted."""
    used = (k.pending, k.priority, k.delayed, k.processing, k.stats)
    return command("EXISTS", *used, parse=lambda n: n == 0)


def forget(queues: Sequence[Keys], unused_ms: int) -> Flow[list[ForgetAnswer | StoreError]]:
    """Forget queues that are empty, and not used for so long; 0: whenever they were used last."""
    answers = yield [ask(k, unused_ms) for k in queues]
    words = [one if isinstance(one, StoreError) else one[0] for one in answers]
    gone = [k for k, word in zip(queues, words, strict=True) if word == "forgotten"]
    if gone:
        counted = (one[1] for one, word in zip(answers, words, strict=True) if word == "forgotten")
        pairs = zip(gone, counted, strict=True)
        yield [one for k, counts in pairs for one in unregister(k.queue, counts)]
        # Who has enqueued meanwhile has registered it too, perhaps before it was taken out.
        are_new = yield [is_new(k) for k in gone]
        yield [register(k.queue) for k, new in zip(gone, are_new, strict=True) if not new]
    return words


def use(k: Keys) -> Operation[None]:
    """Say that a queue has a consumer, so that it is not forgotten."""
    return command("HDEL", k.meta, "unused", parse=nothing)
