"""``headrace forget``: forget empty queues."""

from __future__ import annotations

from typing import Annotated, Final

from cyclopts import Parameter

from headrace import forgetting
from headrace import operations as op
from headrace.cli import output
from headrace.cli.connection import Connection, known_queues
from headrace.cli.flags import help_page
from headrace.doctor.humanize import counted
from headrace.errors import InvalidSetting
from headrace.keys import keys_of

_A_TRIP: Final = 500
_SAID: Final = {
    "forgotten": "is forgotten",
    "used": "is not forgotten: it holds jobs or dead letters",
    "paused": "is not forgotten: it is paused",
}


@help_page
def forget(
    *queues: Annotated[str, Parameter(name="QUEUE", help="These queues.")],
    empty: Annotated[bool, Parameter(help="All queues that are empty and not paused.")] = False,
    connection: Connection = Connection(),
) -> int:
    """Forget empty queues.

    $ headrace forget emails
    $ headrace forget --empty

    Their counters are added to those of the queues that were forgotten before. Whoever enqueues a
    job makes a queue known again, and so does a consumer, within half a minute. A queue that has
    been empty and unused for a day is forgotten by itself.
    """
    if bool(queues) == empty:
        raise InvalidSetting("name the queues to be forgotten, or give --empty")
    with connection.store() as store:
        names = known_queues(store, queues)
        said: list[forgetting.ForgetAnswer] = []
        for start in range(0, len(names), _A_TRIP):
            some = [*map(keys_of, names[start : start + _A_TRIP])]
            said += op.unfailed(store.follow(forgetting.forget(some, 0)))
    if empty:
        output.say(f"{counted(said.count('forgotten'), 'queue')} forgotten")
        return 0
    for name, word in zip(names, said, strict=True):
        output.say(f"{name} {_SAID[word]}")
    return 0 if set(said) == {"forgotten"} else 1
