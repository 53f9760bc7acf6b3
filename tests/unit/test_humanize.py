"""How lengths of time are written, and what is to be pasted into a shell."""

import shlex

import pytest

from headrace.doctor import command
from headrace.doctor.humanize import span


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


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 s"), (0.4, "0 s"), (119, "119 s"), (120, "2 min"), (179, "3 min"), (7_200, "2 h"),
     (200_000, "2 d")],
)  # fmt: skip
def test_a_length_of_time_is_rounded_the_same_everywhere(seconds: float, text: str) -> None:
    assert span(seconds) == text
