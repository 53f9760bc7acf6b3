"""Run the coverage-guided fuzzer for a while: ``python -m tests.fuzz --seconds 60``.

It needs atheris (Linux, CPython), which is in the dependency group ``fuzz``. New inputs that reach
new code go to a folder of their own unless ``--keep`` adds them to the corpus in the repository.
Exit codes: 0 nothing found; 1 something failed, and its bytes are shown; 2 atheris is missing.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz.seeds import JOBS, PIECES

ROOT = Path(__file__).resolve().parents[2]
CORPUS = Path(__file__).with_name("corpus")


def dictionary(path: Path) -> None:
    """Write the pieces of jobs as libFuzzer reads them."""
    lines = ['"' + "".join(f"\\x{byte:02x}" for byte in piece) + '"' for piece in PIECES if piece]
    path.write_text("\n".join(lines) + "\n")


def fuzz(seconds: int, *, keep: bool) -> int:
    """Run the fuzzer in a child process; give its exit code."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("found", "seeds"):
            (folder / part).mkdir()
        for n, job in enumerate(JOBS):
            (folder / "seeds" / f"{n:02}").write_bytes(job)
        dictionary(folder / "pieces")
        corpora = [CORPUS if keep else folder / "found", folder / "seeds", CORPUS]
        command = [
            *(sys.executable, "-m", "tests.fuzz.atheris_envelope", *map(str, corpora)),
            *(f"-max_total_time={seconds}", "-timeout=10", "-rss_limit_mb=2048", "-max_len=4096"),
            *(f"-artifact_prefix={folder}/", f"-dict={folder / 'pieces'}"),
            *("-print_final_stats=1", "-use_value_profile=1", "-len_control=10"),
        ]
        path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
        child = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": path})
        for crash in sorted([*folder.glob("crash-*"), *folder.glob("timeout-*")]):
            print(f"It failed on these {crash.stat().st_size} bytes: {crash.read_bytes()!r}")
        return int(child.returncode != 0)


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="how long")
    parser.add_argument("--keep", action="store_true", help="add what is new to tests/fuzz/corpus")
    options = parser.parse_args()
    if importlib.util.find_spec("atheris") is None:
        print("There is no atheris here: python -m pip install --group fuzz", file=sys.stderr)
        return 2
    return fuzz(options.seconds, keep=options.keep)


if __name__ == "__main__":
    sys.exit(main())
