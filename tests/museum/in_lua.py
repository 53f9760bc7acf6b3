"""Bugs that only Lua can have: a script that is wrong in one place, on a real server."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha1

import pytest

from headrace import scripts, wire
from headrace.errors import StoreRefused
from headrace.lanes import operations as lanes
from headrace.operations import consuming, request
from headrace.scripts import Script
from tests.integration.transitions import (
    test_attend,
    test_claim,
    test_commit,
    test_keys,
    test_move,
    test_starting,
    test_sweep,
    test_workflow,
    test_workflow_apart,
)
from tests.integration.transitions.driver import Driver, id_of, job

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


def counted_again(patch: pytest.MonkeyPatch) -> None:
    """A member counts each time it ends, and what follows is enqueued when none is left, or fewer."""
    again = (
        r" or redis\.call\('GETBIT', ended, n\) == 1 then return nil| == 0( then\n *open)|"
        r"redis\.call\('HDEL', hash, 'node:'.*"
    )
    instead = lambda match: (
        " <= 0" + match[1] if match[1] else " then return nil" * ("GET" in match[0])
    )
    assert misprint(patch, "workflows/commit", again, instead) == 3, CHANGED


def unheard(patch: pytest.MonkeyPatch) -> None:
    """Only consumers tell of members' ends: of one whose consumers were lost too often, nobody does."""
    assert misprint(patch, "workflows/note", r"^if flow then note_end\(.*\n", ""), CHANGED


def handed_on_by_losers(patch: pytest.MonkeyPatch) -> None:
    """Who has lost its job hands on all the same: nobody looks at the token."""
    token = r"local ours = owner == .*"
    assert misprint(patch, "workflows/commit", token, "local ours = owner ~= nil"), CHANGED


def unlocking(patch: pytest.MonkeyPatch) -> None:
    """The end of a job frees its key, whoever has that by now."""
    assert misprint(patch, "settle", r"if id and over\[id\] then", "if id then"), CHANGED


def leaking(patch: pytest.MonkeyPatch) -> None:
    """A slot is free when its holder says so, and a holder that died says nothing."""
    assert misprint(patch, "lanes/check", r"gone\[#gone \+ 1\] = member", "gone = gone"), CHANGED


def staying(patch: pytest.MonkeyPatch) -> None:
    """A job is let out of its lane by two calls, and the second one never comes."""
    assert misprint(patch, "lanes/admit", r"redis\.call\('HDEL', limited, id\)", ""), CHANGED


def arriving_twice(patch: pytest.MonkeyPatch) -> None:
    """A server does not remember which batches of a queue that moves have arrived."""
    known = r"^if redis\.call\('EXISTS', arrived\) == 1 .*"
    assert misprint(patch, "moving/arrive", known, ""), CHANGED


def coming_twice(patch: pytest.MonkeyPatch) -> None:
    """A queue does not remember what has come that was handed on on another node."""
    known = r"^if redis\.call\('EXISTS', forwarded\) == 1 .*"
    assert misprint(patch, "forwarding/arrive", known, ""), CHANGED


def bringing_anew(patch: pytest.MonkeyPatch) -> None:
    """Who starts a workflow again brings its members again, beside those that wait."""
    known = r"^if redis\.call\('EXISTS', hash\) == 1 or .*"
    assert misprint(patch, "workflows/fill", known, ""), CHANGED


def leaving_unnamed(patch: pytest.MonkeyPatch) -> None:
    """Who is late ends the batch of whoever came after."""
    named = r"^if redis\.call\('LINDEX', moving, 0\) ~= .*"
    assert misprint(patch, "moving/leave", named, ""), CHANGED


def counting_the_gone(patch: pytest.MonkeyPatch) -> None:
    """Who has gone is at home in its partitions for ever, and nobody else is."""
    gone = r"^for _, gone in ipairs\(redis\.call\('ZRANGEBYSCORE', present, .*"
    assert misprint(patch, "partitions/attend", gone, "for _, gone in ipairs({}) do"), CHANGED


def taking_anew(patch: pytest.MonkeyPatch) -> None:
    """Whoever goes on takes other jobs, and those on their way stay there."""
    assert misprint(patch, "moving/take", r"^if #before > 0 then return before end", ""), CHANGED


def misprint(
    patch: pytest.MonkeyPatch, name: str, what: str, instead: str | Callable[[re.Match[str]], str]
) -> int:
    """Replace something in a script; answers how often it was there."""
    right, original = scripts.script(name), scripts.script
    source, count = re.subn(what, instead, right.source, flags=re.MULTILINE)
    wrong = Script(name, source, sha1(source.encode(), usedforsecurity=False).hexdigest())
    patch.setattr(request, "script", lambda asked: wrong if asked == name else original(asked))
    return count


def play(queue: Driver) -> None:
    """Plays of ``test_workflow``: each member is accepted once, and the workflow ends."""
    for seed in range(40):
        queue.redis.flushdb()
        test_workflow.played(queue, seed, "continue")


def claim_thousands(queue: Driver) -> None:
    """I3, after a claim of very many jobs, whatever it answers."""
    for start in range(0, MOST, 1_000):
        queue.enqueue(*(job(f"{i:05}") for i in range(start, start + 1_000)))
    with contextlib.suppress(StoreRefused):
        queue.claim(MOST)
    queue.check()


def claim_from_a_broken_key(queue: Driver) -> None:
    test_claim.test_a_place_of_a_wrong_type_loses_no_job(queue, "claims")


def end_a_job_whose_key_another_has(queue: Driver) -> None:
    test_keys.test_a_key_that_another_job_has_by_now_stays(queue, test_keys.done)


def play_apart(queue: Driver) -> None:
    """The same, of members on another node than their workflow."""
    for seed in range(40):
        queue.redis.flushdb()
        test_workflow_apart.played(queue, seed, "continue")


def start(queue: Driver) -> None:
    """Plays of ``test_starting``: three who start one workflow, which is soon over."""
    for seed in range(5):
        queue.redis.flushdb()
        test_starting.begun_at_random(queue, seed)


def move(queue: Driver) -> None:
    with test_move.another_database(queue.store.url) as there:
        test_move.test_two_who_move_at_once_move_each_job_once(queue, there)


def outlive_consumers(queue: Driver) -> None:
    """I11: limited jobs drain although every other consumer dies with one; I1 to I3 on the way."""
    jobs = [("send/", job(f"j{i}")) for i in range(8)]
    queue.store.run(lanes.declare(queue.k, {"send": "0 0 2"}))
    queue.store.run(lanes.enqueue(queue.k, jobs))
    for turn in range(40):
        for one in queue.claim(2, consumer=f"c{turn}", lease_ms=1):
            i = id_of(one)
            permit = lanes.permit_of(one, i)
            head = wire.split(one)
            if permit is None or head is None or permit.delivery != head[0].delivery:
                waits = queue.outcome(one, "release")
                queue.store.run(lanes.Hold("send/").operation(queue.k, f"c{turn}", waits))
                continue
            if turn % 2:
                queue.settle(one, "done", consumer=f"c{turn}")
                queue.store.run(lanes.admit(queue.k, ended=[permit.member]))
        queue.crash()
        queue.store.run(lanes.check(queue.k))
        queue.check()
    assert queue.state().counters.get("done") == len(jobs), "I11: it does not drain"


@dataclass(frozen=True)
class Misprint:
    """A bug, and the check that sees it: an invariant, or a test, that was there before."""

    name: str
    put_in: Callable[[pytest.MonkeyPatch], None]
    check: Callable[[Driver], None]


MISPRINTS = [
    Misprint("a limiter leaks a slot when its holder dies", leaking, outlive_consumers),
    Misprint("a job is let out of its lane, and stays there", staying, outlive_consumers),
    Misprint("a script hands on more values than Lua can carry", unbounded, claim_thousands),
    Misprint("a script writes before it has looked", unvalidated, claim_from_a_broken_key),
    Misprint(
        "one of equal bare items starves while others come and go",
        hoarding,
        test_sweep.test_one_of_equal_bare_items_ends_although_others_come_and_go,
    ),
    Misprint("a chord fires twice", counted_again, play),
    Misprint("a chord never fires", unheard, play),
    Misprint(
        "a consumer that has lost its job hands on all the same",
        handed_on_by_losers,
        lambda queue: test_commit.test_only_the_current_claim_commits(queue, "another's"),
    ),
    Misprint(
        "the end of one job frees the key of another", unlocking, end_a_job_whose_key_another_has
    ),
    Misprint("what is handed on to another node comes twice", coming_twice, play_apart),
    Misprint("a workflow that is handed on brings its members twice", bringing_anew, start),
    Misprint("a queue that moves arrives twice", arriving_twice, move),
    Misprint("who is late drops what another moves", leaving_unnamed, move),
    Misprint("who goes on leaves behind what was on its way", taking_anew, move),
    Misprint(
        "a partition is the home of a consumer that has gone",
        counting_the_gone,
        test_attend.test_who_has_gone_is_counted_no_more,
    ),
]
