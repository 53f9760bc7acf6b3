"""``headrace dlq``: look at dead letters, put them back, delete them."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Annotated, Final, TypeAlias

from cyclopts import App, Parameter
from cyclopts.validators import Number

from headrace import flows, logs
from headrace import operations as op
from headrace.cli import output
from headrace.cli.connection import answers, connected, known_queues
from headrace.cli.flags import ARGUMENTS, OPTIONS, Json, LogLevel, Queue, Url, help_page
from headrace.cli.letters import Choice, Letter, choice, letters
from headrace.cli.output import Column
from headrace.doctor import command
from headrace.doctor.humanize import counted
from headrace.errors import InvalidSetting
from headrace.flows import Flow
from headrace.keys import Keys, keys_of
from headrace.logs import one_line
from headrace.store import Store

_HELP: Final = """Look at dead letters, jobs that failed for good; put them back.

$ headrace dlq list
$ headrace dlq show ID
$ headrace dlq redrive --reason timeout
$ headrace dlq purge --all --queue emails
"""

_COLUMNS: Final = (
    Column("Id", "cyan"),
    Column("Queue", least=8),
    Column("Task", least=8),
    Column("Reason"),
    Column("Age"),
    Column("Error", "red", least=12),
)

Limit: TypeAlias = Annotated[
    int, Parameter(metavar="N", validator=Number(gte=0), help="At most so many; 0 all.")
]
OfReason: TypeAlias = Annotated[
    str | None,
    Parameter(
        "--reason", metavar="REASON", help="Those with this reason: max_attempts, timeout, …"
    ),
]
Ids: TypeAlias = Annotated[str, Parameter(name="ID", help="Their ids, as list shows them.")]
All: TypeAlias = Annotated[bool, Parameter("--all", help="All of them.")]
Yes: TypeAlias = Annotated[bool, Parameter(("--yes", "-y"), help="Do not ask.")]

Meant: TypeAlias = Callable[[bytes], bool]
Action: TypeAlias = Callable[[Keys, Meant, Callable[[int], None]], Flow[int]]

dlq = App(name="dlq", help=_HELP, sort_key=3.5, group_arguments=ARGUMENTS, group_parameters=OPTIONS)


@dlq.command(name="list", usage="Usage: headrace dlq list [QUEUE] [OPTIONS]", sort_key=0)
@help_page
def list_(
    queue: Queue = None,
    *,
    reason: OfReason = None,
    limit: Limit = 20,
    json: Json = False,
    url: Url = None,
    log_level: LogLevel = "warning",
) -> int:
    """List dead letters, newest first.

    $ headrace dlq list
    $ headrace dlq list emails --reason timeout --limit 0
    """
    logs.configure(log_level)
    with connected(url) as store:
        queues = _queues(store, queue)
        total = _count(store, queues)
        found = [
            letter
            for name in queues
            for letter in islice(_with_reason(store, name, reason), limit or None)
        ]
    found.sort(key=lambda letter: -letter.error.failed_at)
    found = found[: limit or None]
    if json:
        output.say_json([letter.as_json() for letter in found])
    elif found or not output.on_terminal():
        output.say_table(_COLUMNS, [_row(letter) for letter in found])
    if output.on_terminal() and not json:
        _remark(found, total, reason)
    return 0


@dlq.command(usage="Usage: headrace dlq show ID [QUEUE] [OPTIONS]", sort_key=1)
@help_page
def show(
    job_id: Annotated[str, Parameter(name="ID", help="Its id, as list shows it.")],
    /,
    queue: Queue = None,
    *,
    json: Json = False,
    url: Url = None,
    log_level: LogLevel = "warning",
) -> int:
    """Show a dead letter whole: the call, the error, its traceback.

    $ headrace dlq show 06f8c1…
    """
    logs.configure(log_level)
    with connected(url) as store:
        for name in _queues(store, queue):
            for letter in letters(store, name):
                if letter.id == job_id:
                    _say_letter(letter, json=json)
                    return 0
    return _not_there([job_id], queue)


@dlq.command(usage="Usage: headrace dlq redrive ID... | --reason REASON | --all", sort_key=2)
@help_page
def redrive(
    *ids: Ids,
    reason: OfReason = None,
    all_: All = False,
    queue: Queue = None,
    json: Json = False,
    url: Url = None,
    log_level: LogLevel = "warning",
) -> int:
    """Put dead letters back into their queues.

    $ headrace dlq redrive 06f8c1… 06f8c2…
    $ headrace dlq redrive --reason timeout
    $ headrace dlq redrive --all --queue emails

    The oldest goes first. Their attempts start anew.
    """
    logs.configure(log_level)
    chosen = choice(ids, reason=reason, everything=all_)
    with connected(url) as store:
        moved = _each(store, _queues(store, queue), chosen, flows.redrive, "redriven")
    return _outcome("redriven", moved, chosen, queue, json=json)


@dlq.command(usage="Usage: headrace dlq purge ID... | --reason REASON | --all", sort_key=3)
@help_page
def purge(
    *ids: Ids,
    reason: OfReason = None,
    all_: All = False,
    yes: Yes = False,
    queue: Queue = None,
    json: Json = False,
    url: Url = None,
    log_level: LogLevel = "warning",
) -> int:
    """Delete dead letters for good. It asks before it does.

    $ headrace dlq purge 06f8c1…
    $ headrace dlq purge --reason unknown_task
    $ headrace dlq purge --all --queue emails --yes
    """
    logs.configure(log_level)
    chosen = choice(ids, reason=reason, everything=all_)
    if not yes and not output.can_ask():
        raise InvalidSetting("purge deletes for good, and there is nobody to ask: add --yes")
    with connected(url) as store:
        queues = _queues(store, queue)
        meant = chosen if yes else _confirmed(store, queues, chosen)
        if meant is None:
            output.note("nothing was deleted")
            return 1
        purged = _each(store, queues, meant, flows.purge, "purged")
    return _outcome("purged", purged, chosen, queue, json=json)


def _queues(store: Store, queue: str | None) -> list[str]:
    return known_queues(store, [keys_of(queue).queue] if queue else [])


def _count(store: Store, queues: Sequence[str]) -> int:
    return sum(s.dead for s in answers(store, [op.snapshot(keys_of(name)) for name in queues]))


def _with_reason(store: Store, queue: str, reason: str | None) -> Iterator[Letter]:
    found = letters(store, queue)
    return (letter for letter in found if reason is None or letter.error.reason == reason)


def _row(letter: Letter) -> list[str | int | None]:
    error = letter.error
    message = letter.message.partition("\n")[0]
    return [letter.id, letter.queue, letter.task, error.reason, letter.age(), message]


def _remark(found: Sequence[Letter], total: int, reason: str | None) -> None:
    if not found:
        of_reason = f" with the reason {reason}" if reason else ""
        output.say(f"No dead letters{of_reason}.")
        return
    output.say()
    if reason is None and len(found) < total:
        output.say(f"{len(found):,} of {total:,}; all: --limit 0")
    output.say("More: headrace dlq show ID    Put back: headrace dlq redrive ID")


def _say_letter(letter: Letter, *, json: bool) -> None:
    if json:
        # As it is in Redis, where that is JSON: the fields that nobody here knows, too.
        shown = letter.fields or {"payload_base64": b64encode(letter.raw).decode()}
        output.say_json(shown)
        return
    letter.say()
    if output.on_terminal():
        output.say()
        output.say(one_line(f"Put it back: {command('dlq', 'redrive', of=letter.id)}"))


def _not_there(ids: Sequence[str], queue: str | None) -> int:
    where = f"in {queue}" if queue else "in any queue"
    output.complain(f"no dead letter {', '.join(ids)} {where}; headrace dlq list shows them")
    return 1


def _each(store: Store, queues: Sequence[str], meant: Meant, action: Action, word: str) -> int:
    """Do something with the letters that are meant, queue by queue; give how many it was."""
    there, done = _count(store, queues), 0
    total = there if isinstance(meant, Choice) and meant.everything else None
    with output.progress(word, total, show=there > flows.PAGE) as show:
        for name in queues:
            before = done  # the flow counts from 0 for each queue

            def progress(count: int, before: int = before) -> None:
                show(before + count)

            done += store.follow(action(keys_of(name), meant, progress))
    return done


def _confirmed(store: Store, queues: Sequence[str], chosen: Choice) -> Meant | None:
    """Ask before letters are deleted; give the test that they pass, or None when they shall stay.

    Those that die after the question are not meant.
    """
    seen: set[bytes] = set()
    where: list[str] = []
    for name in queues:
        found = [raw for raw in store.follow(flows.dead_letters(keys_of(name))) if chosen(raw)]
        seen.update(found)
        where += [f"{len(found):,} in {name}"] if found else []
    if where and not output.confirmed(f"Delete dead letters for good: {', '.join(where)}?"):
        return None
    return seen.__contains__


def _outcome(word: str, count: int, chosen: Choice, queue: str | None, *, json: bool) -> int:
    if json:
        output.say_json({word: count, "missing": chosen.missing})
    else:
        output.say(f"{counted(count, 'dead letter')} {word}")
    if chosen.missing:
        return _not_there(chosen.missing, queue)
    return 1 if chosen.failed else 0
