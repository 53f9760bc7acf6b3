"""How a divided queue behaves at sizes that fit on no machine here: ``python -m benchmarks.scaling``.

A simulation of consumers that share the partitions of one queue: the product's own numbers and its own rule
of who is at home where, with a clock of its own. It shows how long it takes until all have divided the
partitions anew when consumers die or come, and what their knocking costs the node where they do it.
"""

from __future__ import annotations

import argparse
import heapq
import random
import sys
from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from headrace.partitions.requests import AWAY_MS, Share, own_of
from headrace.supervisor.sharing import EVERY_S

FORGOTTEN_AT_ONCE: Final = 100  # as attend.lua has it
LATENCY_S: Final = (0.0003, 0.003)  # of a request, with what holds it up
SIZES: Final = ((3, 48, 100), (10, 160, 1_000), (100, 1_000, 10_000))


@dataclass
class Queue:
    """One divided queue: who is there, as Redis knows, and who takes himself to be at home where.

    Attributes:
        partitions: how many.
        members: when each came and who it is, in that order: the numbers that consumers have.
        present: when each was there last, s.
        shares: what each was told last.
        at_home: how many that live are at home in each partition.
    """

    partitions: int
    members: list[tuple[float, int]] = field(default_factory=list)
    came: dict[int, float] = field(default_factory=dict)
    present: dict[int, float] = field(default_factory=dict)
    shares: dict[int, Share] = field(default_factory=dict)
    at_home: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.at_home = [0] * self.partitions

    def attend(self, who: int, now: float) -> None:
        """Do as attend.lua does, and have the consumer hear of it."""
        self.present.pop(who, None)  # so that whoever was there longest ago stays in front
        self.present[who] = now
        if who not in self.came:
            self.came[who] = now
            insort(self.members, (now, who))
        for gone in self._gone(now):
            self._drop(gone)
        rank = bisect_left(self.members, (self.came[who], who))
        self._tell(who, Share(rank, len(self.members)))

    def _gone(self, now: float) -> list[int]:
        gone: list[int] = []
        for who, at in self.present.items():
            if at > now - AWAY_MS / 1000 or len(gone) == FORGOTTEN_AT_ONCE:
                break
            gone.append(who)
        return gone

    def _drop(self, who: int) -> None:
        del self.present[who]
        at = self.came.pop(who)
        del self.members[bisect_left(self.members, (at, who))]

    def _tell(self, who: int, share: Share) -> None:
        if self.shares.get(who) != share:
            self.leave(who)
            self.shares[who] = share
            for number in own_of(self.partitions, share):
                self.at_home[number] += 1

    def leave(self, who: int) -> None:
        """Note that one is at home nowhere any more: it is dead, or about to be told anew."""
        if (before := self.shares.pop(who, None)) is not None:
            for number in own_of(self.partitions, before):
                self.at_home[number] -= 1

    def divided(self, alive: int) -> bool:
        """Whether all that live were told numbers that fit together, and nobody else is counted."""
        return len(self.members) == len(self.shares) == alive and all(
            share.members == alive for share in self.shares.values()
        )


@dataclass(frozen=True)
class Change:
    """What came of a change: how long until each partition is somebody's home, and until all is divided, s."""

    homeless_s: float
    divided_s: float


def run(partitions: int, consumers: int, changed: int, seed: int) -> tuple[Change, Change]:
    """Let so many consumers be killed at once, and then as many come."""
    rng, queue = random.Random(seed), Queue(partitions)
    events: list[tuple[float, int]] = []
    for who in range(consumers):
        heapq.heappush(events, (rng.uniform(0, EVERY_S), who))
    alive = set(range(consumers))
    now = _until_divided(queue, events, alive, rng, 0.0).divided_s
    for who in rng.sample(range(consumers), changed):
        alive.discard(who)
        queue.leave(who)
    died = _until_divided(queue, events, alive, rng, now)
    now += died.divided_s
    for who in range(consumers, consumers + changed):
        alive.add(who)
        heapq.heappush(events, (now + rng.uniform(0, EVERY_S), who))
    return died, _until_divided(queue, events, alive, rng, now)


def _until_divided(
    queue: Queue, events: list[tuple[float, int]], alive: set[int], rng: random.Random, since: float
) -> Change:
    homeless_s, look_at = 0.0, since
    while True:
        now, who = heapq.heappop(events)
        if who not in alive:
            continue
        queue.attend(who, now)
        heapq.heappush(events, (now + EVERY_S + rng.uniform(*LATENCY_S), who))
        if now >= look_at:  # each hundredth of a second
            look_at = now + 0.01
            if 0 in queue.at_home:
                homeless_s = now - since
            if queue.divided(len(alive)):
                return Change(homeless_s, now - since)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args(argv)
    print(
        f"{'shards':>8}{'partitions':>12}{'consumers':>11}{'changed':>9}"
        f"{'killed: all at home':>22}{'all divided':>13}{'come: all divided':>19}{'knocks/s':>10}"
    )
    for shards, partitions, consumers in SIZES:
        for changed in (1, consumers // 10):
            found = [run(partitions, consumers, changed, seed) for seed in range(options.seeds)]
            home = max(died.homeless_s for died, _ in found)
            died_s = max(died.divided_s for died, _ in found)
            come_s = max(come.divided_s for _, come in found)
            print(
                f"{shards:>8}{partitions:>12,}{consumers:>11,}{changed:>9,}{home:>20.2f} s"
                f"{died_s:>11.2f} s{come_s:>17.2f} s{consumers / EVERY_S:>10,.0f}"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
