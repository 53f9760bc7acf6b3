"""``headrace doctor``: is the server safe, and are the queues in order?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Annotated, Any, Final, TypeAlias

from cyclopts import Parameter
from cyclopts.validators import Number

from headrace import logs
from headrace.cli import output
from headrace.cli.connection import connected
from headrace.cli.flags import (
    POLICY,
    BareLease,
    Json,
    Lease,
    LogLevel,
    MaxCrashes,
    Url,
    help_page,
)
from headrace.cli.prose import say_paragraph, say_styled
from headrace.doctor import (
    SEVERITIES,
    Checkup,
    Finding,
    Repaired,
    Severity,
    check_up,
    make_repairs,
)
from headrace.errors import StoreUnavailable
from headrace.keys import keys_of
from headrace.operations import Snapshot
from headrace.policy import LeasePolicy
from headrace.settings import redis_url
from headrace.store import ServerInfo, advice, probe

QueueNames: TypeAlias = Annotated[
    str, Parameter(name="QUEUE", help="Only these queues; without one, all.")
]
Repair: TypeAlias = Annotated[
    bool, Parameter("--repair", help="Mend what can be mended; says what it does.")
]
Strict: TypeAlias = Annotated[bool, Parameter("--strict", help="Let warnings count as problems.")]
Sample: TypeAlias = Annotated[
    int,
    Parameter(
        metavar="N", validator=Number(gte=0), help="Read so many jobs of each list; 0 all of them."
    ),
]

_ALL: Final = 1 << 40
_INDENT: Final = 11
_STYLES: Final[dict[Severity, str]] = {
    "problem": "bold red",
    "warning": "yellow",
    "note": "cyan",
    "ok": "green",
}


@help_page
def doctor(
    *queues: QueueNames,
    repair: Repair = False,
    strict: Strict = False,
    sample: Sample = 10_000,
    json: Json = False,
    lease: Lease = POLICY.lease_s,
    bare_lease: BareLease = POLICY.bare_lease_s,
    max_crashes: MaxCrashes = POLICY.max_crashes,
    url: Url = None,
    log_level: LogLevel = "warning",
) -> int:
    """Look whether Redis is safe and the queues are in order.

    $ headrace doctor
    $ headrace doctor emails --repair
    $ headrace doctor --json | jq '.findings[] | select(.severity == "problem")'

    Without --repair it changes nothing. With it, claims, leases and expiries that do not fit are
    mended, and what the leader left undone is done. No job is deleted, and what it does not
    understand it leaves alone. Exit code: 0 healthy, 1 problems found.
    """
    logs.configure(log_level)
    policy = LeasePolicy(lease_s=lease, bare_lease_s=bare_lease, max_crashes=max_crashes)
    names = [keys_of(queue).queue for queue in queues]  # an invalid name is refused
    where = redis_url(url)
    with connected(url) as store:
        server = probe(where.url)
        if server is None:
            raise StoreUnavailable(f"no Redis at {where}. {advice(where.url)}")
        found = store.follow(check_up(names, policy, sample=sample or _ALL))
        repaired: list[Repaired] = []
        if repair:
            for one in make_repairs(store, found, policy):
                repaired.append(one)
                if not json:
                    _say_repaired(one, first=len(repaired) == 1)
            if repaired:
                found = store.follow(check_up(names, policy, sample=sample or _ALL))
    if json:
        output.say_json(_as_json(str(where), server, found, repaired))
    else:
        if repair:
            output.say("" if repaired else "Nothing to mend.\n")
        _say(str(where), server, found, after_repair=repair)
    bad: tuple[Severity, ...] = ("problem", "warning") if strict else ("problem",)
    return int(any(finding.severity in bad for finding in found.findings))


def _say_repaired(one: Repaired, *, first: bool) -> None:
    if first:
        say_styled(("mended", "bold"))
    say_paragraph(one.done, first=f"  {one.queue}: ", indent=len(one.queue) + 4)
    output.flush()


def _say(url: str, server: ServerInfo, found: Checkup, *, after_repair: bool) -> None:
    output.say(f"{server} at {url}")
    output.say()
    say_styled(("server", "bold"))
    _say_findings(finding for finding in found.findings if not finding.queue)
    about = [*found.snapshots, *(finding.queue for finding in found.findings if finding.queue)]
    for queue in sorted(set(about)):
        output.say()
        snapshot = found.snapshots.get(queue)
        counts = "" if snapshot is None else f"  {_counts(snapshot)}"
        say_styled((f"queue {queue}", "bold"), (counts, "dim"))
        _say_findings(finding for finding in found.findings if finding.queue == queue)
    output.say()
    _say_sum(found.findings, after_repair=after_repair)


def _counts(s: Snapshot) -> str:
    places = ("waiting", "processing", "delayed", "dead")
    return ", ".join(f"{getattr(s, place):,} {place}" for place in places)


def _say_findings(findings: Iterable[Finding]) -> None:
    for finding in sorted(findings, key=lambda one: SEVERITIES.index(one.severity)):
        word = f"  {finding.severity}"
        say_paragraph(
            finding.found, first=word, indent=_INDENT, first_style=_STYLES[finding.severity]
        )
        if finding.why:
            say_paragraph(finding.why, indent=_INDENT, style="dim")
        todo = finding.todo or ("headrace doctor --repair" if finding.mends else "")
        if todo:
            say_paragraph(todo, first=f"{'':<{_INDENT - 2}}→ ", indent=_INDENT)


def _say_sum(findings: Sequence[Finding], *, after_repair: bool) -> None:
    counts = Counter(finding.severity for finding in findings)
    shown = [
        f"{counts[severity]} {severity}{'s' if counts[severity] != 1 else ''}"
        for severity in SEVERITIES
        if severity != "ok" and counts[severity]
    ]
    healthy = not counts["problem"]
    style = _STYLES["ok" if healthy else "problem"]
    say_styled(
        ("healthy" if healthy else "not healthy", style),
        (f": {', '.join(shown) or 'all is well'}", ""),
    )
    mends = sum(finding.mends for finding in findings)
    if mends and not after_repair:
        output.say(
            f"{mends} of these {'is' if mends == 1 else 'are'} mended by: headrace doctor --repair"
        )


def _as_json(
    url: str, server: ServerInfo, found: Checkup, repaired: Sequence[Repaired]
) -> dict[str, Any]:
    counts = Counter(finding.severity for finding in found.findings)
    return {
        "url": url,
        "server": asdict(server) | {"version": ".".join(map(str, server.version))},
        "healthy": not counts["problem"],
        "counts": {severity: counts[severity] for severity in SEVERITIES},
        "leader": found.server.leader or None,
        "mended": [asdict(one) for one in repaired],
        "findings": [asdict(finding) for finding in found.findings],
    }
