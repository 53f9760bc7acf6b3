"""What the server allows at most: ``python -m benchmarks.limits [--rounds N] [--json FILE]``.

``redis-benchmark`` is written in C, and sends 128 commands at a time without looking at the answers. It
pushes jobs, moves them to processing, and removes them there: the bare commands of the queue, with
nothing that makes it safe. In each round Headrace enqueues and works off jobs of the same bytes.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from benchmarks import report
from benchmarks.arena import Arena
from benchmarks.cases import CASES
from benchmarks.contestants import CONTESTANTS
from benchmarks.contestants.tasks import ARGS
from benchmarks.environment import CACHE, ROOT, Missing
from headrace import Headrace
from headrace.keys import keys_of
from headrace.settings import DEFAULT_QUEUE

JOBS: Final = 200_000
AT_A_TIME: Final = 128  # as ``scripts`` claims, and about what a consumer has in hand
_PROGRAMS: Final = ("valkey-benchmark", "redis-benchmark")
_PACKAGES: Final = ("redis-tools", "liblzf1", "libjemalloc2")  # Debian's, with what it links


def program() -> list[str]:
    """Find ``redis-benchmark``, or unpack Debian's package into ``.cache``, without root.

    Raises:
        Missing: it is not here, and cannot be fetched.
    """
    for name in _PROGRAMS:
        if found := shutil.which(name):
            return [found]
    home = CACHE / "redis-tools"
    if not (home / "usr/bin/redis-benchmark").exists():
        fetch = [ROOT / "scripts/unpack-debian", home, *_PACKAGES]
        done = subprocess.run(fetch, capture_output=True, text=True, check=False)
        if done.returncode:
            why = done.stderr.strip()
            raise Missing(f"{' or '.join(_PROGRAMS)} is not on the PATH, nor to be fetched: {why}")
    [libraries] = {path.parent for path in home.glob("usr/lib/*/lib*.so*")}
    return ["env", f"LD_LIBRARY_PATH={libraries}", str(home / "usr/bin/redis-benchmark")]


def per_s(arena: Arena, *command: str) -> float:
    """Send one command again and again; gives how many were carried out in a second."""
    port = str(urlsplit(arena.url).port)
    asked = [*program(), "-p", port, "-c", "1", "-P", str(AT_A_TIME), "-n", str(JOBS), "--csv"]
    done = subprocess.run([*asked, *command], capture_output=True, text=True, check=True)
    # The command stands first, with its quotes as they are: so counted from the end.
    heads, values = (line.split(",") for line in done.stdout.splitlines()[-2:])
    return float(values[heads.index('"rps"') - len(heads)].strip('"'))


def measured(arena: Arena) -> dict[str, float]:
    """Measure one round."""
    app = Headrace(arena.url)
    job = app.call_with("nothing", ARGS, {}, {}).job.decode()
    app.close()
    k = keys_of(DEFAULT_QUEUE)
    arena.empty()
    push = per_s(arena, "LPUSH", k.pending, job)
    move = per_s(arena, "RPOPLPUSH", k.pending, k.processing)
    remove = per_s(arena, "LREM", k.processing, "-1", job)
    enqueued = CASES["enqueue-bulk"].run(arena, CONTESTANTS["headrace:async"])["per_s"]
    drained = CASES["drain"].run(arena, CONTESTANTS["headrace:async"])["per_s"]
    bare = 1 / (1 / move + 1 / remove)
    return {
        "push": push,
        "enqueue_many": enqueued,
        "of the limit, enqueue_many": enqueued / push,
        "move and remove": bare,
        "drain": drained,
        "of the limit, drain": drained / bare,
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.limits", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there")
    options = parser.parse_args(argv)
    try:
        print(Path(program()[-1]).name, flush=True)
    except Missing as why:
        print(f"left out: {why}", file=sys.stderr)  # as a peer that cannot take part
        return 0
    with Arena(aof=True) as arena:
        rounds = [measured(arena) for _ in range(options.rounds)]
    for name in rounds[0]:
        digits = 2 if name.startswith("of") else 0
        print(f"{name:<30}{report.spread([one[name] for one in rounds], digits)}")
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(rounds, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
