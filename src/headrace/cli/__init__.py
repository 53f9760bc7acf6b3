"""The command line: ``headrace serve | consume | produce | info | dlq | doctor | explain | audit | …``.

Exit codes: 0 it is done; 1 it failed (Redis is away, a job failed, a dead letter is not there);
2 the command line makes no sense; 10 to 15 Redis refuses, see ``headrace.errors``; 130 ended by
Ctrl-C. What went wrong is one line on the standard error; ``-l debug`` adds the traceback. A server
or consumer that is stopped ends with 0.

Each command has a file of its own, which is imported when it is called, or its help is asked for.
"""

from __future__ import annotations

import gc
import logging
import os
import sys
import traceback
from typing import Any, Final

from cyclopts import (
    App,
    ArgumentCollection,
    CycloptsError,
    MissingArgumentError,
    Parameter,
    UnusedCliTokensError,
)
from cyclopts.config import Env

from headrace import __version__
from headrace.cli import output
from headrace.cli.flags import ARGUMENTS, OPTIONS, shown_default
from headrace.errors import HeadraceError, InvalidSetting

DONE: Final = 0
FAILED: Final = HeadraceError.exit_code
USAGE: Final = InvalidSetting.exit_code
INTERRUPTED: Final = 130
READER_GONE: Final = 141  # as a shell shows SIGPIPE

_HELP: Final = """A job queue on Redis: many producers, many consumers, one list. Nothing is lost.

$ headrace serve             # a Redis if there is none, and the page
$ headrace consume shop      # run the jobs of the tasks in shop.py
$ headrace produce add 1 2   # enqueue a job
$ headrace info              # see where jobs are
"""

_EPILOGUE: Final = (
    "Any option can be set in the environment: HEADRACE, the command and the option, as in "
    "HEADRACE_CONSUME_MAX_JOBS=100. HEADRACE_URL tells all commands where Redis is.\n\n"
    "Exit codes: 0 done, 1 failed, 2 wrong usage, 130 ended by Ctrl-C; when waiting for "
    "Redis does not help: 10 wrong or no password, 11 not permitted, 12 no such database, "
    "13 too old or no Redis, 14 a cluster, 15 its host's name is unknown."
)


def _drop_empty_variables(
    _app: App, _commands: tuple[str, ...], arguments: ArgumentCollection
) -> None:
    """Take an empty environment variable for one that is not set."""
    for argument in arguments:
        argument.tokens[:] = [
            token for token in argument.tokens if token.source != "env" or token.value
        ]


app: App = App(
    name="headrace",
    help=_HELP,
    help_epilogue=_EPILOGUE,
    help_format="plaintext",
    version=f"headrace {__version__}",
    config=(Env("HEADRACE_", show=False), _drop_empty_variables),
    default_parameter=Parameter(negative=(), show_default=shown_default),
    group_arguments=ARGUMENTS,
    group_parameters=OPTIONS,
    suppress_keyboard_interrupt=False,
    result_action="return_value",
)
# In the order of the help page: a command, and what its usage line says after its name.
_COMMANDS: Final = (
    ("serve", "[OPTIONS]"),
    ("consume", "[APP] [OPTIONS]"),
    ("produce", "[TASK] [ARGS...] [OPTIONS]"),
    ("info", "[QUEUE...] [OPTIONS]"),
    ("top", "[OPTIONS]"),
    ("cancel", "ID... [OPTIONS]"),
    ("pause", "QUEUE... [OPTIONS]"),
    ("resume", "QUEUE... [OPTIONS]"),
    ("limit", "QUEUE [TASK] [OPTIONS]"),
    ("partition", "QUEUE [N] [OPTIONS]"),
    ("forget", "[QUEUE...] [OPTIONS]"),
    ("move", "QUEUE --to URL [OPTIONS]"),
    ("doctor", "[QUEUE...] [OPTIONS]"),
    ("explain", "ID [QUEUE] [OPTIONS]"),
    ("workflow", "ID [OPTIONS]"),
    ("audit", "[QUEUE...] [OPTIONS]"),
    ("consumers", "[OPTIONS]"),
    ("token", "NAME [OPTIONS]"),
    ("completion", "SHELL"),
    ("demo", "[OPTIONS]"),
)
_FILES: Final = {"resume": "pause"}  # where a command is, if not in a file of its name
for _place, (_name, _usage) in enumerate(_COMMANDS):
    app.command(
        # By name, and so imported when it is called: each starts sooner without the others.
        f"headrace.cli.{_FILES.get(_name, _name)}:{_name}",
        alias="worker" if _name == "consume" else (),  # what others call it
        usage=f"Usage: headrace {_name} {_usage}",
        sort_key=float(_place),
    )
for _name in ("dlq", "schedule"):  # their places are their own
    app.command(f"headrace.cli.{_name}:{_name}")


def main(argv: list[str] | None = None) -> int:
    """Run a command line, by default the one of this process; return the exit code."""
    output.accept_any_text()
    if argv is None:
        gc.freeze()  # what was imported stays: to look through it for garbage costs a tenth of a command
    words = sys.argv[1:] if argv is None else argv
    if words[:1] == ["worker"]:  # replaced, so that its variables in the environment are the same
        words = ["consume", *words[1:]]
    if not words or words[0] in app.help_flags:
        app.resolved_commands()  # imports all, for the page says what each does
    try:
        code: Any = app(words, exit_on_error=False, print_error=False)
        sys.stdout.flush()
    except CycloptsError as error:
        output.complain(_in_words(error))
        return USAGE
    except HeadraceError as error:
        if logging.getLogger().isEnabledFor(logging.DEBUG):
            traceback.print_exception(error)
        output.complain(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Else the interpreter fails once more when it flushes on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return READER_GONE
    return code if isinstance(code, int) else DONE


def _in_words(error: CycloptsError) -> str:
    error.verbose = False
    command = " ".join(("headrace", *(error.command_chain or ())))
    said = str(error)
    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        said = f"{command} does not take {' '.join(error.unused_tokens)!r}."
    elif isinstance(error, MissingArgumentError) and error.argument and not error.keyword:
        said = f"{command} needs {error.argument.name}."
    return f"{said} See: {command} --help"
