"""Bugs put into the scripts on purpose, some of which were once there: the state machine finds each.

A machine that finds nothing may be blind. Here it looks at scripts that are wrong in one place, for
a bounded number of rounds: the chance that it misses one in all of them is below one in a million.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha1

import pytest
from hypothesis import Phase, settings

from headrace import scripts
from headrace.operations import request
from headrace.scripts import Script
from tests.property.protocol import BASE, PROFILE, find_faults

PATIENCE = settings(
    BASE,
    max_examples=30,
    stateful_step_count=60,
    derandomize=False,  # as Hypothesis does by itself in CI: then all rounds would be the same one
    phases=[Phase.generate],
    database=None,
    report_multiple_bugs=False,
    print_blob=False,
)


@dataclass(frozen=True)
class Bug:
    """A script, and what stands in it instead of what should."""

    script: str
    right: str
    wrong: str


BUGS = {
    "settle does not compare the token": Bug(
        "settle", "owner ~= ARGV[1] .. ':' .. number(claim * side)", "not owner"
    ),
    "settle removes the job, then dies before it writes": Bug(
        "settle",
        "if not gone then write(verb, delay, ARGV[base + 5], job) end",
        "if not gone and verb == 'retry' then redis.call('LREM', processing, side, job) return {} end "
        "if not gone then write(verb, delay, ARGV[base + 5], job) end",
    ),
    "settle ends what is not in processing any more": Bug(
        "settle",
        "gone = redis.call('LREM', processing, side, job) == 0",
        "redis.call('LREM', processing, side, job)",
    ),
    "settle frees a key that names another job": Bug("settle", "if id and over[id]", "if id"),
    "settle frees no key": Bug(
        "settle", "#KEYS do release(KEYS[i], over)", "0 do release(KEYS[i], over)"
    ),
    "settle frees the key of a job that is tried again": Bug(
        "settle", "over[id] = gone or not WAITS[verb]", "over[id] = true"
    ),
    "release does not raise the delivery": Bug("settle", "place(returned(job, 0), ", "place(job, "),
    "adopt does not take over the lease of a sweep": Bug(
        "adopt", "if owner and not (owner == '-' and bytes == moved)", "if owner"
    ),
    "adopt takes a claim from its owner": Bug(
        "adopt", "if owner and not (owner == '-' and bytes == moved)", "if false"
    ),
    "adopt leaves the lease that the sweep gave by digest": Bug(
        "adopt", "if not owner then forget_given() end", ""
    ),
    "reclaim does not look at the deadline": Bug(
        "reclaim",
        "now < quiet and 0 or now\n",
        "now < quiet and 0 or now + 1e12\n",
    ),
    "reclaim takes one of n equal items for the one with the lease by id": Bug(
        "reclaim", "'COUNT', count + 1)", "'COUNT', count)"
    ),
    "reclaim frees the key of a job that comes back": Bug(
        "reclaim", "back = back + 1\n    end", "back = back + 1 over()\n    end"
    ),
    "reclaim writes no letter": Bug("reclaim", "redis.call('LPUSH', dead, dies)", "dies = true"),
    "claim gives one id to two jobs": Bug(
        "claim", "while taken[n] or known[id] do", "while false do"
    ),
    "sweep gives one lease to n equal items": Bug(
        "sweep", "while known.leased < known.copies do", "while known.leased < 1 do"
    ),
    "sweep leases by id what has a lease by digest": Bug(
        "sweep",
        "known.leased = known.ordinal + (job == item and 1 or 0)",
        "known.leased = job == item and 1 or id and not job and 0 or known.ordinal",
    ),
    "promote drops": Bug("promote", "place(job, pending, priority, nudge, stats)\n", "\n"),
    "promote does not wait": Bug("promote", "'-inf', now, 'BYSCORE'", "'-inf', '+inf', 'BYSCORE'"),
    "a delayed job moves the due time of an equal one": Bug("enqueue", "'NX', at, job", "at, job"),
    "settle frees a key that another job has by now": Bug(
        "settle", "if id and over[id] then", "if id then"
    ),
    "replace takes nothing out": Bug("unique/replace", "redis.call('LREM', pending, 1, old)", "1"),
    "cancel counts one job and takes two": Bug("cancel", "'cancel', taken)", "'cancel', 1)"),
    "redrive removes nothing": Bug("redrive", "redis.call('LREM', dead, 1, ARGV[i])", ""),
}
RARE = {  # found in a quarter to a half of the rounds, the others in nearly each: in `deep` alone
    "settle ends what is not in processing any more",
    "adopt does not take over the lease of a sweep",
    "reclaim takes one of n equal items for the one with the lease by id",
    "cancel counts one job and takes two",
}
NAMES = [name for name in BUGS if PROFILE == "deep" or name not in RARE]


@pytest.mark.timeout(600)  # a miss takes long
@pytest.mark.parametrize("name", NAMES)
def test_it_is_found(name: str, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bug = BUGS[name]
    right = scripts.script(bug.script).source.count(bug.right)
    assert right == 1, "the script has changed: change the bug as well"

    def mutated(script: str) -> Script:
        whole = scripts.script(script)
        if script != bug.script:
            return whole
        source = whole.source.replace(bug.right, bug.wrong)
        return Script(script, source, sha1(source.encode(), usedforsecurity=False).hexdigest())

    monkeypatch.setattr(request, "script", mutated)
    with pytest.raises(AssertionError):
        find_faults(url, PATIENCE, rounds=60 if name in RARE else 20)
