"""``headrace audit``: is every job that was accepted accounted for?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Final

from cyclopts import Parameter

from headrace import operations as op
from headrace.cli import output
from headrace.cli.connection import Connection, known_queues
from headrace.cli.flags import Json, Queues, help_page
from headrace.cli.output import Line, paragraph
from headrace.doctor import Balance, balance_of, equation, total
from headrace.errors import StoreError
from headrace.keys import keys_of
from headrace.partitions import view

_TOTAL: Final = "total"


@help_page
def audit(
    *queues: Queues,
    foreign_ok: Annotated[
        bool, Parameter(help="Plain clients bring or take jobs here: that is no failure.")
    ] = False,
    json: Json = False,
    connection: Connection = Connection(),
) -> int:
    """Add up where all jobs are that were ever accepted.

    $ headrace audit
    $ headrace audit emails --foreign-ok
    $ headrace audit --json | jq '.total.foreign'

    Each queue is counted at one instant. Foreign is what plain clients brought, less what they took:
    the rest of the sum, and 0 when only Headrace moves jobs. Exit code: 0 it adds up, 1 foreign is
    not 0.
    """
    with connection.store() as store:
        named = [keys_of(queue).queue for queue in queues]  # an invalid name is refused at once
        parts = store.follow(view.look(named))
        names = known_queues(store, named, parts)
        found = store.run_all([op.snapshot(keys_of(name)) for name in names])
    snapshots = view.joined((one for one in found if not isinstance(one, StoreError)), parts)
    for answer in found:
        if isinstance(answer, StoreError):  # one queue's keys may be another program's
            output.complain(f"a queue is left out: {answer}; see headrace doctor")
    balances = {snapshot.queue: balance_of(snapshot) for snapshot in snapshots}
    foreign = any(one["foreign"] for one in balances.values())
    each = [{"queue": s.queue, "now_ms": s.now_ms, **balances[s.queue]} for s in snapshots]
    whole = total(balances.values())
    answer_json = {"adds_up": not foreign, "queues": each, _TOTAL: whole}
    output.show(answer_json, _lines(balances, whole, foreign_ok=foreign_ok), json=json)
    failed = any(isinstance(one, StoreError) for one in found)
    return int(failed or (foreign and not foreign_ok))


def _lines(balances: Mapping[str, Balance], whole: Balance, *, foreign_ok: bool) -> Iterator[Line]:
    shown = dict(balances)
    if len(balances) > 1:
        shown[_TOTAL] = whole
    width = max(map(len, shown), default=0) + 2
    for name, one in shown.items():
        style = "" if not one["foreign"] else "yellow" if foreign_ok else "bold red"
        first_style = "bold" if name == _TOTAL and len(balances) > 1 else ""
        # A number and its name stay on one line.
        written = re.sub(r"(\d) (\w)", "\\1\xa0\\2", equation(one))
        yield from paragraph(
            written, first=name, indent=width, style=style, first_style=first_style
        )
    if not balances:
        return
    yield ""
    foreign = [one["foreign"] for one in balances.values() if one["foreign"]]
    if not foreign:
        yield (("Every job is accounted for.", "green"),)
        return
    brought, took = sum(n for n in foreign if n > 0), -sum(n for n in foreign if n < 0)
    parts = [f"brought {brought:,}"] if brought else []
    parts += [f"took {took:,}"] if took else []
    yield from paragraph(
        f"Plain clients {' and '.join(parts)}: that is what the jobs do not add up by."
        + ("" if foreign_ok else " If they may, add --foreign-ok."),
        style="yellow",
    )
