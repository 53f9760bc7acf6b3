"""Every script under keys and arguments that no caller of ours gives.

It answers in the words of its header and the invariants hold, or it fails and has changed nothing:
a script that fails half way is not rolled back. What does not hold yet stands in ``KNOWN``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis

from headrace.operations import Operation
from headrace.store import Store
from tests.fuzz.extent import TIMES, bounded
from tests.fuzz.stage import Stage
from tests.integration.transitions.driver import ME, Driver
from tests.support.processes import ROOT

SCRIPTS: Final = sorted(path.stem for path in (ROOT / "src" / "headrace" / "scripts").glob("*.lua"))
ODD: Final = (
    *(b"", b"-1", b"1.5", b"9.5", b"nan", b"x", b"\xff\x00", b"1" * 40),
    b'{"id":"b","task":"t"}',
)
MORE_ODD: Final = (
    *(b"0", b"-0", b"inf", b"-inf", b"-nan", b"1e3", b"1e400", b"0x10", b" 5", b"x" * 7_000),
    *(b"9007199254740993", b"9223372036854775807", b"-9223372036854775808", b"\x00"),
    *(b"done", b"retry", b"nonsense"),
)
EVERY: Final = ODD + MORE_ODD
KINDS: Final = ("string", "list", "zset", "hash")
WRONG: Final = "wrong"

# What fails after it has written (or answers "ok" to what breaks an invariant). The callers are our
# own code, which never does it; what is no longer so goes from this list.
KNOWN: Final[frozenset[str]] = frozenset({"settle ARGV 7", "settle fewer KEYS"})


@pytest.fixture
def stage(url: str, redis: Redis) -> Iterator[Stage]:
    store = Store(url, name="test")
    yield Stage(Driver(store, redis))
    store.close()


def encoded(operation: Operation[Any]) -> tuple[list[bytes], list[bytes]]:
    """Give the keys and the arguments of a call, as they are sent."""
    args = [arg if isinstance(arg, bytes) else str(arg).encode() for arg in operation.args]
    return [key.encode() for key in operation.keys], args


# Where a list of equal groups begins among the arguments, and how many are one group.
GROUPS: Final = {
    "settle": (1, 7),
    "extend": (2, 2),
    "push": (0, 1),
    "enqueue": (4, 1),
    "redrive": (0, 2),
}


def place_of(operation: Operation[Any], index: int) -> str:
    """Name an argument as the script's header does."""
    start, width = GROUPS.get(operation.name, (1_000, 1))
    at = index if index < start else start + (index - start) % width
    return f"{operation.name} ARGV {at + 1}"


def is_a_name(arg: bytes) -> bool:
    """Tell whether an argument is a consumer's name or token: ours have no white space."""
    return arg == ME.encode() or arg.startswith(f"{ME}:".encode())


def calls(operation: Operation[Any]) -> Iterator[tuple[str, list[bytes], list[bytes]]]:
    """Give calls that are a little wrong, each with the name of what is wrong."""
    keys, args = encoded(operation)
    name = operation.name
    yield f"{name} valid", keys, args
    for index, arg in enumerate(args):
        for odd in EVERY if TIMES > 1 else ODD:
            if not (is_a_name(arg) and b" " in odd):
                yield place_of(operation, index), keys, [*args[:index], odd, *args[index + 1 :]]
    for stop in range(len(args)):
        yield f"{name} fewer ARGV", keys, args[:stop]
    yield f"{name} more ARGV", keys, [*args, b"more"]
    for stop in range(len(keys)):
        yield f"{name} fewer KEYS", keys[:stop], args
    yield f"{name} more KEYS", [*keys, b"more"], args


@pytest.mark.timeout(60 * TIMES)
@pytest.mark.parametrize("name", SCRIPTS)
class TestEachScript:
    def test_answers_or_fails_and_has_changed_nothing(self, stage: Stage, name: str) -> None:
        faults: dict[str, str] = {}
        for operation in self.operations(stage, name):
            for place, keys, args in calls(operation):
                if fault := stage.call(operation, keys, args):
                    faults.setdefault(place, f"{keys} {args}: {fault}"[:2_000])
        self.compare(faults)

    def test_does_so_when_a_key_is_of_a_wrong_type(self, stage: Stage, name: str) -> None:
        faults: dict[str, str] = {}
        for kind in KINDS:
            stage.disturb(WRONG, kind)
            for operation in self.operations(stage, name):
                keys, args = encoded(operation)
                for index in range(len(keys)):
                    wrong = [*keys[:index], WRONG.encode(), *keys[index + 1 :]]
                    if fault := stage.failing(operation, wrong, args):
                        faults.setdefault(f"{name} KEYS {index + 1}", f"{kind}: {fault}"[:2_000])
            stage.calm()
        self.compare(faults)

    def operations(self, stage: Stage, name: str) -> list[Operation[Any]]:
        found = [operation for operation in stage.operations() if operation.name == name]
        assert found, f"there is no call of {name} in tests/fuzz/stage.py: add one"
        return found

    def compare(self, faults: dict[str, str]) -> None:
        new = {place: fault for place, fault in faults.items() if place not in KNOWN}
        assert not new, "\n".join(f"{place}: {fault}" for place, fault in new.items())


@pytest.mark.timeout(60 * TIMES)
@bounded(40)
@given(data=st.data())
def test_several_things_wrong_at_once_change_nothing_either(
    stage: Stage, data: st.DataObject
) -> None:
    operation = data.draw(st.sampled_from(stage.operations()), label="operation")
    keys, args = encoded(operation)
    touched = set()
    for _ in range(data.draw(st.integers(1, 3))):
        if not args:
            break
        index = data.draw(st.integers(0, len(args) - 1), label="argument")
        odd = data.draw(
            st.sampled_from(EVERY) | st.integers().map(lambda n: b"%d" % n), label="odd"
        )
        if is_a_name(args[index]):
            continue
        touched.add(place_of(operation, index))
        args[index] = odd
    fault = stage.call(operation, keys, args)
    assert not fault or touched & KNOWN, f"{operation.name} {keys} {args}: {fault}"


def test_the_server_lives_after_all_of_it(stage: Stage) -> None:
    for operation in stage.operations():
        assert stage.call(operation, *encoded(operation)) == ""
    assert stage.redis.ping()
