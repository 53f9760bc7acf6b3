"""What commands print: one place chooses between JSON, plain lines and what a terminal can draw."""

from __future__ import annotations

import pytest

from headrace.cli import output


def test_progress_without_a_terminal_is_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now_s = 0.0
    monkeypatch.setattr(output, "monotonic", lambda: now_s)
    with output.progress("enqueued", 10_000) as show:
        for second in range(10):
            now_s = float(second)
            show(second * 1_000)
    assert capsys.readouterr().err.splitlines() == [
        "2,000 of 10,000 enqueued",
        "7,000 of 10,000 enqueued",
    ]


def test_an_answer_is_json_or_lines(capsys: pytest.CaptureFixture[str]) -> None:
    table = output.Table(
        [output.Column("Name"), output.Column("Jobs")], [["a", 1_200], ["b", None]]
    )
    lines: list[output.Line] = ["first", (("good", "green"), (": all", "")), table]
    output.show({"good": True}, lines, json=True)
    output.show({"good": True}, lines, json=False)
    assert capsys.readouterr().out.splitlines() == [
        '{"good":true}',
        "first",
        "good: all",
        "name  jobs",
        "a     1200",
        "b     -",
    ]


def test_what_came_out_of_redis_cannot_draw(capsys: pytest.CaptureFixture[str]) -> None:
    bad = "a\x1b[2J\nb"
    output.show(None, [bad, ((bad, ""),), *output.paragraph(bad)], json=False)
    output.show(None, [output.Table([output.Column("X")], [[bad]])], json=False)
    assert capsys.readouterr().out.splitlines() == [*[r"a\x1b[2J\nb"] * 3, "x", r"a\x1b[2J\nb"]


def test_a_paragraph_keeps_its_indent_and_its_width(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    text = "twelve jobs wait and 3\xa0dead ones are kept"
    output.show(None, output.paragraph(text, first="queue", indent=7), json=False)
    assert capsys.readouterr().out.splitlines() == [
        "queue  twelve jobs wait and",
        "       3 dead ones are kept",
    ]


@pytest.mark.parametrize(
    ("cell", "text"),
    [(True, "yes"), (False, "no"), (0, "0"), (1.25, "1.2"), (None, "-"), ("", "-")],
)
def test_a_cell_is_for_programs(cell: output.Cell, text: str) -> None:
    assert output.cell_text(cell) == text
