"""``headrace dlq``: look at dead letters, put them back, delete them."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Annotated, Final, TypeAlias

from cyclopts import App, Parameter

from headrace import flows, redaction
from headrace import operations as op
from headrace.cli import output
from headrace.cli.connection import Connection, known_queues
from headrace.cli.dead_letters import as_json, dead_letters, lines, row
from headrace.cli.flags import ARGUMENTS, OPTIONS, Count, Json, Queue, help_page
from headrace.cli.output import Column, Line, Table
from headrace.doctor import command
from headrace.doctor import dead_letters as letters_
from headrace.doctor.dead_letters import DeadLetter, read
from headrace.doctor.humanize import counted
from headrace.errors import InvalidJob, InvalidSetting
from headrace.keys import keys_of
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

_ACTIONS: Final = {"redriven": letters_.redrive, "purged": letters_.purge}

Ids: TypeAlias = Annotated[str, Parameter(name="ID", help="Their ids, as list shows them.")]
Reason: TypeAlias = Annotated[
    str | None,
    Parameter(metavar="REASON", help="Those with this reason: max_attempts, timeout, …"),
]

dlq: App = App(
    name="dlq", help=_HELP, sort_key=3.5, group_arguments=ARGUMENTS, group_parameters=OPTIONS
)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which dead letters are meant, unless they are named by their ids, and where."""

    reason: Reason = None
    all_: Annotated[bool, Parameter("--all")] = False
    """All of them."""
    queue: Queue = None


@dataclass(slots=True)
class Choice:
    """Whether a dead letter is meant; called with the bytes of each.

    Attributes:
        ids: these are meant.
        selection: or these.
        met: the ids of those that were, as far as it was called.

    Raises:
        InvalidJob: the command line does not say exactly one thing.
    """

    ids: frozenset[str]
    selection: Selection
    met: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        said = [bool(self.ids), self.selection.reason is not None, self.selection.all_]
        if said.count(True) != 1:
            raise InvalidJob("say which dead letters: their ids, or --reason REASON, or --all")

    def __call__(self, raw: bytes) -> bool:
        """Whether this one is meant."""
        letter, reason = read("", raw), self.selection.reason
        meant = self.selection.all_ or letter.id in self.ids or letter.error.reason == reason
        if meant:
            self.met.append(letter.id)
        return meant


@dlq.command(name="list", usage="Usage: headrace dlq list [QUEUE] [OPTIONS]", sort_key=0)
@help_page
def list_(
    queue: Queue = None,
    *,
    reason: Reason = None,
    limit: Annotated[Count, Parameter(help="Number of dead letters to list; 0 for all.")] = 20,
    json: Json = False,
    connection: Connection = Connection(),
) -> int:
    """List dead letters, newest first.

    $ headrace dlq list
    $ headrace dlq list emails --reason timeout --limit 0
    """
    with connection.store() as store:
        queues = known_queues(store, [queue])
        total = _count(store, queues)
        found: list[DeadLetter] = []
        for name in queues:
            letters = dead_letters(store, name)
            meant = (one for one in letters if reason in (None, one.error.reason))
            found += islice(meant, limit or None)
    found.sort(key=lambda letter: -letter.error.failed_at)
    found = found[: limit or None]
    output.show([as_json(one) for one in found], _list_lines(found, total, reason), json=json)
    return 0


def _list_lines(found: Sequence[DeadLetter], total: int, reason: str | None) -> Iterator[Line]:
    if found or not output.on_terminal():
        yield Table(_COLUMNS, [row(letter) for letter in found])
    else:
        yield f"No dead letters{f' with the reason {reason}' if reason else ''}."
    if found and output.on_terminal():
        yield ""
        if reason is None and len(found) < total:
            yield f"{len(found):,} of {total:,}; all: --limit 0"
        yield "More: headrace dlq show ID    Put back: headrace dlq redrive ID"


@dlq.command(usage="Usage: headrace dlq show ID [QUEUE] [OPTIONS]", sort_key=1)
@help_page
def show(
    job_id: Annotated[str, Parameter(name="ID", help="Its id, as list shows it.")],
    /,
    queue: Queue = None,
    *,
    json: Json = False,
    connection: Connection = Connection(),
) -> int:
    """Show a dead letter whole: the call, the error, its traceback.

    $ headrace dlq show 06f8c1…
    """
    with connection.store() as store:
        for name in known_queues(store, [queue]):
            for letter in dead_letters(store, name):
                if letter.id == job_id:
                    # As it is in Redis, where that is JSON: the fields that nobody here knows, too.
                    whole = letter.fields or {
                        "payload_base64": b64encode(redaction.shown(letter.raw)).decode()
                    }
                    output.show(whole, _letter_lines(letter), json=json)
                    return 0
    return _not_there([job_id], queue)


def _letter_lines(letter: DeadLetter) -> Iterator[Line]:
    yield from lines(letter)
    if output.on_terminal():
        yield from ("", f"Put it back: {command('dlq', 'redrive', of=letter.id)}")


@dlq.command(usage="Usage: headrace dlq redrive ID... | --reason REASON | --all", sort_key=2)
@help_page
def redrive(
    *ids: Ids,
    selection: Selection = Selection(),
    json: Json = False,
    connection: Connection = Connection(),
) -> int:
    """Put dead letters back into their queues.

    $ headrace dlq redrive 06f8c1… 06f8c2…
    $ headrace dlq redrive --reason timeout
    $ headrace dlq redrive --all --queue emails

    The oldest goes first. Their attempts start anew.
    """
    with connection.store() as store:
        choice = Choice(frozenset(filter(None, ids)), selection)
        return _carry_out(store, "redriven", choice, choice, json=json)


@dlq.command(usage="Usage: headrace dlq purge ID... | --reason REASON | --all", sort_key=3)
@help_page
def purge(
    *ids: Ids,
    selection: Selection = Selection(),
    yes: Annotated[bool, Parameter(alias="-y", help="Do not ask.")] = False,
    json: Json = False,
    connection: Connection = Connection(),
) -> int:
    """Delete dead letters for good. It asks before it does.

    $ headrace dlq purge 06f8c1…
    $ headrace dlq purge --reason unknown_task
    $ headrace dlq purge --all --queue emails --yes
    """
    with connection.store() as store:
        choice = Choice(frozenset(filter(None, ids)), selection)
        if not yes and not output.can_ask():
            raise InvalidSetting("purge deletes for good, and there is nobody to ask: add --yes")
        meant = choice if yes else _confirmed(store, choice)
        if meant is None:
            output.note("nothing was deleted")
            return 1
        return _carry_out(store, "purged", choice, meant, json=json)


def _count(store: Store, queues: Sequence[str]) -> int:
    counts = store.run_all([op.snapshot(keys_of(name)) for name in queues])
    return sum(snapshot.dead for snapshot in op.unfailed(counts))


def _confirmed(store: Store, choice: Choice) -> letters_.Chosen | None:
    """Ask before letters are deleted; return the test that they pass, or None if they shall stay.

    Those that die after the question are not meant.
    """
    seen: set[bytes] = set()
    where: list[str] = []
    for name in known_queues(store, [choice.selection.queue]):
        found = [one.raw for one in dead_letters(store, name) if choice(one.raw)]
        seen.update(found)
        where += [f"{len(found):,} in {name}"] if found else []
    if where and not output.confirmed(f"Delete dead letters for good: {', '.join(where)}?"):
        return None
    return seen.__contains__


def _carry_out(
    store: Store, word: str, choice: Choice, meant: letters_.Chosen, *, json: bool
) -> int:
    """Redrive or purge the dead letters that are meant, say how many it was; return the exit code."""
    queues, action = known_queues(store, [choice.selection.queue]), _ACTIONS[word]
    there, done = _count(store, queues), 0
    total = there if choice.selection.all_ else None
    with output.progress(word, total, show=there > flows.PAGE) as show:
        for name in queues:

            def shown(count: int, before: int = done) -> None:
                show(before + count)  # a flow counts from 0

            done += store.follow(action(keys_of(name), meant, shown))
    missing = sorted(choice.ids.difference(choice.met))
    line = f"{counted(done, 'dead letter')} {word}"
    output.show({word: done, "missing": missing}, [line], json=json)
    if missing:
        return _not_there(missing, choice.selection.queue)
    # Those of a reason have to be there; all of nothing are.
    return int(choice.selection.reason is not None and not choice.met)


def _not_there(ids: Sequence[str], queue: str | None) -> int:
    where = f"in {queue}" if queue else "in any queue"
    output.complain(f"no dead letter {', '.join(ids)} {where}; headrace dlq list shows them")
    return 1
