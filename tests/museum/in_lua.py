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
from tests.integration.transitions import test_claim
from tests.integration.transitions.driver import Driver, job

MOST = 9_000  # more than the 8,000 values that Lua hands over at once


# Lines of ``claim`` that only look, so that it fails before its first write.
LOOKS = r"(for _, list in|redis\.call\('(LLEN|ZCARD|HLEN)'|sound\().*"
BOUND = r"if count > \d+ .*"


def unbounded(patch: pytest.MonkeyPatch) -> None:
    """A call carries as many jobs as one likes."""
    patch.setattr(consuming, "MAX_ITEMS", MOST)
    claim_without(patch, BOUND)


def unvalidated(patch: pytest.MonkeyPatch) -> None:
    """``claim`` takes jobs before it has looked at every key."""
    assert claim_without(patch, LOOKS), "the script has changed: change this as well"


def claim_without(patch: pytest.MonkeyPatch, lines: str) -> int:
    """Take lines out of the script; answers how many there were."""
    claim, original = scripts.script("claim"), scripts.script
    source, count = re.subn(rf"^{lines}\n", "", claim.source, flags=re.MULTILINE)
    wrong = Script("claim", source, sha1(source.encode(), usedforsecurity=False).hexdigest())
    patch.setattr(request, "script", lambda name: wrong if name == "claim" else original(name))
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
]
