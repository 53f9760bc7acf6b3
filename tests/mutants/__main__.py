"""Judge mutants of the core: each is a small mistake, and some test has to fail for it.

`scripts/mutants` calls this. Names: settle claim adopt reclaim lib/head, and python for the modules.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable

import pytest

from tests.mutants import profile, python
from tests.mutants.bench import SCRIPTS, Bench
from tests.mutants.lua import Mutant, mutants_of
from tests.mutants.python import Judged
from tests.mutants.survivors import PAGE, ROOT, Explained, explained, row

KNOWN = ROOT / ".cache" / "mutants.json"  # what killed each mutant of a script, or ""
TRANSITIONS = "tests/integration/transitions"
LAST = "tests/property/test_state_machine.py"

# What judges a script, in this order; the state machine judges what they let pass.
TESTS = {
    "settle": ["settle"],
    "claim": ["claim"],
    "adopt": ["adopt"],
    "reclaim": ["reclaim", "sweep"],
    "lib/head": ["claim", "settle", "reclaim", "adopt", "enqueue", "promote", "redrive"],
}


def judge(script: str, *, jobs: int, again: bool) -> Iterable[Judged]:
    """Run a script's tests against its mutants; ``again``: only those that survived last time."""
    known: dict[str, str] = json.loads(KNOWN.read_text()) if KNOWN.exists() else {}
    every = mutants_of(script, (SCRIPTS / f"{script}.lua").read_text("utf-8"))
    mutants = [m for m in every if not (again and known.get(m.source))]
    print(f"{script}.lua: {len(mutants)} of {len(every)} mutants", flush=True)

    def hear(mutant: Mutant, killer: str) -> None:
        known[mutant.source] = killer
        KNOWN.parent.mkdir(exist_ok=True)
        KNOWN.write_text(json.dumps(known))
        if not killer:
            print(f"  survived {script}.lua:{mutant.line}: {mutant.wrong}", flush=True)

    bench = Bench(mutants, jobs, hear)
    files = [f"{TRANSITIONS}/test_{name}.py" for name in TESTS[script]]
    with tempfile.TemporaryDirectory() as folder:
        options = ["addopts=--import-mode=importlib", "timeout=300"]
        given = ["--capture=no", f"--basetemp={folder}/t", *(f"-o{option}" for option in options)]
        off = [f"-p{name}" for name in ("no:cacheprovider", "no:terminal", "no:xdist")]
        arguments = [*given, *off, f"--rootdir={ROOT}", *files, LAST]
        pytest.main(arguments, plugins=[bench, profile])
    for name in bench.failing:
        print(f"  fails without a mutant, and judges nobody: {name}", flush=True)
    return [Judged(f"{script}.lua", m.right, m.wrong, bool(known[m.source])) for m in every]


def summary(judged: list[Judged]) -> int:
    """Print a line for each file, and the survivors that nobody has explained; count these."""
    page = PAGE.read_text("utf-8") if PAGE.exists() else ""
    reasons = {(one.file, one.right, one.wrong) for one in explained(page)}
    survivors = [one for one in judged if not one.killed]
    unexplained = [one for one in survivors if (one.file, one.right, one.wrong) not in reasons]
    counts = [Counter(one.file for one in some) for some in (judged, survivors, unexplained)]
    print(f"\n{'file':<24} {'mutants':>8} {'killed':>8} {'survived':>8} {'unexplained':>12}")
    for file in counts[0]:
        every, alive, new = (count[file] for count in counts)
        print(f"{file:<24} {every:>8} {every - alive:>8} {alive:>8} {new:>12}")
    every, alive, new = map(len, (judged, survivors, unexplained))
    score = 100 * (every - alive) / max(1, every)
    print(f"{'together':<24} {every:>8} {every - alive:>8} {alive:>8} {new:>12}   {score:.1f} %")
    if unexplained:
        print("\nKill these with a test, or say in docs/mutants.md why no test can:\n")
        print(*(row(Explained(m.file, m.right, m.wrong, "?")) for m in unexplained), sep="\n")
    return len(unexplained)


def main() -> int:
    """Judge what is named, or everything; fail when a survivor has no explanation."""
    parser = argparse.ArgumentParser(prog="scripts/mutants", description=__doc__)
    parser.add_argument("names", nargs="*", default=[*TESTS, "python"], metavar="NAME")
    parser.add_argument("-j", "--jobs", type=int, default=2, help="mutants at a time (2)")
    parser.add_argument(
        "--again", action="store_true", help="of the scripts only what survived last time"
    )
    chosen = parser.parse_args()
    if wrong := set(chosen.names) - {*TESTS, "python"}:
        parser.error(f"no such name: {', '.join(sorted(wrong))}")
    os.chdir(ROOT)
    os.environ["HYPOTHESIS_PROFILE"] = "ci"  # of the state machine
    # A mutant that hangs is to be seen soon: one that fails twice is killed.
    os.environ.setdefault("HEADRACE_TEST_PATIENCE", "0.5")
    judged: list[Judged] = []
    for name in chosen.names:
        if name == "python":
            judged += python.judge(chosen.jobs)
        else:
            judged += judge(name, jobs=chosen.jobs, again=chosen.again)
    return 1 if summary(judged) else 0


if __name__ == "__main__":
    sys.exit(main())
