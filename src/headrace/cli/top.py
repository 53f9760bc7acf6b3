"""``headrace top``: queues and consumers, live."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from headrace.cli import output
from headrace.cli.connection import Connection, known_queues
from headrace.cli.consumers import table_of
from headrace.cli.flags import Seconds, help_page
from headrace.cli.info import Looks
from headrace.cli.watching import redraw
from headrace.doctor import consumers
from headrace.errors import InvalidSetting

if TYPE_CHECKING:
    from rich.console import RenderableType


@help_page
def top(
    *,
    interval: Annotated[Seconds, Parameter(help="How long between two looks.")] = 1.0,
    connection: Connection = Connection(),
) -> int:
    """Watch queues and consumers, until Ctrl-C.

    $ headrace top

    Elsewhere than on a terminal: headrace info --watch prints lines.
    """
    if not output.on_terminal():
        raise InvalidSetting("top draws on a terminal; headrace info --watch prints lines")
    with connection.store() as store:
        looks = Looks(store)

        def drawn() -> RenderableType:
            from rich.console import Group

            found, _ = store.follow(consumers.look(known_queues(store)))
            return Group(looks.drawn(), "", table_of(found).drawn())

        redraw(drawn, interval)
    return 0
