"""``headrace limit``: show a queue's limits, or set them over what the application declares."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import unquote

from cyclopts import Parameter

from headrace import operations as op
from headrace.cli import output
from headrace.cli.connection import Connection
from headrace.cli.flags import help_page
from headrace.errors import InvalidSetting
from headrace.keys import keys_of
from headrace.lanes import Limit, name_of
from headrace.lanes import limit as read_limit
from headrace.lanes import operations as lanes
from headrace.lanes.declared import AGEING, PART
from headrace.lanes.limit import EACH_KEY, WHOLE_QUEUE, parse
from headrace.partitions import view
from headrace.partitions.requests import shares


@help_page
def limit(
    queue: Annotated[str, Parameter(name="QUEUE", help="This queue.")],
    task: Annotated[
        str | None, Parameter(name="TASK", help="This task of it; without one, the whole queue.")
    ] = None,
    /,
    *,
    rate: Annotated[str | None, Parameter(help="Jobs in a time: 100/s, 10/m, 1/10s.")] = None,
    burst: Annotated[int | None, Parameter(help="So many at once after a rest.")] = None,
    concurrency: Annotated[int | None, Parameter(help="So many at once.")] = None,
    each: Annotated[bool, Parameter(help="For each key by itself, as limit_by says.")] = False,
    clear: Annotated[bool, Parameter(help="Take back what was set here.")] = False,
    connection: Connection = Connection(),
) -> int:
    """Show a queue's limits, or set them over what the application declares.

    $ headrace limit emails
    $ headrace limit emails send --rate 50/s
    $ headrace limit emails send --clear

    What is set holds at once, for what waits too, and until it is cleared; in a queue with partitions,
    for all of them together.
    """
    name = name_of(task) + (EACH_KEY if each else "")
    wanted = read_limit(rate, concurrency, burst)
    if clear and wanted is not None:
        raise InvalidSetting("give either a limit or --clear")
    with connection.store() as store:
        parts = store.follow(view.look([queue])).get(queue, [queue])
        if name == WHOLE_QUEUE and wanted and 0 < wanted.concurrency < len(parts):
            raise InvalidSetting(
                f"queue {queue} has {len(parts)} partitions, in each of which one job at least may run: "
                f"{wanted.concurrency} at once are too few"
            )
        if clear or wanted is not None:
            change = {f"!{name}": "" if wanted is None else str(wanted)}
            shared = shares(parts) if wanted is not None and name == WHOLE_QUEUE else []
            changed = [one for part in parts for one in lanes.declaration(keys_of(part), change)]
            op.unfailed(store.run_all([*shared, *changed]))
        read = op.unfailed(store.run_all([lanes.limits(keys_of(part)) for part in parts]))
        found = {name: text for limits in read for name, text in limits.items()}
    for line in _lines(found) or [f"{queue} has no limits"]:
        output.say(line)
    return 0


def _lines(found: dict[str, str]) -> list[str]:
    lines = []
    for name in sorted({name.removeprefix("!") for name in found}):
        text = found.get(f"!{name}", found.get(name, ""))
        if name == PART:
            continue
        if name == AGEING:
            lines.append(f"a point of priority is worth {int(text) / 1000:g} s of waiting")
            continue
        whose = name.removesuffix(EACH_KEY)
        of = "the queue" if whose == WHOLE_QUEUE else unquote(whose)
        each = ", each key" if name != whose else ""
        by = " (set by an operator)" if f"!{name}" in found else ""
        lines.append(f"{of}{each}: {_in_words(parse(text))}{by}")
    return lines


def _in_words(one: Limit) -> str:
    parts = []
    if one.rate:
        parts.append(f"{one.rate:,.6g} jobs/s, {one.burst:,} at once after a rest")
    if one.concurrency:
        parts.append(f"{one.concurrency:,} at once")
    return "; ".join(parts) or "none"
