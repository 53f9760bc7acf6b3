"""The wheel: what ``pip install headrace`` puts on a machine, and nothing beside it."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Build a wheel and give the names of the files in it."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "hatchling",
        "build",
        "--target",
        "wheel",
        "--directory",
        str(folder),
    ]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if not name.endswith("/")}


def test_the_wheel_takes_one_name_in_site_packages_and_one_for_pytest(names: set[str]) -> None:
    tops = {name.split("/")[0] for name in names}
    packages = {top for top in tops if not top.endswith(".dist-info")}
    assert packages == {"headrace", "_headrace_pytest.py"}
    assert len(tops) == 3


def test_the_wheel_holds_the_package_whole(names: set[str]) -> None:
    source = ROOT / "src"
    files = {
        path.relative_to(source).as_posix()
        for path in (source / "headrace").rglob("*")
        if path.is_file() and path.suffix != ".pyc" and not path.name.startswith(".")
    }
    assert {name for name in names if name.startswith("headrace/")} == files


def test_the_wheel_is_typed_and_brings_its_scripts(names: set[str]) -> None:
    assert "headrace/py.typed" in names
    assert "headrace/scripts/enqueue.lua" in names


def test_the_wheel_brings_its_licence_and_its_command(names: set[str]) -> None:
    inside = {name.partition(".dist-info/")[2] for name in names}
    assert {"licenses/LICENSE", "entry_points.txt"} <= inside
