"""Which fault hit which transition how often; and where one cannot, why.

A cell that applies has to be hit ``GOAL`` times in a full run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tests.faults.history import BURY, BUSY

GOAL: Final = 20

PRODUCING: Final = ("push", "enqueue")
CONSUMING: Final = ("claim", "BLMOVE", "adopt", "settle", "extend")
MAINTAINING: Final = ("promote", "sweep", "reclaim", "lead")
OPERATING: Final = ("cancel", "redrive", "purge", "snapshot")
SCRIPTS: Final = tuple(
    name for name in (*PRODUCING, *CONSUMING, *MAINTAINING, *OPERATING) if name != "BLMOVE"
)
TRANSITIONS: Final = (*PRODUCING, *CONSUMING, *MAINTAINING, *OPERATING, BURY)
DUTIES: Final = ("promote", "sweep", BURY)

FAULTS: Final = {
    "kill before": "SIGKILL of the sender before it is sent",
    "kill after": "SIGKILL of the sender when the answer is there",
    "stop before": "SIGSTOP beyond a lease before it is sent",
    "stop after": "SIGSTOP beyond a lease when the answer is there",
    "cut": "connection ends before the server sees it",
    "lost": "server acts, answer lost, connection reset",
    "half-open": "server acts, answer lost, connection silent",
    "late": "answer comes late",
    "sent twice": "the same request again",
    "refused NOSCRIPT": "SCRIPT FLUSH: not known",
    "refused LOADING": "Redis loads its data",
    "refused READONLY": "Redis has become a replica",
    "refused UNBLOCKED": "the same, while the request blocked",
    "refused OOM": "Redis is full",
    BUSY: "done although something else holds its process' event loop",
}

_NOT_IDEMPOTENT = "another job, by design; nothing sends it twice"
_ALLOW_OOM = "runs in a full Redis: it frees memory, or keeps running jobs alive"
_NO_DUTY = "sent by the loop itself, or a duty that is seen to be done by what the others do"
_SEVERAL = "several requests, each of them hit by itself: CLIENT LIST, extend"
NOT_APPLICABLE: Final[Mapping[tuple[str, str], str]] = {
    **{("sent twice", name): _NOT_IDEMPOTENT for name in PRODUCING},
    ("sent twice", "claim"): _NOT_IDEMPOTENT,
    ("sent twice", "BLMOVE"): _NOT_IDEMPOTENT,
    ("refused NOSCRIPT", "BLMOVE"): "no script",
    ("refused NOSCRIPT", "adopt"): "its script travels with it, if its task is to begin at once",
    **{("refused UNBLOCKED", name): "does not block" for name in SCRIPTS},
    **{("refused OOM", name): _ALLOW_OOM for name in SCRIPTS if name not in PRODUCING},
    **{(BUSY, name): _NO_DUTY for name in TRANSITIONS if name not in DUTIES},
    **{(fault, BURY): _SEVERAL for fault in FAULTS if fault != BUSY},
}


def table(counts: Mapping[tuple[str, str], int], goal: int = GOAL) -> str:
    """Draw the table: a count, or · where the fault does not apply, ! where it is below the goal."""
    width = max(map(len, FAULTS)) + 2
    lines = [" " * width + " ".join(f"{name[:8]:>8}" for name in TRANSITIONS)]
    for fault in FAULTS:
        cells = []
        for name in TRANSITIONS:
            count = counts.get((fault, name), 0)
            mark = "" if count >= goal or (fault, name) in NOT_APPLICABLE else "!"
            cells.append("·" if (fault, name) in NOT_APPLICABLE and not count else f"{count}{mark}")
        lines.append(f"{fault:<{width}}" + " ".join(f"{cell:>8}" for cell in cells))
    return "\n".join(lines)


def missing(counts: Mapping[tuple[str, str], int]) -> list[tuple[str, str]]:
    """Give the cells that apply and were hit too seldom."""
    return [
        (fault, name)
        for fault in FAULTS
        for name in TRANSITIONS
        if (fault, name) not in NOT_APPLICABLE and counts.get((fault, name), 0) < GOAL
    ]
