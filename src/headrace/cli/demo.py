"""``headrace demo``: a queue at work, on a private server."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from headrace.cli.flags import help_page


@help_page
def demo(
    *,
    consumers: Annotated[
        int, Parameter(metavar="N", validator=Number(gte=2, lte=64), help="So many consumers.")
    ] = 3,
    keep: Annotated[
        bool, Parameter(help="Leave the data and the logs behind, and say where.")
    ] = False,
    cluster: Annotated[
        bool, Parameter(help="On a cluster of six nodes, of which a primary is killed.")
    ] = False,
) -> int:
    """See a queue at work: a consumer and Redis are killed, and nothing is lost.

    $ headrace demo
    $ headrace demo --consumers 5
    $ headrace demo --cluster

    It shows the commands that it runs, and what they answer. All of it runs on a server of its own,
    in a temporary directory, and is cleaned up. Exit code: 0 nothing was lost, 1 something was.
    """
    from headrace.demo.show import run_demo

    return run_demo(consumers=consumers, keep=keep, cluster=cluster)
