"""From runs to what can be said of them: ratios within a round first, then the numbers themselves.

python -m benchmarks.report FILE.json     the tables of docs/benchmarks.md
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.cases import CASES, Case, Numbers
from benchmarks.contestants import CONTESTANTS

OURS = "headrace:async"


def ratios(case: Case, ours: Sequence[Numbers], theirs: Sequence[Numbers]) -> list[float]:
    """Give how many times better we are, round by round."""
    found = []
    for one, other in zip(ours, theirs, strict=False):
        a, b = one.get(case.number, 0.0), other.get(case.number, 0.0)
        if a and b:
            found.append(a / b if case.more_is_better else b / a)
    return found


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Write a median and its range."""
    if not values:
        return "-"
    low, high = min(values), max(values)
    return f"{median(values):,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


def table(case: Case, results: Mapping[str, Sequence[Numbers]]) -> Iterable[str]:
    """Write one case for people: the best first."""
    more, rows = _rows(case, results)
    yield f"{case.title}; median (range) of {max(map(len, results.values()), default=0)}"
    heads = "".join(f"{_EXTRA[key]:>17}" for key in more)
    yield f"  {'':<16}{case.unit:>28}{'Headrace is better by':>28}  {heads}"
    for name, values, better, *others in rows:
        yield f"  {name:<16}{values:>28}{better:>28}  " + "".join(f"{one:>17}" for one in others)
    yield from (f"  {name:<16}{'left out':>28}" for name, runs in results.items() if not runs)


def _rows(
    case: Case, results: Mapping[str, Sequence[Numbers]]
) -> tuple[list[str], list[list[str]]]:
    """Give which other numbers there are, and a row for each contestant, the best first."""
    measured = {name: runs for name, runs in results.items() if runs}
    ours = measured.get(OURS, ())
    keys = {key for runs in measured.values() for one in runs for key in one}
    more = [key for key in _EXTRA if key in keys - {case.number}]
    digits = 0 if case.number in {"per_s", "bytes"} else 2
    rows = []
    for name, runs in sorted(measured.items(), key=lambda pair: _rank(case, pair[1])):
        values = spread([one[case.number] for one in runs if case.number in one], digits)
        better = spread(ratios(case, ours, runs)) if name != OURS else ""
        rows.append([name, values, better, *(_middle(runs, key) for key in more)])
    return more, rows


def _rank(case: Case, runs: Sequence[Numbers]) -> float:
    values = [one[case.number] for one in runs if case.number in one]
    if not values:
        return float("inf")
    return -median(values) if case.more_is_better else median(values)


def _middle(runs: Sequence[Numbers], key: str) -> str:
    values = [one[key] for one in runs if key in one]
    return f"{median(values):,.2f}" if values else "-"


def markdown(document: Mapping[str, Any]) -> Iterable[str]:
    """Write all cases of a JSON file as tables for ``docs/benchmarks.md``."""
    for title, results in document["results"].items():
        case = CASES[title]
        more, rows = _rows(case, results)
        heads = [f"{case.unit}, median (range) of {max(map(len, results.values()))}"]
        heads += ["Headrace is better by", *(_EXTRA[key] for key in more)]
        yield f"### {case.title}\n"
        yield f"| | {' | '.join(heads)} |"
        yield "|---|" + "--:|" * len(heads)
        for name, *cells in rows:
            shown = f"**{name}**" if name.startswith("headrace") else name
            yield f"| {shown}{' †' * CONTESTANTS[name].loses} | {' | '.join(cells)} |"
        yield ""


_EXTRA = {
    "share": "of the ideal",
    "jobs": "jobs",
    "earliest": "earliest ms",
    "p50": "p50 ms",
    "p95": "p95 ms",
    "p99": "p99 ms",
    "p99_9": "p99.9 ms",
    "cpu_us": "µs of worker",
    "server_us": "µs of server",
    "rss_mb": "resident MB",
    "pss_mb": "proportional MB",
    "cpu_percent": "% of a processor",
}

if __name__ == "__main__":
    print("\n".join(markdown(json.loads(Path(sys.argv[1]).read_text()))))
