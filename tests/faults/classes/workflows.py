"""Faults of workflows: chords and chains whose consumers are killed at any moment."""

from __future__ import annotations

import time

from headrace import RESULT, Workflow, chain, group
from tests.faults import lab_app
from tests.faults.bench import Bench
from tests.faults.classes.registry import fault_class
from tests.faults.evidence import Verdict, Violation
from tests.faults.roles import QUEUE
from tests.support import invariants
from tests.support.wait import bound

MEMBERS = 1_000
LINKS = 15


@fault_class("chords and chains, consumers killed", cost_s=600, short=0.02)
def chords(bench: Bench) -> Verdict:
    """A hundred chords of 1,000, one after the other, each beside a chain: what follows follows once."""
    bench.serve_redis()
    bench.maintainer()
    for _ in range(4):
        bench.consumer()
    lab_app.app.use(bench.url)
    verdict = Verdict()
    for _ in range(max(1, round(100 * bench.scale))):
        flows = _started()
        deadline = time.monotonic() + bound(120)
        while time.monotonic() < deadline and not all(map(_over, flows)):
            bench.pause(0.1, 0.6)
            bench.kill(bench.any_consumer())
            bench.consumer()
        verdict.violations += _wrong(flows)
        verdict.jobs += MEMBERS + 1 + LINKS
    bench.drained()
    lab_app.app.close()
    bench._end_processes()
    verdict.violations += _uncounted(bench, verdict.jobs)
    bench.closing.close()
    return verdict


def _started() -> list[Workflow]:
    app = lab_app.app
    chord = group(app.call("piece", n) for n in range(MEMBERS)).then(app.call("whole", RESULT))
    links = chain(app.call("piece", 1), *[app.call("link", RESULT)] * (LINKS - 1))
    return [chord.enqueue(), links.enqueue()]


def _over(flow: Workflow) -> bool:
    return flow.status().state != "running"


def _wrong(flows: list[Workflow]) -> list[Violation]:
    found: list[Violation] = []
    for flow, expected in zip(flows, (sum(range(MEMBERS)), LINKS), strict=True):
        status = flow.status()
        if status.state != "done":
            found.append(Violation("I11", f"{flow} is not done: {status}"))
        elif (got := flow.result(timeout=1)) != expected:
            found.append(Violation("I1", f"{flow} gave {got}, and not {expected}"))
    return found


def _uncounted(bench: Bench, jobs: int) -> list[Violation]:
    """A member that was enqueued twice, or never, shows in the counters: each is accepted and done once."""
    with bench.redis() as redis:
        state = invariants.read(redis, QUEUE)
        left = redis.zcard(f"{QUEUE}:workflows")
    counts = {name: state.counters.get(name, 0) for name in ("enqueued", "done")}
    found: list[Violation] = []
    if counts != {"enqueued": jobs, "done": jobs}:
        found.append(Violation("I3", f"{jobs} members, but {counts}"))
    if left or any(state.places.values()):
        found.append(
            Violation("I11", f"{left} workflows are not over, and there is {state.places}")
        )
    return found
