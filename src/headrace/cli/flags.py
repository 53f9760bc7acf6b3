"""Flags that several commands share: each is a type, with its names, its variable and its help."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from cyclopts import Group, Parameter

from headrace.policy import LeasePolicy

F = TypeVar("F", bound=Callable[..., Any])

ARGUMENTS = Group("Arguments", sort_key=0)
OPTIONS = Group("Options", sort_key=1)
LEASES = Group("Leases", sort_key=2)
COMMON = Group("Common options", sort_key=3)

Url: TypeAlias = Annotated[
    str | None,
    Parameter(
        "--url",
        group=COMMON,
        metavar="URL",
        help="Where Redis is; else HEADRACE_URL, else REDIS_URL, else redis://127.0.0.1:6379/0. "
        "Behind Sentinels: redis+sentinel://HOST,HOST,HOST/SERVICE.",
    ),
]

Level: TypeAlias = Literal["debug", "info", "warning", "error", "critical"]
LogLevel: TypeAlias = Annotated[
    Level,
    Parameter(
        ("--log-level", "-l"),
        group=COMMON,
        env_var="HEADRACE_LOG_LEVEL",
        metavar="LEVEL",
        help="What to log; debug shows the tracebacks of errors, too.",
    ),
]
LogFormat: TypeAlias = Annotated[
    Literal["text", "json"],
    Parameter(
        "--log-format",
        group=COMMON,
        env_var="HEADRACE_LOG_FORMAT",
        metavar="FORMAT",
        help="For people, or an object a line.",
    ),
]

AppName: TypeAlias = Annotated[
    str | None,
    Parameter(
        "--app",
        env_var="HEADRACE_APP",
        metavar="MODULE:OBJECT",
        help="Your application: then the call is checked, and its options are the task's.",
    ),
]
Queue: TypeAlias = Annotated[
    str | None,
    Parameter(("--queue", "-q"), metavar="QUEUE", help="Only in this queue; without it, in all."),
]
Json: TypeAlias = Annotated[bool, Parameter("--json", help="Print JSON, for programs.")]

Lease: TypeAlias = Annotated[
    float,
    Parameter(
        "--lease",
        group=LEASES,
        env_var="HEADRACE_LEASE",
        metavar="SECONDS",
        help="How long a lost consumer's jobs wait for another one. Give all programs the same.",
    ),
]
BareLease: TypeAlias = Annotated[
    float,
    Parameter(
        "--bare-lease",
        group=LEASES,
        env_var="HEADRACE_BARE_LEASE",
        metavar="SECONDS",
        help="How long a plain BRPOPLPUSH consumer may take for a job.",
    ),
]
MaxCrashes: TypeAlias = Annotated[
    int,
    Parameter(
        "--max-crashes",
        group=LEASES,
        env_var="HEADRACE_MAX_CRASHES",
        metavar="N",
        help="Lost consumers after which a job is dead.",
    ),
]
POLICY = LeasePolicy()
"""The defaults of the three."""


def help_page(function: F) -> F:
    """Make a docstring a help page: paragraphs flow, lines that begin with ``$`` stay as they are."""
    page: list[str] = []
    for paragraph in inspect.cleandoc(function.__doc__ or "").split("\n\n"):
        lines = [line.strip() for line in paragraph.splitlines()]
        page.append(("\n" if lines[0].startswith("$") else " ").join(lines))
    function.__doc__ = "\n\n".join(page)
    return function


def shown_default(value: object) -> str | None:
    """Return a default as a help page shows it: nothing for what is off, no ``.0``."""
    if value is None or value is False:
        return None
    return f"{value:g}" if isinstance(value, float) else str(value)
