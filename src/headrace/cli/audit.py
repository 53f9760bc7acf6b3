"""``headrace audit``: is every job that was accepted accounted for?"""

from __future__ import annotations

import re
from typing import Annotated, Final, TypeAlias

from cyclopts import Parameter

from headrace import logs
from headrace import operations as op
from headrace.cli import output
from headrace.cli.connection import connected, known_queues
from headrace.cli.flags import Json, LogLevel, Url, help_page
from headrace.cli.prose import say_paragraph, say_styled
from headrace.doctor import Balance, balance_of, equation, total
from headrace.errors import StoreError
from headrace.keys import keys_of

QueueNames: TypeAlias = Annotated[
    str, Parameter(name="QUEUE", help="Only these queues; without one, all.")
]
ForeignOk: TypeAlias = Annotated[
    bool,
    Parameter("--foreign-ok", help="Plain clients bring or take jobs here: that is no failure."),
]

_TOTAL: Final = "total"


@help_page
def audit(
    *queues: QueueNames,
    foreign_ok: ForeignOk = False,
    json: Json = False,
    url: Url = None,
    log_level: LogLevel = "warning",
) -> int:
    """Add up where all jobs are that were ever accepted.

    $ headrace audit
    $ headrace audit emails --foreign-ok
    $ headrace audit --json | jq '.total.foreign'

    Each queue is counted at one instant. Foreign is what plain clients brought, less what they took:
    the rest of the sum, and 0 when only Headrace moves jobs. Exit code: 0 it adds up, 1 foreign is
    not 0.
    """
    logs.configure(log_level)
    with connected(url) as store:
        names = known_queues(store, [keys_of(queue).queue for queue in queues])
        found = store.run_all([op.snapshot(keys_of(name)) for name in names])
    snapshots = [answer for answer in found if not isinstance(answer, StoreError)]
    for answer in found:
        if isinstance(answer, StoreError):  # one queue's keys may be another program's
            output.complain(f"a queue is left out: {answer}; see headrace doctor")
    balances = {snapshot.queue: balance_of(snapshot) for snapshot in snapshots}
    foreign = any(one["foreign"] for one in balances.values())
    if json:
        each = [{"queue": s.queue, "now_ms": s.now_ms, **balances[s.queue]} for s in snapshots]
        whole = total(balances.values())
        output.say_json({"adds_up": not foreign, "queues": each, _TOTAL: whole})
    else:
        _say(balances, foreign_ok=foreign_ok)
    return int(len(snapshots) < len(found) or (foreign and not foreign_ok))


def _say(balances: dict[str, Balance], *, foreign_ok: bool) -> None:
    shown = dict(balances)
    if len(balances) > 1:
        shown[_TOTAL] = total(balances.values())
    width = max(map(len, shown), default=0) + 2
    for name, one in shown.items():
        good = not one["foreign"] or foreign_ok
        style = "" if not one["foreign"] else "yellow" if good else "bold red"
        first_style = "bold" if name == _TOTAL and len(balances) > 1 else ""
        # A number and its name stay on one line.
        written = re.sub(r"(\d) (\w)", "\\1\xa0\\2", equation(one))
        say_paragraph(written, first=name, indent=width, style=style, first_style=first_style)
    foreign = [one["foreign"] for one in balances.values() if one["foreign"]]
    if not balances:
        return
    output.say()
    if not foreign:
        say_styled(("Every job is accounted for.", "green"))
        return
    brought, took = sum(n for n in foreign if n > 0), -sum(n for n in foreign if n < 0)
    parts = [f"brought {brought:,}"] if brought else []
    parts += [f"took {took:,}"] if took else []
    say_paragraph(
        f"Plain clients {' and '.join(parts)}: that is what the jobs do not add up by."
        + ("" if foreign_ok else " If they may, add --foreign-ok."),
        style="yellow",
    )
