"""The doctor's findings: is Redis safe, are the queues in order, and what is to be done."""

from __future__ import annotations

from collections import Counter
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from headrace.doctor import SEVERITIES, Finding, check_up
from headrace.policy import LeasePolicy
from headrace.store import AsyncStore
from headrace.web.access import may_use_all
from headrace.web.pages.shell import Shell
from headrace.web.reader import SHOWN

_SAMPLE: Final = 1_000  # jobs of each place that are read


class DoctorPage:
    """The page of findings.

    Args:
        shell: writes it.
        store: the Redis.
        policy: how long claims last.
    """

    def __init__(self, shell: Shell, store: AsyncStore, policy: LeasePolicy) -> None:
        self._shell = shell
        self._store = store
        self._policy = policy

    async def doctor(self, request: Request) -> Response:
        """Look at Redis and the queues, and show what was found."""
        may_use_all(request)
        reader = self._shell.reader
        names = await reader.names()
        # Where there are few, all: then those that nobody has registered, too.
        some = [part for name in names[:SHOWN] for part in reader.parts(name)]
        named = some if len(names) > SHOWN else []
        seen = await self._store.follow(check_up(named, self._policy, sample=_SAMPLE))
        counts = Counter(one.severity for one in seen.findings)
        return self._shell.page(
            request, "doctor", counts={one: counts[one] for one in SEVERITIES}, sample=_SAMPLE,
            groups=_by_queue(seen.findings), left_out=max(0, len(names) - SHOWN) if named else 0,
        )  # fmt: skip


def _by_queue(findings: list[Finding]) -> dict[str, list[Finding]]:
    """Group findings by what they are about, the server first; the worst first, in each and of all."""
    groups: dict[str, list[Finding]] = {"": []}
    for one in sorted(findings, key=lambda one: SEVERITIES.index(one.severity)):
        groups.setdefault(one.queue, []).append(one)
    return {name: some for name, some in groups.items() if some}
