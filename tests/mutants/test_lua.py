"""The mutator: every small mistake is made once, and what is no code stays as it is."""

from __future__ import annotations

import pytest

from headrace import scripts
from tests.mutants.__main__ import TESTS
from tests.mutants.bench import SCRIPTS, with_mutant
from tests.mutants.lua import Mutant, mutants_of
from tests.mutants.survivors import PAGE, Explained, explained, row


@pytest.mark.parametrize("script", TESTS)
def test_with_a_mutant_that_is_the_script_itself_all_scripts_are_as_they_are(script: str) -> None:
    source = (SCRIPTS / f"{script}.lua").read_text("utf-8")
    load = with_mutant(Mutant(script, 1, "", "", source))
    for name in ("settle", "claim", "adopt", "reclaim", "workflows/commit"):
        assert load(name) == scripts.script(name)


def wrong(line: str) -> list[str]:
    """Give what mutants make of one line."""
    return [mutant.wrong for mutant in mutants_of("x", line + "\n")]


@pytest.mark.parametrize(
    ("right", "expected"),
    [
        ("x = a == b", ["", "x = a ~= b"]),
        ("return a < b", ["return a <= b", "return a >= b"]),
        ("return a and not b", ["return a or not b", "return a and b"]),
        ("return a - -b", ["return a + -b", "return a - b"]),
        ("return 0", ["return 1"]),
        ("return 5", ["return 4", "return 6"]),
        ("return 1048576", ["return 0", "return 10485760"]),
        ("return math.min(a)", ["return math.max(a)"]),
        ("local f = true", ["local f = false"]),
        ("return 'ok'", ["return 'XXok'"]),
        ("f(a, b)", ["", "f(a)"]),
        ("redis.call('LPUSH', k, v)", ["", "redis.call('RPUSH', k, v)", "redis.call('LPUSH', k)"]),
        ("return redis.call('HGET', k)", ["return redis.call('HGET')"]),
        ("return g(k, 'RANK', -1)", ["return g(k)", "return g(k, 'XXRANK', -1)"]),
        ("if a then return b end", ["if false then return b end", "if true then return b end"]),
        ("while a do f() end", ["while false do f() end", "while a do end"]),
        ("return string.find(a, '^%d+')", None),
    ],
)
def test_each_mistake_is_made(right: str, expected: list[str] | None) -> None:
    made = wrong(right)
    assert len(set(made)) == len(made)
    if expected is None:
        assert {"return string.find(a, '%d+')", "return string.find(a, '^%d*')"} <= set(made)
    else:
        assert set(expected) <= set(made)


def test_comments_shebangs_and_commands_without_a_twin_stay() -> None:
    source = "#!lua flags=allow-oom\n-- KEYS 1 a == b\nlocal x = redis.call('TIME')  -- 1 < 2\n"
    assert mutants_of("x", source) == []


def test_a_statement_of_several_lines_goes_whole() -> None:
    source = "call(a,\n  b)\nother()\n"
    dropped = [mutant for mutant in mutants_of("x", source) if mutant.wrong == ""]
    assert [mutant.source.strip() for mutant in dropped] == ["other()", "call(a,\n  b)"]
    assert [(mutant.line, mutant.right) for mutant in dropped] == [
        (1, "call(a, b)"),
        (3, "other()"),
    ]


@pytest.mark.parametrize("script", ["settle", "claim", "adopt", "reclaim", "lib/head"])
def test_of_each_script_there_are_many_and_no_two_alike(script: str) -> None:
    source = (SCRIPTS / f"{script}.lua").read_text("utf-8")
    mutants = mutants_of(script, source)
    assert len(mutants) > 80
    assert len({mutant.source for mutant in mutants} - {source}) == len(mutants)


@pytest.mark.parametrize("line", ["return a | b", "x = `y`", "", "f(x)"])
def test_a_row_is_read_as_it_was_written(line: str) -> None:
    one = Explained("x.lua", line, line + "!", "so")
    assert explained(f"text\n{row(one)}\n") == [one]


def test_the_page_explains_only_lines_that_are_there() -> None:
    """What explains code that has changed since explains nothing."""
    for one in explained(PAGE.read_text("utf-8")):
        folder = SCRIPTS if one.file.endswith(".lua") else SCRIPTS.parent
        text = " ".join((folder / one.file).read_text("utf-8").split())
        assert one.right in text, f"docs/mutants.md: {one.file}: {one.right}"
