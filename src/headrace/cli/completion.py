"""``headrace completion``: what a shell needs to complete our commands."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from headrace.cli import output
from headrace.cli.flags import help_page


@help_page
def completion(
    shell: Annotated[
        Literal["bash", "zsh", "fish"], Parameter(name="SHELL", help="bash, zsh or fish.")
    ],
    /,
) -> int:
    """Print what a shell needs to complete commands and options.

    $ headrace completion bash > ~/.local/share/bash-completion/completions/headrace
    $ headrace completion zsh > "${fpath[1]}/_headrace"
    $ headrace completion fish > ~/.config/fish/completions/headrace.fish
    """
    from headrace.cli import app

    for line in app.generate_completion(prog_name="headrace", shell=shell).splitlines():
        output.say(line)
    return 0
