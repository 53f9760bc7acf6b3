"""Options that several commands share, written once; records of them are part of a command's signature.

The docstring of a record's field is the help of its option.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Annotated, Any, TypeAlias, TypeVar

from cyclopts import Group, Parameter
from cyclopts.validators import Number

from headrace.policy import LeasePolicy

F = TypeVar("F", bound=Callable[..., Any])

ARGUMENTS = Group("Arguments", sort_key=0)
OPTIONS = Group("Options", sort_key=1)
LEASES = Group("Leases", sort_key=2)
COMMON = Group("Common options", sort_key=3)

Seconds: TypeAlias = Annotated[float, Parameter(metavar="SECONDS")]
Count: TypeAlias = Annotated[int, Parameter(metavar="N", validator=Number(gte=0))]
Positive: TypeAlias = Annotated[int, Parameter(metavar="N", validator=Number(gte=1))]
Port: TypeAlias = Annotated[int, Parameter(metavar="PORT", validator=Number(gte=0, lte=65_535))]

ALL = 1 << 40
"""What ``--sample`` and ``--search`` make of 0."""
_DEFAULT = LeasePolicy()

Queue: TypeAlias = Annotated[
    str | None,
    Parameter(alias="-q", metavar="QUEUE", help="Only in this queue; without it, in all."),
]
Queues: TypeAlias = Annotated[
    str, Parameter(name="QUEUE", help="Only these queues; without one, all.")
]
Json: TypeAlias = Annotated[bool, Parameter(help="Print JSON, for programs.")]
Most: TypeAlias = Annotated[
    Count, Parameter(help="Number of jobs to read of each list; 0 for all.")
]

TaskArgument: TypeAlias = Annotated[
    str,
    Parameter(allow_leading_hyphen=True, help="Its arguments: as JSON if they are, else strings."),
]


@Parameter(name="*", group=LEASES)
@dataclass(frozen=True, kw_only=True)
class Leases:
    """How long a claimed job is its consumer's; the names are those of ``LeasePolicy``."""

    lease_s: Annotated[Seconds, Parameter("--lease", env_var="HEADRACE_LEASE")] = _DEFAULT.lease_s
    """How long a lost consumer's jobs wait for another one. Give all programs the same."""
    bare_lease_s: Annotated[Seconds, Parameter("--bare-lease", env_var="HEADRACE_BARE_LEASE")] = (
        _DEFAULT.bare_lease_s
    )
    """How long a plain BRPOPLPUSH consumer may take for a job."""

    def policy(self) -> LeasePolicy:
        """Return them as the engine takes them.

        Raises:
            InvalidSetting: one is too short, or too low.
        """
        return LeasePolicy(**asdict(self))


@Parameter(name="*", group=LEASES)
@dataclass(frozen=True, kw_only=True)
class LeasesAndCrashes(Leases):
    """The same, and how often a job may lose its consumer."""

    max_crashes: Annotated[int, Parameter(env_var="HEADRACE_MAX_CRASHES", metavar="N")] = (
        _DEFAULT.max_crashes
    )
    """Number of lost consumers after which a job is dead."""


def help_page(function: F) -> F:
    """Make a docstring a help page: paragraphs flow, lines that begin with ``$`` stay as they are."""
    page: list[str] = []
    for paragraph in inspect.cleandoc(function.__doc__ or "").split("\n\n"):
        between = "\n" if paragraph.startswith("$") else " "
        page.append(between.join(line.strip() for line in paragraph.splitlines()))
    function.__doc__ = "\n\n".join(page)
    return function


def shown_default(value: object) -> str | None:
    """Return a default as a help page shows it: nothing for what is off, no ``.0``."""
    if value is None or value is False:
        return None
    return f"{value:g}" if isinstance(value, float) else str(value)
