"""The proof at the end of the demo: what it finds in the ledger and in what the commands say."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from headrace.demo import show
from headrace.demo.orders import Ledger
from headrace.demo.proof import Proof

VICTIM, OTHER = 1, 2
LEDGER = """\
a begun 1 11
b begun 1 12
a paid 1 11
d begun 2 13
d refused 2 13
d begun 2 13
d refused 2 13
b begun 2 12
b paid 2 12
c begun 2 14
c paid 2 14
d begun 2 13
d refused 2 13
"""
NOTHING_ELSE = dict.fromkeys(("foreign", "pending", "priority", "delayed", "processing"), 0)


@pytest.fixture
def proof(tmp_path: Path) -> Proof:
    """Give what a run looks like in which all went well."""
    return Proof(
        accepted=["a", "b", "c", "d"],
        ledger=read(LEDGER, tmp_path),
        dead=["d"],
        total={"accepted": 4, "done": 3, "dead": 1, **NOTHING_ELSE},
        victim=VICTIM,
        restart=7,
    )


def read(text: str, folder: Path) -> Ledger:
    (folder / "ledger").write_text(text)
    return Ledger.read(folder / "ledger")


def problems(proof: Proof, **changes: object) -> list[str]:
    return list(dataclasses.replace(proof, **changes).problems())  # type: ignore[arg-type]


def test_a_run_in_which_all_went_well_has_no_problems(proof: Proof) -> None:
    assert problems(proof) == []
    assert proof.ends() == "4 accepted = 3 paid + 1 dead"
    assert proof.repeats() == "begun twice: 1 of the killed consumer; paid twice: none"


def test_a_job_without_an_end_is_lost(proof: Proof, tmp_path: Path) -> None:
    unpaid = read(LEDGER.replace("c paid 2 14\n", ""), tmp_path)
    assert "job c is lost: it is neither paid nor dead" in problems(proof, ledger=unpaid)
    assert "job d is lost: it is neither paid nor dead" in problems(proof, dead=[])


@pytest.mark.parametrize("dead", [["d", "d"], ["d", "a"], ["a"]])
def test_a_job_has_a_dead_letter_if_it_was_refused(proof: Proof, dead: list[str]) -> None:
    assert problems(proof, dead=dead)


def test_a_job_that_nobody_enqueued_is_a_problem(proof: Proof, tmp_path: Path) -> None:
    stranger = read(f"{LEDGER}x begun 2 15\n", tmp_path)
    assert problems(proof, ledger=stranger) == ["job x was never accepted"]
    assert problems(proof, dead=["d", "y"]) == ["job y was never accepted"]


@pytest.mark.parametrize("place", ["accepted", "done", "dead", *NOTHING_ELSE])
def test_an_audit_that_counts_otherwise_is_a_problem(proof: Proof, place: str) -> None:
    (told,) = problems(proof, total={**proof.total, place: proof.total[place] + 1})
    assert told.startswith(f"headrace audit says {proof.total[place] + 1} {place}")


def test_two_jobs_with_one_id_are_a_problem(proof: Proof) -> None:
    assert problems(proof, accepted=["a", "b", "c", "d", "d"], total={**proof.total, "accepted": 5})


def test_it_says_why_jobs_were_begun_again(proof: Proof, tmp_path: Path) -> None:
    again = LEDGER + "a begun 2 11\na paid 2 11\nc begun 2 14\n"
    told = dataclasses.replace(proof, ledger=read(again, tmp_path)).repeats()
    assert told == "begun twice: 2 of the killed consumer, 1 for another reason; paid twice: 1"
    early = dataclasses.replace(proof, ledger=read(again, tmp_path), restart=10).repeats()
    assert "1 as Redis was killed" in early


def test_the_ledger_says_who_is_at_work_and_what_has_ended(tmp_path: Path) -> None:
    lines = LEDGER.splitlines(keepends=True)
    begun = read("".join(lines[:4]), tmp_path)
    assert (begun.running(VICTIM), begun.running(OTHER), begun.ended()) == (1, 1, 1)
    assert (read("".join(lines[:5]), tmp_path).ended(), read(LEDGER, tmp_path).ended()) == (2, 4)


def test_a_line_of_the_ledger_that_is_being_written_is_left_out(tmp_path: Path) -> None:
    assert len(read("a begun 1 11\na pa", tmp_path)) == 1
    assert len(read("a beg", tmp_path)) == len(read("", tmp_path)) == 0


def test_the_verdict_is_an_exit_code(proof: Proof, capsys: pytest.CaptureFixture[str]) -> None:
    assert show.verdict(proof) == 0
    assert capsys.readouterr().out.startswith("Nothing was lost: 4 accepted = 3 paid + 1 dead")
    assert show.verdict(dataclasses.replace(proof, dead=[])) == 1
    told = capsys.readouterr().out
    assert "- job d is lost" in told and "Not every job is accounted for: 1 problem." in told
