"""How the doctor writes what is to be pasted into a shell."""

import shlex

import pytest

from headrace.doctor import command


def test_an_everyday_name_stands_as_it_is() -> None:
    assert command("dlq", "list", of="emails") == "headrace dlq list emails"


@pytest.mark.parametrize(
    "name", ["q;touch$IFS/tmp/pwned", "$(id)", "`id`", "a'b", 'a"b', "a&b", "a|b", "\u202eq", "*"]
)
def test_a_name_is_one_word_to_a_shell_whatever_it_holds(name: str) -> None:
    written = command("resume", of=name)
    assert shlex.split(written) == ["headrace", "resume", name]
    assert written != f"headrace resume {name}"


def test_a_name_that_looks_like_an_option_is_not_read_as_one() -> None:
    assert shlex.split(command("doctor", "--repair", of="--yes"))[1:] == [
        "doctor",
        "--repair",
        "--",
        "--yes",
    ]
