"""Whom to ask where Redis is: Sentinels, of which server is the primary; nodes of a cluster, of the slots. Pure.

They are asked in turns, for one that is cut off from the others may tell what was once; those that are
silent last, for they cost time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

from headrace.errors import StoreError, StoreRefused, StoreUnavailable
from headrace.settings import Group
from headrace.store import exchange

Host: TypeAlias = tuple[str, int]


class Guides:
    """Those that know, and the order in which they are asked.

    Args:
        hosts: where they are.
        shown: what they are called in messages.

    Attributes:
        hosts: the same, in that order.
    """

    def __init__(self, hosts: tuple[Host, ...], shown: str) -> None:
        self.hosts = hosts
        self._shown = shown

    def asked(self, answers: Iterable[Host], known: Iterable[Host] = ()) -> None:
        """Note who was asked, in this order, the last one perhaps with success; and who else there is."""
        *silent, last = answers
        there = dict.fromkeys((*known, *self.hosts))
        others = (host for host in there if host not in {last, *silent})
        self.hosts = (*others, last, *silent)

    def unknown(self, answers: dict[Host, Any]) -> StoreError:
        """Return what to raise when nobody has answered."""
        words = (str(answer).rstrip(".") or type(answer).__name__ for answer in answers.values())
        return self.away(f"do not answer: {'; '.join(words)}")

    def away(self, what: str) -> StoreError:
        """Return what to raise when what they know does not help."""
        error = StoreUnavailable(f"{self._shown} {what}")
        error.timed_out = True  # others may have found it
        return error


class Sentinels(Guides):
    """Sentinels.

    Args:
        group: what the URL says of them.
        shown: the URL as it may be shown.

    Attributes:
        question: what they are asked.
    """

    def __init__(self, group: Group, shown: str) -> None:
        super().__init__(group.hosts, f"the Sentinels of {shown}")
        self.question: tuple[str, ...] = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", group.service)

    def primary(self, answers: dict[Host, Any]) -> Host:
        """Read what they said, in their order, the last of it perhaps the primary.

        Raises:
            StoreRefused: they know no such service, or do not let us in.
            StoreUnavailable: none of them answers.
        """
        self.asked(answers)
        *_, last = answers.values()
        if isinstance(last, list):
            return last[0].decode(), int(last[1])
        for answer in answers.values():
            if answer is None:
                raise StoreRefused(
                    f"{self._shown} know no service {self.question[-1]!r}: give the name that stands "
                    "in their 'sentinel monitor'"
                )
            if isinstance(answer, exchange.SERVER_ERRORS):
                raise StoreRefused(
                    f"{self._shown} refuse: {str(answer).rstrip('.')}. Their own user and password "
                    "are ?sentinel_username=USER&sentinel_password=PASSWORD"
                ) from answer
        raise self.unknown(answers)
