"""What timings ask of Redis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from headrace.keys import Keys
from headrace.operations import Argument, Operation, command, run, text
from headrace.timings import tally
from headrace.timings.keys import SLOTS, minutes_of, timings_of
from headrace.timings.recorder import OTHERS
from headrace.timings.tally import Tally

MOST_TASKS: Final = 50
"""So many tasks of a queue have counts of their own; those that come later share one."""

KEPT_MIN: Final = 1_440
"""How many minutes are kept: a day."""

STEP_MIN: Final = 10
"""How many minutes the counts of one task share: fewer would be megabytes for each queue."""

ABSENT_S: Final = 150.0
"""Who has not told of its slots for so long is not there: it tells at least once a minute."""


class Told(NamedTuple):
    """What a consumer has told of its slots: how many there are, how many were busy, when (ms)."""

    slots: int
    busy: int
    at_ms: int


def add(k: Keys, tallies: Mapping[str, Tally]) -> Operation[int]:
    """Add what was counted, by task. Not to be repeated: it would count twice."""
    args: list[Argument] = [MOST_TASKS, OTHERS, KEPT_MIN, STEP_MIN]
    for task, counts in tallies.items():
        args += (task, tally.write(counts))
    return run("timings/add", (timings_of(k), minutes_of(k)), args, int)


def tell(consumer: str, slots: int, busy: int) -> Operation[str]:
    """Tell of the slots of a consumer; none: it leaves."""
    return run("timings/tell", (SLOTS,), (consumer, slots, busy, round(ABSENT_S * 1000)), text)


def told() -> Operation[dict[str, Told]]:
    """Return what consumers have told of their slots, also those that have gone since."""

    def parse(raw: Any) -> dict[str, Told]:
        pairs = [(name, said.split()) for name, said in zip(raw[::2], raw[1::2], strict=True)]
        return {
            name.decode(errors="replace"): Told(*map(int, said))
            for name, said in pairs
            if len(said) == len(Told._fields) and all(one.isdigit() for one in said)
        }

    return command("HGETALL", SLOTS, parse=parse)


def totals(k: Keys) -> Operation[dict[str, Tally]]:
    """Return what the jobs of a queue came to, by task."""

    def parse(raw: Any) -> dict[str, Tally]:
        pairs = zip(raw[::2], raw[1::2], strict=True)
        return {name.decode(errors="replace"): tally.read(said) for name, said in pairs}

    return command("HGETALL", timings_of(k), parse=parse)
