"""``headrace token``: make a token for the server's file."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from cyclopts import Parameter

from headrace.access import Role, new_token
from headrace.cli import output
from headrace.cli.flags import help_page


@help_page
def token(
    name: Annotated[str, Parameter(name="NAME", help="Whose it is: it stands in the log.")],
    /,
    *,
    role: Annotated[Role, Parameter(help="What it may do.")] = "viewer",
    queue: Annotated[
        list[str] | None,
        Parameter(alias="-q", metavar="QUEUE", help="In this queue alone; may be repeated."),
    ] = None,
    expires: Annotated[
        datetime | None, Parameter(metavar="DATE", help="Until it begins, in UTC: 2027-01-01.")
    ] = None,
) -> int:
    """Make a token; what the server keeps of it goes to the standard output.

    $ headrace token grafana >> tokens.toml
    $ headrace token mailer --role consumer --queue emails >> tokens.toml
    $ headrace serve --tokens tokens.toml

    The token itself is shown once, and kept nowhere: in the file stands its digest. A viewer sees, a
    producer enqueues, a consumer claims, an operator sees, enqueues and changes what waits, an admin
    deletes, too. The server reads the file again when it changes; to revoke a token, take it out.
    """
    made, entry = new_token(name, role, queue or [], expires.date() if expires else None)
    for line in (*entry.splitlines(), ""):
        output.say(line)
    output.note(f"the token of {name}, shown this once: {made}")
    return 0
