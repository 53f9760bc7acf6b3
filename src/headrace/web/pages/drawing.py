"""Draws a workflow: members in columns, each after all that it waits for. Pure."""

from __future__ import annotations

from collections import defaultdict
from typing import Final, NamedTuple

from headrace.workflows.graph import Graph, MemberState

_ROWS: Final = 8  # boxes in a column; the others of it are one box
_COLUMNS: Final = 40
_BOX: Final = (150, 44)
_STEP: Final = (206, 60)
_MARGIN: Final = 2


class MemberBox(NamedTuple):
    """A member, or several that stand where there is no room.

    Attributes:
        x: its left side …
        y: … and its top.
        title: what stands in it.
        phase: how far it is; of several, "more".
        member: the member; None if it is several.
    """

    x: int
    y: int
    title: str
    phase: str
    member: MemberState | None = None


class Drawing(NamedTuple):
    """A picture of a workflow.

    Attributes:
        width: of the whole …
        height: … and how high that is.
        box: how wide and high each box is.
        boxes: the members.
        lines: who waits for whom, each as SVG has a path.
    """

    width: int
    height: int
    box: tuple[int, int]
    boxes: list[MemberBox]
    lines: list[str]


def drawn(graph: Graph) -> Drawing | None:
    """Draw a workflow; None if it has too many steps in a row, or nothing to see."""
    known = {one.n for one in graph.members}
    before: defaultdict[int, list[range]] = defaultdict(list)
    for first, last, after in graph.edges:
        for n in after:
            before[n].append(range(first, last + 1))
    columns = _columns(graph.members, before)
    if len(columns) > _COLUMNS or not columns:
        return None
    boxes, place = _boxes(columns)
    lines = {
        _line(place[one], place[n])
        for n, ranges in before.items()
        if n in known
        for range_ in ranges
        for one in range_
        if one in known and place[one] != place[n]
    }
    tallest = max(min(len(column), _ROWS + 1) for column in columns)
    width = _STEP[0] * (len(columns) - 1) + _BOX[0] + 2 * _MARGIN
    height = _STEP[1] * (tallest - 1) + _BOX[1] + 2 * _MARGIN
    return Drawing(width, height, _BOX, boxes, sorted(lines))


def _columns(members: list[MemberState], before: dict[int, list[range]]) -> list[list[MemberState]]:
    """Put each member one column after the last of those that it waits for: they have smaller numbers."""
    level: dict[int, int] = {}
    columns: defaultdict[int, list[MemberState]] = defaultdict(list)
    for one in members:
        ranges = before.get(one.n, ())
        level[one.n] = 1 + max((level.get(n, -1) for r in ranges for n in r), default=-1)
        columns[level[one.n]].append(one)
    return [columns[n] for n in sorted(columns)]


def _boxes(
    columns: list[list[MemberState]],
) -> tuple[list[MemberBox], dict[int, tuple[int, int]]]:
    """Place the boxes, each column in the middle; return where each member is, too."""
    tallest = max(min(len(column), _ROWS + 1) for column in columns)
    boxes: list[MemberBox] = []
    place: dict[int, tuple[int, int]] = {}
    for at, column in enumerate(columns):
        rows = min(len(column), _ROWS + 1)
        x, top = _MARGIN + at * _STEP[0], _MARGIN + (tallest - rows) * _STEP[1] // 2
        for row, one in enumerate(column):
            where = x, top + min(row, _ROWS) * _STEP[1]
            place[one.n] = where
            if row < _ROWS or len(column) == _ROWS + 1:
                title = _short(one.task) or f"member {one.n}"
                boxes.append(MemberBox(*where, title, one.phase, one))
        if len(column) > _ROWS + 1:
            y = top + _ROWS * _STEP[1]
            boxes.append(MemberBox(x, y, f"and {len(column) - _ROWS:,} more", "more"))
    return boxes, place


def _short(task: str) -> str:
    return task if len(task) <= 18 else f"…{task[-17:]}"


def _line(start: tuple[int, int], end: tuple[int, int]) -> str:
    x1, y1 = start[0] + _BOX[0], start[1] + _BOX[1] // 2
    x2, y2 = end[0] - 6, end[1] + _BOX[1] // 2
    middle = (x1 + x2) // 2
    return f"M{x1} {y1} C{middle} {y1} {middle} {y2} {x2} {y2}"
