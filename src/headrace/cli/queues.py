"""Which queues a consumer takes from, as the command line has it."""

from __future__ import annotations

from headrace.consumer.options import QueueWeight
from headrace.errors import InvalidSetting
from headrace.keys import keys_of


def parse_queues(text: str) -> tuple[QueueWeight, ...]:
    """Read ``a,b`` (a first, b when a is empty) or ``a:3,b:1`` (three turns in four begin with a).

    Raises:
        InvalidSetting: a name or a weight has no meaning, a queue is named twice, or only some of
            the queues have a weight.
    """
    queues: list[QueueWeight] = []
    for part in text.split(","):
        name, colon, weight = part.strip().partition(":")
        keys_of(name)
        if colon and not (weight.isascii() and weight.isdigit() and 0 < int(weight) <= 1_000_000):
            raise InvalidSetting(
                f"{part!r}: the weight must be a whole number from 1, as in a:3,b:1"
            )
        queues.append(QueueWeight(name, int(weight) if colon else 0))
    if len({queue.name for queue in queues}) < len(queues):
        raise InvalidSetting(f"{text!r} names a queue twice")
    if any(queue.weight for queue in queues) and not all(queue.weight for queue in queues):
        raise InvalidSetting(f"{text!r}: give every queue a weight, or none")
    return tuple(queues)
