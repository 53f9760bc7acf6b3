"""The life cycle of a job as a picture: places as boxes, moves as arrows. The same for every queue. Pure."""

from __future__ import annotations

from typing import Final, NamedTuple


class Box(NamedTuple):
    """A place, or an end.

    Attributes:
        name: of the place, or of the counter of an end.
        title: what it is called.
        x: its left side …
        y: … and its top.
        is_place: jobs are there, and can be looked at.
    """

    name: str
    title: str
    x: int
    y: int
    is_place: bool = True


class Arrow(NamedTuple):
    """A move.

    Attributes:
        name: of the script that makes it.
        path: its line, as SVG has it.
        x: where its name stands …
        y: … and how low.
        anchor: which part of the name stands there.
        ends: it ends at a box, and not in another arrow.
    """

    name: str
    path: str
    x: int
    y: int
    anchor: str = "middle"
    ends: bool = True


class Picture(NamedTuple):
    """A picture.

    Attributes:
        shape: which screens it is for.
        width: of the whole …
        height: … and how high that is, below 0 …
        above: … and above.
        box_width: of each box …
        box_height: … and how high that is.
        boxes: the places.
        arrows: the moves.
    """

    shape: str
    width: int
    height: int
    above: int
    box_width: int
    box_height: int
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]


WIDE: Final = Picture(
    "wide", 1140, 246, 34, 150, 56,
    (
        Box("enqueued", "accepted", 1, 98, is_place=False),
        Box("delayed", "delayed", 248, 6), Box("pending", "pending", 495, 98),
        Box("priority", "priority", 495, 6), Box("limited", "limited", 495, 190),
        Box("processing", "processing", 742, 98),
        Box("done", "done", 989, 98, is_place=False), Box("dead", "dead", 989, 190),
    ),
    (
        Arrow("enqueue", "M151 126 H487", 320, 118),
        Arrow("", "M200 126 V34 H240", 0, 0),
        Arrow("promote", "M398 34 H487", 440, 26),
        Arrow("", "M446 34 V126", 0, 0, ends=False),
        Arrow("", "M446 126 V218 H487", 0, 0),
        Arrow("claim", "M645 126 H734", 714, 118),
        Arrow("", "M645 34 H689 V126", 0, 0, ends=False),
        Arrow("", "M645 218 H689 V126", 0, 0, ends=False),
        Arrow("ack", "M892 126 H981", 936, 118),
        Arrow("dead-letter", "M936 126 V218 H981", 930, 194, "end"),
        Arrow("retry", "M817 98 V-14 H323 V-1", 570, -20),
    ),
)  # fmt: skip

TALL: Final = Picture(
    "tall", 358, 452, 0, 106, 52,
    (
        Box("enqueued", "accepted", 126, 1, is_place=False),
        Box("delayed", "delayed", 1, 98), Box("priority", "priority", 126, 98), Box("limited", "limited", 251, 98),
        Box("pending", "pending", 126, 196),
        Box("processing", "processing", 126, 294),
        Box("done", "done", 126, 392, is_place=False), Box("dead", "dead", 251, 392),
    ),
    (
        Arrow("enqueue", "M179 53 V91", 187, 70, "start"),
        Arrow("", "M179 75 H54 V91", 0, 0), Arrow("", "M179 75 H304 V91", 0, 0),
        Arrow("promote", "M54 150 V222 H119", 64, 215, "start"),
        Arrow("", "M179 150 V189", 0, 0),
        Arrow("", "M304 150 V222 H239", 0, 0),
        Arrow("claim", "M179 248 V287", 187, 272, "start"),
        Arrow("ack", "M179 346 V385", 187, 370, "start"),
        Arrow("dead-letter", "M232 320 H304 V385", 239, 312, "start"),
        Arrow("retry", "M126 320 H22 V157", 70, 312),
    ),
)  # fmt: skip
