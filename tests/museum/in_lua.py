"""Bugs that only Lua can have: a script that is wrong in one place, on a real server."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha1

import pytest

from headrace import scripts
from headrace.errors import StoreRefused
from headrace.operations import consuming, request
from headrace.scripts import Script
from tests.integration.transitions import test_claim, test_sweep
from tests.integration.transitions.driver import Driver, job

MOST = 9_000  # more than the 8,000 values that Lua hands over at once


# Lines of ``claim`` that only look, so that it fails before its first write.
LOOKS = r"(for _, list in|redis\.call\('(LLEN|ZCARD|HLEN)'|sound\().*"
BOUND = r"if count > \d+ .*"
CHANGED = "the script has changed: change this as well"


def unbounded(patch: pytest.MonkeyPatch) -> None:
    """A call carries as many jobs as one likes."""
    patch.setattr(consuming, "MAX_ITEMS", MOST)
    misprint(patch, "claim", rf"^{BOUND}\n", "")


def unvalidated(patch: pytest.MonkeyPatch) -> None:
    """``claim`` takes jobs before it has looked at every key."""
    assert misprint(patch, "claim", rf"^{LOOKS}\n", ""), CHANGED


def hoarding(patch: pytest.MonkeyPatch) -> None:
    """``sweep`` keeps leases for equal bare items that have gone."""
    surplus = r"while not id and known\.ordinal > known\.copies do"
    assert misprint(patch, "sweep", surplus, "while false do"), CHANGED


def misprint(patch: pytest.MonkeyPatch, name: str, what: str, instead: str) -> int:
    """Replace something in a script; answers how often it was there."""
    right, original = scripts.script(name), scripts.script
    source, count = re.subn(what, instead, right.source, flags=re.MULTILINE)
    wrong = Script(name, source, sha1(source.encode(), usedforsecurity=False).hexdigest())
    patch.setattr(request, "script", lambda asked: wrong if asked == name else original(asked))
    return count


def claim_thousands(queue: Driver) -> None:
    """I3, after a claim of very many jobs, whatever it answers."""
    for start in range(0, MOST, 1_000):
        queue.enqueue(*(job(f"{i:05}") for i in range(start, start + 1_000)))
    with contextlib.suppress(StoreRefused):
        queue.claim(MOST)
    queue.check()


def claim_from_a_broken_key(queue: Driver) -> None:
    test_claim.test_a_place_of_a_wrong_type_loses_no_job(queue, "claims")


@dataclass(frozen=True)
class Misprint:
    """A bug, and the check that sees it: an invariant, or a test, that was there before."""

    name: str
    put_in: Callable[[pytest.MonkeyPatch], None]
    check: Callable[[Driver], None]


MISPRINTS = [
    Misprint("a script hands on more values than Lua can carry", unbounded, claim_thousands),
    Misprint("a script writes before it has looked", unvalidated, claim_from_a_broken_key),
    Misprint(
        "one of equal bare items starves while others come and go",
        hoarding,
        test_sweep.test_one_of_equal_bare_items_ends_although_others_come_and_go,
    ),
]
