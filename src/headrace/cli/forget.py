"""``headrace forget``: forget empty queues."""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

from cyclopts import Parameter

from headrace import logs
from headrace import operations as op
from headrace.cli import output
from headrace.cli.connection import answers, connected, known_queues
from headrace.cli.flags import LogLevel, Url, help_page
from headrace.errors import InvalidSetting
from headrace.keys import keys_of
from headrace.operations import ForgetAnswer

Queues: TypeAlias = Annotated[str, Parameter(name="QUEUE", help="These queues.")]
Empty: TypeAlias = Annotated[bool, Parameter(help="All queues that are empty and not paused.")]

_A_TRIP: Final = 500
_WHY: Final = {"used": "it holds jobs or dead letters", "paused": "it is paused"}


@help_page
def forget(
    *queues: Queues,
    empty: Empty = False,
    url: Url = None,
    log_level: LogLevel = "warning",
) -> int:
    """Forget empty queues.

    $ headrace forget emails
    $ headrace forget --empty

    Their counters are added to those of the queues that were forgotten before. Whoever enqueues a job
    makes a queue known again, and so does a consumer, within half a minute. A queue that has been empty and
    unused for a day is forgotten by itself.
    """
    logs.configure(log_level)
    if bool(queues) == empty:
        raise InvalidSetting("name the queues to be forgotten, or give --empty")
    with connected(url) as store:
        names = known_queues(store, [keys_of(queue).queue for queue in queues])
        said: list[ForgetAnswer] = []
        for start in range(0, len(names), _A_TRIP):
            requests = [op.forget(keys_of(name), 0) for name in names[start : start + _A_TRIP]]
            said += answers(store, requests)
    words = dict(zip(names, said, strict=True))
    for name in queues:
        word = words[name]
        output.say(
            f"{name} is " + (word if word == "forgotten" else f"not forgotten: {_WHY[word]}")
        )
    if empty:
        output.say(f"{said.count('forgotten'):,} queues are forgotten")
    return 0 if empty or set(said) == {"forgotten"} else 1
