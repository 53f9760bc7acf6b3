"""The files of the demo, and the plain loop over them that says what every job has to find."""

from __future__ import annotations

import os
import random
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final, Self, TypeAlias

from headrace.demo.tasks import FileCount, count_file
from headrace.errors import InvalidSetting

MISSING: Final = 5
"""Files that are named and not there, so that their jobs fail on purpose."""

Finding: TypeAlias = FileCount | str
"""What is found in a file: its counts, or the name of the exception that reading it raises."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """What there is to count.

    Attributes:
        root: the folder.
        files: the files in it.
        missing: paths of files that are not there.
        left_out: how many files have names that are no text, so that JSON cannot name them.
    """

    root: Path
    files: tuple[str, ...]
    missing: tuple[str, ...]
    left_out: int = 0

    def in_order(self) -> list[str]:
        """Return all paths in the order of their jobs.

        Shuffled, the same each time: else the large files come together. The missing ones are spread
        over the first half, so that their retries are over before the rest is.
        """
        paths = list(self.files)
        random.Random(0).shuffle(paths)
        step = max(1, len(paths) // (2 * MISSING))
        for place, path in enumerate(self.missing):
            paths.insert(place * step, path)
        return paths


def take_inventory(folder: Path | None, elsewhere: Path) -> Inventory:
    """List the files to count: the ``.py`` files of a folder or, where it has none, all its files.

    Args:
        folder: where to look, hidden folders left out; None for Python's standard library.
        elsewhere: a folder of our own, in which the missing files are missing.

    Raises:
        InvalidSetting: there is no such folder, or it holds no files.
    """
    root = (folder or Path(sysconfig.get_path("stdlib"))).absolute()
    if not root.is_dir():
        raise InvalidSetting(f"{root} is not a folder: --files takes the one whose files to count")
    # What is installed beside the standard library is not part of it.
    found = _files_below(root, set() if folder else {"site-packages", "dist-packages"})
    found = [path for path in found if path.endswith(".py")] or found
    files = [path for path in found if _is_text(path)]
    if not files:
        raise InvalidSetting(f"there are no files in {root}: --files takes a folder that has some")
    missing = tuple(str(elsewhere / f"not-there-{n}.py") for n in range(1, MISSING + 1))
    return Inventory(root, tuple(files), missing, len(found) - len(files))


def _files_below(root: Path, skipped: set[str]) -> list[str]:
    files: list[str] = []
    for folder, names, entries in os.walk(root):
        names[:] = [name for name in names if name not in skipped and not name.startswith(".")]
        # Of text, not of Path objects: there may be 100,000 of them.
        paths = (os.path.join(folder, entry) for entry in entries)  # noqa: PTH118
        files += [path for path in paths if os.path.isfile(path)]  # noqa: PTH113
    return sorted(files)


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def plain_loop(paths: Sequence[str], progress: Callable[[int], None]) -> dict[str, Finding]:
    """Count files without a queue: one after the other, here."""
    found: dict[str, Finding] = {}
    for number, path in enumerate(paths, start=1):
        try:
            found[path] = count_file(path)
        except Exception as error:
            found[path] = type(error).__name__
        progress(number)
    return found


@dataclass(frozen=True, slots=True)
class Totals:
    """The sum of findings.

    Attributes:
        files: files that were counted.
        lines: their lines.
        tokens: their Python tokens.
        sha256: over the hashes of all of them, in the order of their paths.
    """

    files: int
    lines: int
    tokens: int
    sha256: str

    @classmethod
    def of(cls, findings: Mapping[str, Finding]) -> Self:
        """Add up what was found, failures left out."""
        counts = [found for _, found in sorted(findings.items()) if not isinstance(found, str)]
        return cls(
            files=len(counts),
            lines=sum(count["lines"] for count in counts),
            tokens=sum(count["tokens"] for count in counts),
            sha256=sha256("".join(count["sha256"] for count in counts).encode()).hexdigest(),
        )
