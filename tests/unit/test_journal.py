"""A journal that is being written is read to its last whole line."""

from __future__ import annotations

from pathlib import Path

from tests.support.journal import lines_of


def test_a_line_that_is_half_there_is_not_read(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    journal.write_text("start 1\nend 1\nend")
    assert lines_of(journal) == [["start", "1"], ["end", "1"]]
    journal.write_text("")
    assert lines_of(journal) == []
