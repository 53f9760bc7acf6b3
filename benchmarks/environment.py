"""An environment for each contestant, under ``.cache/bench``: peers need other versions than we do, and than each other.

    python -m benchmarks.environment [NAME…]     make those that are missing

An environment is made again when what it is to hold has changed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from benchmarks.contestants import CONTESTANTS, Contestant

ROOT: Final = Path(__file__).parent.parent
CACHE: Final = ROOT / ".cache" / "bench"
MANIFEST: Final = "requires.txt"  # written last: without it an environment is not whole


class Missing(Exception):
    """A contestant cannot take part here; says why."""


def python_of(contestant: Contestant) -> str:
    """Give the Python that runs a contestant; its environment is made if it is missing.

    Raises:
        Missing: there is no Python that is new enough, or pip could not install it.
    """
    if not contestant.requires:
        return sys.executable
    return made(contestant.module, contestant.requires, contestant.python)


def made(name: str, requires: tuple[str, ...], oldest: tuple[int, int] = (3, 11)) -> str:
    """Make an environment, if it is missing or has to hold something else; gives its Python.

    Raises:
        Missing: there is no Python that is new enough, or pip could not install it.
    """
    home = CACHE / name
    python, manifest = home / "bin" / "python", home / MANIFEST
    wanted = "\n".join(requires)
    if not manifest.exists() or manifest.read_text() != wanted:
        print(f"Installing {', '.join(requires)}", file=sys.stderr, flush=True)
        subprocess.run([_base(oldest), "-m", "venv", "--clear", home], check=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--no-input", *requires]
        done = subprocess.run(pip, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Missing(f"pip: {done.stderr.strip().splitlines()[-1]}")
        manifest.write_text(wanted)
    return str(python)


def _base(oldest: tuple[int, int]) -> str:
    if sys.version_info >= oldest:
        return sys.executable
    for minor in range(15, oldest[1] - 1, -1):
        if found := shutil.which(f"python3.{minor}"):
            done = subprocess.run([found, "-c", ""], capture_output=True, check=False)
            if not done.returncode:
                return found
    raise Missing(f"needs Python {oldest[0]}.{oldest[1]} or newer")


def environment_of(contestant: Contestant, url: str) -> dict[str, str]:
    """Give the environment variables of its processes."""
    path = os.pathsep.join([str(Path(python_of(contestant)).parent), os.environ["PATH"]])
    variant = contestant.name.partition(":")[2]
    here = os.pathsep.join([str(ROOT), str(ROOT / "src")])  # this Headrace, whichever is installed
    ours = {"PATH": path, "BENCH_URL": url, "BENCH_VARIANT": variant, "PYTHONPATH": here}
    # Without bytecode every start compiles Headrace anew, and not its peers: pip has compiled them.
    return {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"} | ours


if __name__ == "__main__":
    for chosen in sys.argv[1:] or CONTESTANTS:
        python_of(CONTESTANTS[chosen])
