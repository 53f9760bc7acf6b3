"""``headrace demo``: a queue at work, on a private server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from headrace.cli.flags import Json, help_page


@help_page
def demo(
    *,
    files: Annotated[
        Path | None,
        Parameter(metavar="DIR", help="Count the files in here; without it, Python's own library."),
    ] = None,
    consumers: Annotated[
        int, Parameter(metavar="N", validator=Number(gte=1, lte=64), help="So many consumers.")
    ] = 3,
    no_kill: Annotated[bool, Parameter(help="Let all consumers live.")] = False,
    keep: Annotated[
        bool, Parameter(help="Leave the data and the logs behind, and say where.")
    ] = False,
    json: Json = False,
) -> int:
    """See a queue at work: a consumer is killed, and nothing is lost.

    $ headrace demo
    $ headrace demo --files src --consumers 5

    Each file in a folder is a job; they are counted, and the sums are checked. It all runs on a
    server of its own, in a temporary directory, and is cleaned up.
    """
    from headrace.demo.show import run_demo

    return run_demo(files=files, consumers=consumers, kill=not no_kill, keep=keep, json=json)
