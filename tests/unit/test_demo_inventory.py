"""The files of the demo, and the plain loop over them."""

from __future__ import annotations

import hashlib
import os
import sysconfig
from pathlib import Path

import pytest

from headrace.demo.inventory import MISSING, Totals, plain_loop, take_inventory
from headrace.errors import InvalidSetting


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    for name in ("b.py", "a.py", "deep/er/c.py", "notes.txt", ".hidden/d.py", "site-packages/e.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"x = {name!r}\n")
    (folder / "gone.py").symlink_to(folder / "nowhere.py")
    os.mkfifo(folder / "pipe.py")
    return folder


def names(files: tuple[str, ...], folder: Path) -> list[str]:
    return [Path(file).relative_to(folder).as_posix() for file in files]


def test_python_files_are_counted_where_there_are_some(folder: Path, tmp_path: Path) -> None:
    inventory = take_inventory(folder, tmp_path)
    assert names(inventory.files, folder) == ["a.py", "b.py", "deep/er/c.py", "site-packages/e.py"]
    assert inventory.left_out == 0


def test_all_files_are_counted_where_there_is_no_python(folder: Path, tmp_path: Path) -> None:
    for file in folder.rglob("*.py"):
        file.unlink()
    assert names(take_inventory(folder, tmp_path).files, folder) == ["notes.txt"]


def test_a_name_that_is_no_text_is_left_out(folder: Path, tmp_path: Path) -> None:
    try:
        Path(os.fsdecode(os.fsencode(folder) + b"/\xff.py")).touch()
    except OSError:
        pytest.skip("this file system takes only text for names")
    inventory = take_inventory(folder, tmp_path)
    assert (len(inventory.files), inventory.left_out) == (4, 1)


def test_without_a_folder_it_is_the_standard_library_alone(tmp_path: Path) -> None:
    inventory = take_inventory(None, tmp_path)
    root = Path(sysconfig.get_paths()["stdlib"])
    assert inventory.root == root
    assert str(root / "json" / "decoder.py") in inventory.files
    assert not [file for file in inventory.files if "site-packages" in file]


@pytest.mark.parametrize("what", ["empty", "file", "nothing"])
def test_what_holds_no_files_is_refused(tmp_path: Path, what: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(InvalidSetting, match="--files"):
        take_inventory(tmp_path / what, tmp_path)


@pytest.mark.parametrize("count", [1, 4, 5, 9, 10, 11, 100])
def test_each_path_comes_once_and_the_missing_ones_in_the_first_half(
    tmp_path: Path, count: int
) -> None:
    for number in range(count):
        (tmp_path / f"{number}.py").touch()
    inventory = take_inventory(tmp_path, tmp_path / "elsewhere")
    order = inventory.in_order()
    assert sorted(order) == sorted([*inventory.files, *inventory.missing])
    assert order == inventory.in_order()
    assert len(inventory.missing) == MISSING
    if count >= 2 * MISSING:
        assert max(map(order.index, inventory.missing)) <= len(order) / 2


def test_the_plain_loop_gives_the_counts_or_why_there_are_none(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\ny = 2\n")
    good, bad = str(tmp_path / "a.py"), str(tmp_path / "b.py")
    seen: list[int] = []
    found = plain_loop([good, bad], seen.append)
    assert found[bad] == "FileNotFoundError"
    sha256 = hashlib.sha256(b"x = 1\ny = 2\n").hexdigest()
    assert found[good] == {"lines": 2, "tokens": 9, "sha256": sha256}
    assert seen == [1, 2]


def test_totals_leave_failures_out_and_do_not_depend_on_the_order() -> None:
    one, two = (
        {"lines": 1, "tokens": 10, "sha256": "ab"},
        {"lines": 2, "tokens": 20, "sha256": "cd"},
    )
    totals = Totals.of({"b": two, "x": "OSError", "a": one})  # type: ignore[dict-item]
    assert (totals.files, totals.lines, totals.tokens) == (2, 3, 30)
    assert totals == Totals.of({"a": one, "b": two})  # type: ignore[dict-item]
    assert totals != Totals.of({"a": two, "b": one})  # type: ignore[dict-item]
