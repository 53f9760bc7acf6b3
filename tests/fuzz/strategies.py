"""Bytes that are almost jobs, as hypothesis makes them; simplest first, so that it can shrink them."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.fuzz.seeds import ERROR_FIELDS, FIELDS, JOBS, PIECES, VALUES

_values = st.sampled_from(VALUES) | st.integers().map(lambda n: b"%d" % n)
_error = st.lists(st.tuples(st.sampled_from(ERROR_FIELDS), _values), max_size=4).map(
    lambda pairs: b"{%b}" % b",".join(b'"%b":%b' % (n.encode(), v) for n, v in pairs)
)


@st.composite
def objects(draw: st.DrawFn) -> bytes:
    """Write an object of the wire's fields, in any order, some twice, with values of any type."""
    space = draw(st.sampled_from([b"", b"", b"", b" ", b"\r\n"]))
    names = draw(st.lists(st.sampled_from(FIELDS), max_size=6))
    if draw(st.booleans()):
        names = ["id", *names]
    parts = []
    for name in names:
        value = draw(_error | _values if name == "error" else _values)
        usual = {"id": b'"a"', "task": b'"t"', "args": b"[]", "kwargs": b"{}"}.get(name)
        parts.append((name, usual if usual and draw(st.booleans()) else value))
    if draw(st.booleans()):
        parts.append(("task", b'"t"'))
    written = (b"," + space).join(b'"%b"%b:%b%b' % (n.encode(), space, space, v) for n, v in parts)
    return b"{" + written + space + b"}"


def _mutated(job: bytes, edits: list[tuple[float, int, bytes]]) -> bytes:
    for where, length, piece in edits:
        at = int(where * len(job))
        job = job[:at] + piece + job[at + length :]
    return job


_edits = st.lists(
    st.tuples(
        st.floats(0, 1),
        st.integers(0, 3) | st.integers(0, 60),
        st.sampled_from(PIECES) | st.binary(max_size=3) | st.just(b""),
    ),
    min_size=1,
    max_size=4,
)
mutants = st.builds(_mutated, st.sampled_from(JOBS) | objects(), _edits)
cut = st.builds(
    lambda job, part: job[: int(part * len(job))], st.sampled_from(JOBS), st.floats(0, 1)
)

raws = st.one_of(st.sampled_from(JOBS), objects(), mutants, cut, st.binary(max_size=100))
"""Anything that may lie in a queue."""
