"""``headrace doctor``: is the server safe, and are the queues in order?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Annotated, Any, Final

from cyclopts import Parameter

from headrace.cli import output
from headrace.cli.connection import Connection, known_queues, server_at, server_json
from headrace.cli.flags import ALL, Json, LeasesAndCrashes, Most, Queues, help_page
from headrace.cli.output import Line, paragraph, say
from headrace.doctor import SEVERITIES, Checkup, Finding, Repaired, Severity, check_up, make_repairs
from headrace.doctor.humanize import counted
from headrace.keys import keys_of
from headrace.operations import Snapshot
from headrace.settings import redis_url
from headrace.store import ServerInfo

_INDENT: Final = 11
_STYLES: Final[dict[Severity, str]] = {
    "problem": "bold red",
    "warning": "yellow",
    "note": "cyan",
    "ok": "green",
}


@help_page
def doctor(
    *queues: Queues,
    repair: Annotated[
        bool, Parameter(help="Repair what can be repaired, and say what was done.")
    ] = False,
    strict: Annotated[bool, Parameter(help="Count warnings as problems.")] = False,
    sample: Most = 10_000,
    json: Json = False,
    leases: LeasesAndCrashes = LeasesAndCrashes(),
    connection: Connection = Connection(),
) -> int:
    """Look whether Redis is safe and the queues are in order.

    $ headrace doctor
    $ headrace doctor emails --repair
    $ headrace doctor --json | jq '.findings[] | select(.severity == "problem")'

    Without --repair it changes nothing. With it, claims, leases and expiries that do not fit are
    repaired, and what the leader left undone is done. No job is deleted, and what it does not
    understand it leaves alone. Exit code: 0 healthy, 1 problems found.
    """
    with connection.store() as store:
        names = [keys_of(queue).queue for queue in queues]  # an invalid name is refused
        where, policy, most = redis_url(store.url), leases.policy(), sample or ALL
        server = server_at(where)
        names = known_queues(store, names) if names else []
        found = store.follow(check_up(names, policy, sample=most))
        repaired: list[Repaired] = []
        if repair:
            for one in make_repairs(store, found, policy):
                repaired.append(one)
                if not json:
                    _say_repaired(one, first=len(repaired) == 1)
            if repaired:
                found = store.follow(check_up(names, policy, sample=most))
    answer = _as_json(str(where), server, found, repaired)
    lines = _lines(str(where), server, found, repaired if repair else None)
    output.show(answer, lines, json=json)
    bad: tuple[Severity, ...] = ("problem", "warning") if strict else ("problem",)
    return int(any(finding.severity in bad for finding in found.findings))


def _say_repaired(one: Repaired, *, first: bool) -> None:
    if first:
        say((("repaired", "bold"),))
    for line in paragraph(one.done, first=f"  {one.queue}: ", indent=len(one.queue) + 4):
        say(line)
    output.flush()


def _lines(
    url: str, server: ServerInfo, found: Checkup, repaired: Sequence[Repaired] | None
) -> Iterator[Line]:
    """Write it for people; ``repaired``: what was told of already, None if it was only looked."""
    if repaired is not None:
        yield from ("",) if repaired else ("Nothing to repair.", "")
    yield f"{server} at {url}"
    yield ""
    yield (("server", "bold"),)
    yield from _finding_lines(finding for finding in found.findings if not finding.queue)
    about = [*found.snapshots, *(finding.queue for finding in found.findings if finding.queue)]
    for queue in sorted(set(about)):
        yield ""
        snapshot = found.snapshots.get(queue)
        counts = "" if snapshot is None else f"  {_counts(snapshot)}"
        yield ((f"queue {queue}", "bold"), (counts, "dim"))
        yield from _finding_lines(finding for finding in found.findings if finding.queue == queue)
    yield ""
    yield from _sum_lines(found.findings, after_repair=repaired is not None)


def _counts(s: Snapshot) -> str:
    places = ("waiting", "processing", "delayed", "dead")
    return ", ".join(f"{getattr(s, place):,} {place}" for place in places)


def _finding_lines(findings: Iterable[Finding]) -> Iterator[Line]:
    for finding in sorted(findings, key=lambda one: SEVERITIES.index(one.severity)):
        word = f"  {finding.severity}"
        yield from paragraph(
            finding.found, first=word, indent=_INDENT, first_style=_STYLES[finding.severity]
        )
        if finding.why:
            yield from paragraph(finding.why, indent=_INDENT, style="dim")
        todo = finding.todo or ("headrace doctor --repair" if finding.mends else "")
        if todo:
            yield from paragraph(todo, first=f"{'':<{_INDENT - 2}}→ ", indent=_INDENT)


def _sum_lines(findings: Sequence[Finding], *, after_repair: bool) -> Iterator[Line]:
    counts = Counter(finding.severity for finding in findings)
    shown = [
        counted(counts[severity], severity)
        for severity in SEVERITIES
        if severity != "ok" and counts[severity]
    ]
    healthy = not counts["problem"]
    yield (
        ("healthy" if healthy else "not healthy", _STYLES["ok" if healthy else "problem"]),
        (f": {', '.join(shown) or 'all is well'}", ""),
    )
    mends = sum(finding.mends for finding in findings)
    if mends and not after_repair:
        yield f"{mends:,} of these can be repaired by: headrace doctor --repair"


def _as_json(
    url: str, server: ServerInfo, found: Checkup, repaired: Sequence[Repaired]
) -> dict[str, Any]:
    counts = Counter(finding.severity for finding in found.findings)
    return {
        "url": url,
        "server": server_json(server),
        "healthy": not counts["problem"],
        "counts": {severity: counts[severity] for severity in SEVERITIES},
        "leader": found.server.leader or None,
        "mended": [asdict(one) for one in repaired],
        "findings": [asdict(finding) for finding in found.findings],
    }
