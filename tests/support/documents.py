"""Runs the code blocks of a Markdown document, top to bottom, as its reader would.

```python     run; a first line `# name.py` also saves the block under that name
```py         not run, but is Python: what a reader has who comes from elsewhere
```console    `$ command` lines are run, what follows is their output; `…` stands for anything;
              a command that ends in `&` runs in the background until the document ends
```json       must parse
```sh         not run here: each line must be known to `elsewhere`, which names the test that does
<!-- setup …  -->   Python that a reader need not see, run before the next block
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.processes import Process, processes
from tests.support.wait import WAIT_S, wait_until

_BLOCK = re.compile(
    r"^```(?P<language>\w*)\n(?P<code>.*?)^```$|^<!-- setup\n(?P<setup>.*?)^-->$",
    re.MULTILINE | re.DOTALL,
)


_LOOKS = ("headrace info", "headrace dlq list", "headrace consumers")


@dataclass(frozen=True)
class Block:
    """One code block: its language, its text, and the line where it begins."""

    language: str
    code: str
    line: int


def blocks_of(document: Path) -> Iterator[Block]:
    text = document.read_text()
    for match in _BLOCK.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        if match["setup"] is not None:
            yield Block("setup", match["setup"], line)
        else:
            yield Block(match["language"], match["code"], line)


def run_document(
    document: Path, folder: Path, env: dict[str, str], elsewhere: Mapping[str, str]
) -> None:
    """Run a document's blocks in a folder of their own."""
    names: dict[str, object] = {"__name__": "__document__"}
    with processes(folder) as start:
        for block in blocks_of(document):
            where = f"{document.name}:{block.line}"
            if block.language == "json":
                for line in block.code.splitlines():
                    json.loads(line)
            elif block.language == "py":
                compile(block.code, where, "exec")
            elif block.language in ("python", "setup"):
                _run_python(block.code, folder, names, where)
            elif block.language == "sh":
                for line in filter(None, map(_command, block.code.splitlines())):
                    assert line in elsewhere, f"{where}: no test is known to run {line!r}"
            elif block.language == "console":
                for command, expected in _commands(block.code):
                    if command.endswith("&"):
                        _run_behind(
                            start("bash", "-c", "exec " + command[:-1], env=env, cwd=folder),
                            expected,
                            where,
                        )
                    else:
                        _run(command, expected, folder, env, where)


def _command(line: str) -> str:
    """Give a line of a shell block without its comment."""
    return re.sub(r"\s+# .*|^# .*", "", line).strip()


def _run_python(code: str, folder: Path, names: dict[str, object], where: str) -> None:
    named = re.match(r"# (\w+\.py)\n", code)
    if named:
        (folder / named[1]).write_text(code)
        sys.modules.pop(named[1].removesuffix(".py"), None)  # another document's
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    try:
        exec(compile(code, where, "exec", dont_inherit=True), names)
    finally:
        sys.path.remove(str(folder))


def _commands(code: str) -> Iterator[tuple[str, list[str]]]:
    command = ""
    output: list[str] = []
    for line in code.splitlines():
        if line.startswith("$ "):
            if command:
                yield command, output
            command, output = _command(line[2:]), []
        elif line.startswith("  ") and command.endswith("\\"):
            command = command[:-1] + _command(line)
        else:
            output.append(line)
    if command:
        yield command, output


def _matches(expected: list[str], actual: str) -> bool:
    if not expected:
        return True
    pattern = r"\n".join(re.escape(line.rstrip()).replace("…", ".*?") for line in expected)
    cleaned = "\n".join(line.rstrip() for line in actual.strip().splitlines())
    return re.fullmatch(pattern, cleaned, re.DOTALL) is not None


def _run(command: str, expected: list[str], folder: Path, env: dict[str, str], where: str) -> None:
    # What becomes of jobs shows after a while: as a reader would, look again.
    if command.startswith(_LOOKS):
        wait_until(lambda: _matches(expected, _ran(command, folder, env, where)), where)
        return
    shown = _ran(command, folder, env, where)
    assert _matches(expected, shown), f"{where}: {command} printed\n{shown}\nand not\n" + "\n".join(
        expected
    )


def _ran(command: str, folder: Path, env: dict[str, str], where: str) -> str:
    ended = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert ended.returncode == 0, f"{where}: {command}\n{ended.stdout}{ended.stderr}"
    return ended.stdout


def _run_behind(process: Process, expected: list[str], where: str) -> None:
    def shown() -> bool:
        assert process.alive(), f"{where}: {process.output}"
        return _matches(expected, process.output)

    wait_until(shown, f"{where} prints {expected}")
