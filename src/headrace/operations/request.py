"""Every request to Redis as data: what to run, on which keys, and how to read the answer.

Each is written once; two thin stores run them, one that blocks and one that is awaited.
What takes several requests in a row is a flow: see ``flows``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

from headrace.errors import StoreError
from headrace.scripts import Script, script

R = TypeVar("R")
Argument: TypeAlias = str | bytes | int | float


class Operation(NamedTuple, Generic[R]):
    """One request.

    Attributes:
        name: what it is called in logs and by fault-injecting stores.
        script: the script to run, or None for a plain command.
        keys: the keys it touches, all of them.
        args: its arguments; for a plain command the whole command, keys included.
        parse: turns the raw answer into what the caller wants.
        wait_s: how long Redis may block before it answers, seconds; added to the read timeout.
    """

    name: str
    script: Script | None
    keys: tuple[str, ...]
    args: tuple[Argument, ...]
    parse: Callable[[Any], R]
    wait_s: float = 0

    def command(self) -> tuple[Argument, ...]:
        """Return the command as it is sent: EVALSHA for a script."""
        if self.script is None:
            return self.args
        return ("EVALSHA", self.script.sha, len(self.keys), *self.keys, *self.args)

    def at_once(self) -> Operation[R]:
        """Return the command that answers as this one does and never blocks: LMOVE for BLMOVE."""
        if self.name == "XREAD":  # BLOCK and its time stand in front
            return self._replace(args=(self.name, *self.args[3:]), wait_s=0)
        name = str(self.args[0]).removeprefix("B")
        return self._replace(args=(name, *self.args[1:-1]), wait_s=0)


def run(
    name: str, keys_used: Sequence[str], args: Iterable[Argument], parse: Callable[[Any], R]
) -> Operation[R]:
    """Describe a call of a script."""
    return Operation(name, script(name), tuple(keys_used), tuple(args), parse)


def command(*args: Argument, parse: Callable[[Any], R], wait_s: float = 0) -> Operation[R]:
    """Describe a plain command, which changes no job's place."""
    return Operation(str(args[0]), None, (), args, parse, wait_s)


def load(unknown: Script) -> Operation[None]:
    """Make a script known to the server."""
    return command("SCRIPT", "LOAD", unknown.source, parse=nothing)


def unfailed(answers: Iterable[R | StoreError]) -> list[R]:
    """Return the answers of one round trip.

    Raises:
        StoreError: one of them is an error; the first is raised.
    """
    good: list[R] = []
    for answer in answers:
        if isinstance(answer, StoreError):
            raise answer
        good.append(answer)
    return good


def text(raw: Any) -> str:
    """Read a word or an id."""
    return raw.decode() if isinstance(raw, bytes) else str(raw)


def texts(raw: Any) -> list[str]:
    """Read words or ids."""
    return [text(item) for item in raw]


def is_one(raw: Any) -> bool:
    """Read a 1 as yes."""
    return bool(raw == 1)


def nothing(_: Any) -> None:
    """Read an answer that says only that it was done."""
    return
