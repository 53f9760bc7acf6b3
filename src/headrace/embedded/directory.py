"""A server's data directory: who holds it now, and who wrote it last.

The lock is an exclusive ``flock`` on a file descriptor which the server process inherits, so it
lives exactly as long as the server does, even when the program that started it is killed. A lock
file that nobody holds is no obstacle.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from pathlib import Path

from headrace.embedded.engine import Release
from headrace.embedded.wait import within
from headrace.errors import EmbeddedServerError
from headrace.store.probe import OLDEST, dotted

DATA_DIR = ".headrace"
LOCK = "lock"
LOG = "server.log"
MARKER = "engine.json"

# A server that was just killed may leave a child rewriting the append-only file, which holds the
# lock for some milliseconds more.
LOCK_S = 0.5


class TakenError(EmbeddedServerError):
    """The directory or the port has a server, perhaps one like ours that was faster."""


def made(data_dir: Path) -> Path:
    """Make the directory, if it is missing, and give its absolute path.

    Raises:
        EmbeddedServerError: it cannot be made.
    """
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(data_dir, error) from error
    return data_dir.resolve()


def tighten(data_dir: Path) -> None:
    """Keep other users of this machine from the files, also from those of an earlier release."""
    files = [data_dir / name for name in (LOCK, LOG, MARKER)]
    folders = [] if data_dir == Path.cwd() else [data_dir]  # that is not ours alone
    for folder in data_dir.glob("appendonlydir"):
        folders.append(folder)
        files += folder.iterdir()
    for paths, mode in ((folders, 0o700), (files, 0o600)):
        for path in paths:
            with contextlib.suppress(OSError):  # missing, or another user's
                path.chmod(mode)


def locked(data_dir: Path) -> int:
    """Take the lock: give a file descriptor, the last copy of which frees it when closed.

    Raises:
        EmbeddedServerError: it cannot be opened.
        TakenError: another process holds it.
    """
    try:
        lock = os.open(data_dir / LOCK, os.O_RDWR | os.O_CREAT, mode=0o600)
    except OSError as error:
        raise _unusable(data_dir, error) from error
    if within(LOCK_S, lambda: _flock(lock)):
        os.ftruncate(lock, 0)  # whoever wrote a pid in there is gone
        return lock
    holder = os.read(lock, 20).decode(errors="replace").strip() or "unknown"
    os.close(lock)
    raise TakenError(
        f"{data_dir} is in use by a server that runs already: process {holder}. Use that one (give "
        "its URL), stop it, or choose another data directory."
    )


def read_marker(data_dir: Path) -> Release | None:
    """Read who wrote the directory last; None when nobody said so yet.

    Raises:
        EmbeddedServerError: the marker is there and cannot be understood.
    """
    path = data_dir / MARKER
    try:
        said = json.loads(path.read_text())
        major, minor, patch = map(int, said["version"].split("."))
        name = next(name for name in OLDEST if name == said["engine"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, AttributeError, KeyError, StopIteration) as error:
        raise EmbeddedServerError(
            f'{path} cannot be understood. It should read like {{"engine": "valkey", "version": '
            '"9.1.2"}: the server that wrote the data beside it. Correct it, or remove it if the '
            "directory holds no data."
        ) from error
    return Release(name, (major, minor, patch))


def write_marker(data_dir: Path, release: Release) -> None:
    """Note that ``release`` has opened the directory, so that no older one is tried on it."""
    path = data_dir / MARKER
    new = path.with_suffix(".new")
    new.write_text(json.dumps({"engine": release.name, "version": dotted(release.version)}) + "\n")
    new.replace(path)  # never half a marker, whoever is killed when


def _flock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _unusable(data_dir: Path, error: OSError) -> EmbeddedServerError:
    return EmbeddedServerError(
        f"{data_dir.resolve()} cannot be used as a data directory ({error.strerror}): choose another."
    )
