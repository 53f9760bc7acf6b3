"""Any transitions in any order: after each, Redis holds what the model holds, and the invariants hold.

The machine drives two consumers, plain clients, a leader and an operator against a real server. Leases
last hours, and ``time_passes`` ages what Redis holds, so that how fast the test runs decides nothing.

``model`` is the queue in plain Python, ``examples`` what is put into it, ``machine`` what compares it with
Redis, ``rules_of_consumers`` and ``rules_of_others`` who does what, ``protocol`` all of them together.
"""

from __future__ import annotations

import pytest
from hypothesis import settings

from tests.property.protocol import BASE, PROFILE, find_faults
from tests.support.clusters import Cluster

# How many rounds, and each one's settings. Hypothesis varies what it has seen: many short rounds see
# more than a long one, but for examples that are the same each time there is only one. Not registered
# with Hypothesis: these are not for other tests.
PROFILES = {
    "default": (4, settings(BASE, max_examples=40)),
    "ci": (1, settings(BASE, max_examples=160, derandomize=True, database=None)),
    "deep": (125, settings(BASE, max_examples=40)),
}
ROUNDS, SETTINGS = PROFILES[PROFILE]


# Each round 5 s on a quiet machine; a busy one, or making a failure small, takes far longer.
@pytest.mark.timeout(0 if PROFILE == "deep" else 900)
@pytest.mark.parametrize("round_", range(ROUNDS))
def test_every_transition_leaves_redis_as_the_model_says(url: str, round_: int) -> None:
    find_faults(url, SETTINGS)


@pytest.mark.timeout(900)
def test_every_transition_does_so_on_a_cluster(cluster: Cluster) -> None:
    find_faults(cluster.url, SETTINGS)
