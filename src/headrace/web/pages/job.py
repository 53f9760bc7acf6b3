"""One job: where it is and why, its runs, its arguments, how it failed; cancel it."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from headrace import doctor, job_reports, redaction, wire
from headrace.doctor import Location
from headrace.doctor.humanize import size
from headrace.history import Run
from headrace.policy import LeasePolicy
from headrace.store import AsyncStore
from headrace.web.api.jobs import Jobs
from headrace.web.pages.shell import Shell, lead
from headrace.web.views import job_view
from headrace.workflows.member import of_job_id

_ENDED: Final = frozenset({"dead", "ended", "cancelled", "unknown", "moving"})
MOST_SHOWN: Final = 20_000  # characters of an argument list: some screens; the rest is told of
_SHORT: Final = 80  # letters, that stay on a line
LONG: Final = 1_500
"""From so many characters on a text is folded."""


class Block(NamedTuple):
    """A text that may be long.

    Attributes:
        title: what it is.
        text: the text, cut.
        note: what of it is not shown; "" if it is whole.
    """

    title: str
    text: str
    note: str = ""

    @property
    def is_long(self) -> bool:
        """Whether it is folded at first."""
        return len(self.text) > LONG


def block(title: str, value: bytes) -> Block:
    """Return a value that is JSON, indented so that it can be read, and not more than one can read."""
    if len(value) > MOST_SHOWN:
        cut = value[:MOST_SHOWN].decode(errors="ignore")
        return Block(title, cut, f"{size(len(value))}: the first {MOST_SHOWN:,} bytes are shown")
    text = value if len(value) < _SHORT else msgspec.json.format(value, indent=2)
    return Block(title, text.decode(errors="replace"))


def blocks_of(job: bytes) -> list[Block]:
    """Return the arguments of a job, without what is to be hidden; of what is no job, all its bytes."""
    shown = redaction.shown(job)
    try:
        fields = msgspec.json.decode(shown, type=dict[str, msgspec.Raw])
    except Exception:  # whatever decoding raises
        text = shown[:MOST_SHOWN].decode(errors="backslashreplace")
        return [Block("bytes", text, "They are no JSON.")] if job else []
    names = ("args", "kwargs", "headers")
    return [block(name, bytes(fields[name])) for name in names if name in fields]


class JobPage:
    """The page of one job.

    Args:
        shell: writes it.
        jobs: what the API does with jobs.
        store: the Redis.
        policy: how long claims last.
    """

    def __init__(self, shell: Shell, jobs: Jobs, store: AsyncStore, policy: LeasePolicy) -> None:
        self._shell = shell
        self._jobs = jobs
        self._store = store
        self._policy = policy

    async def job(self, request: Request) -> Response:
        """Show all that is known of a job."""
        at = await self._jobs.locate(request)
        asked = self._jobs.asked(request)
        runs = await self._store.follow(job_reports.history(asked))
        member = of_job_id(at.job_id)
        is_over = at.state in _ENDED and (at.complete or at.state != "unknown")
        return self._shell.page(
            request, "job", queue=asked.queue, at=at, job=job_view(at.job) if at.job else None,
            told=doctor.explain(at, self._policy), blocks=blocks_of(at.job),
            error=wire.read_error(redaction.shown(at.job)) if at.state == "dead" else None,
            runs=[_without_secrets(run, at) for run in runs], now_ms=at.snapshot.now_ms,
            workflow=member[0] if member and at.workflow else "", is_over=is_over,
        )  # fmt: skip

    async def ask_cancel(self, request: Request) -> Response:
        """Ask whether a job is to be cancelled."""
        job = self._jobs.asked(request)
        return self._shell.ask(
            request, here="queue", queue=job.queue, title="Cancel a job", what=job.id,
            question="Cancel this job?",
            why="One that waits is taken out. One that runs is asked to stop. It is not run again.",
            verb="Cancel the job", back=f"jobs/{job.id}",
        )  # fmt: skip

    async def cancel(self, request: Request) -> Response:
        """Cancel a job."""
        done = await self._jobs.cancel_asked(request)
        return lead(request, f"jobs/{done['id']}", queue=done["queue"], done=done["became"])


def _without_secrets(run: Run, at: Location) -> Run:
    """Hide in what a run raised what is hidden of its job; all of it, where the job is not known."""
    if redaction.rule() is None or not run.message:
        return run
    says = redaction.masked(run.message, at.job) if at.job else redaction.MASK
    return msgspec.structs.replace(run, message=says)
