"""A bug of the server that claims and settles for others: ``python -m tests.museum.in_the_server [bug]``.

It is looked for with what the laboratory has: two consumers over HTTP, of which one stands still for longer
than its lease, and the checker, which knows nothing of HTTP. In a process of its own, for that forks.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from headrace import operations as op
from headrace.embedded.server import free_port
from headrace.keys import keys_of
from headrace.leasing import Ending, Leases, Ticket
from headrace.operations import Operation
from tests.faults import history
from tests.faults.bench import Bench
from tests.faults.evidence import Terms, Verdict
from tests.faults.far import FarConsumerRole, FarServerRole
from tests.support.wait import wait_until

NAME = "whoever settles over HTTP is taken to have the job"

_JOBS = 4
_RUN_S = (
    4.0  # beyond a lease; and for so long the other one has them when the late one tells of them
)
_NEVER_S = 3_600.0


def unfenced() -> None:
    """Let the server look up who has a job, and end it in that name, whoever asks."""
    settle = Leases.settle

    async def in_the_holders_name(self: Leases, endings: Sequence[Ending]) -> list[Ticket]:
        held = await self._store.run_all([_claim_of(one.ticket) for one in endings])
        claims = [raw.partition(b" ")[0].decode() if raw else "" for raw in held]
        return await settle(
            self,
            [
                one._replace(ticket=one.ticket._replace(claim=claim or one.ticket.claim))
                for one, claim in zip(endings, claims, strict=True)
            ],
        )

    Leases.settle = in_the_holders_name  # type: ignore[method-assign]


def _claim_of(ticket: Ticket) -> Operation[Any]:
    return op.command("HGET", keys_of(ticket.queue).claims, ticket.job_id, parse=lambda raw: raw)


def play(folder: Path, *, has_bug: bool) -> Verdict:
    """Let a consumer come back when another one runs what it had; return what the checker says."""
    with Bench(folder, seed=0) as bench:
        bench.serve_redis()
        bench.sample()
        bug, port = unfenced if has_bug else None, free_port()
        bench.start(FarServerRole, name="server", lease=bench.lease, port=port, bug=bug)
        late = _consumer(bench, "late", port)
        bench.producer(_JOBS, mix=(("nap", 1),), batch=_JOBS, seconds=(_RUN_S, _RUN_S))
        wait_until(lambda: len(_begun(bench, "late")) == _JOBS, "it has all of them")
        bench.nursery.signal(late, signal.SIGSTOP)
        over_at = time.monotonic() + _RUN_S
        wait_until(lambda: time.monotonic() > over_at, "it has run them all, if it goes on")
        _consumer(bench, "other", port)
        # All: one that nobody has reclaimed yet is the late one's still, and its settle is taken.
        wait_until(lambda: len(_begun(bench, "other")) == _JOBS, "they run again")
        bench.nursery.signal(late, signal.SIGCONT)
        return bench.finish(Terms())


def _consumer(bench: Bench, name: str, port: int) -> int:
    options = {"ports": (port,), "lease_s": bench.lease.lease_s, "stop_s": _NEVER_S}
    bench.consumers[name] = bench.start(FarConsumerRole, name=name, **options)
    return bench.consumers[name]


def _begun(bench: Bench, name: str) -> list[history.Run]:
    return [run for run in history.read(bench.history).runs if run.consumer == name]


def main(word: str = "") -> None:
    """Tell what the checker says, a line each."""
    with tempfile.TemporaryDirectory(prefix="headrace-museum-") as folder:
        verdict = play(Path(folder), has_bug=word == "bug")
    for violation in verdict.violations:
        print(violation)
    print(f"{verdict.jobs} jobs, {verdict.late} late settles refused")


if __name__ == "__main__":
    main(*sys.argv[1:])
