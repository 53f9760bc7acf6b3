"""The work of the demo: orders to pay, and a ledger in which each run leaves its trace.

The ledger is a plain file: what it says of the jobs does not come from Redis.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from pathlib import Path
from typing import Final, NamedTuple

from headrace import CURRENT, Backoff, Context, Headrace

REFUSED: Final = 13
"""The order that the bank always refuses."""

ATTEMPTS: Final = 3
_BANK_S: Final = 1.0  # so every machine shows the same, however fast it is

app: Headrace = Headrace()


@app.task(max_attempts=ATTEMPTS, backoff=Backoff(base_s=0.2, jitter=False))
async def pay(ledger: str, order: int, ctx: Context = CURRENT) -> None:
    """Pay an order, and write into the ledger how far that has come.

    Raises:
        PermissionError: the bank refuses.
    """
    _write(ledger, ctx.job_id, "begun", order)
    await asyncio.sleep(_BANK_S)
    if order == REFUSED:
        _write(ledger, ctx.job_id, "refused", order)
        raise PermissionError(f"the bank refuses order {order}")
    _write(ledger, ctx.job_id, "paid", order)


def _write(ledger: str, job_id: str, step: str, order: int) -> None:
    # Unbuffered, and appended in one write: a line is whole or not there, whoever is killed when.
    with Path(ledger).open("ab", buffering=0) as file:
        file.write(f"{job_id} {step} {os.getpid()} {order}\n".encode())


class Entry(NamedTuple):
    """A line of the ledger: a job was begun, paid or refused, in which process."""

    job_id: str
    step: str
    pid: int


class Ledger(tuple[Entry, ...]):
    """The lines of a ledger, oldest first."""

    __slots__ = ()

    @classmethod
    def read(cls, path: Path) -> Ledger:
        """Read what is there by now."""
        whole = path.read_text().rpartition("\n")[0]
        lines = (line.split() for line in whole.splitlines())
        return cls(Entry(job_id, step, int(pid)) for job_id, step, pid, _ in lines)

    def jobs(self, step: str) -> Counter[str]:
        """Count how often each job has come to a step."""
        return Counter(entry.job_id for entry in self if entry.step == step)

    def ended(self) -> int:
        """Count the jobs that were paid or refused, if perhaps not for the last time."""
        return len(self.jobs("paid") | self.jobs("refused"))

    def running(self, pid: int) -> int:
        """Count the jobs that a process has begun, and not ended."""
        own = Ledger(entry for entry in self if entry.pid == pid)
        return (own.jobs("begun") - own.jobs("paid") - own.jobs("refused")).total()
