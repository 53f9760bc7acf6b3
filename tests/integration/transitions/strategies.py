"""Jobs as hypothesis makes them: heads, and bodies that try to be taken for more head."""

from __future__ import annotations

import string

from hypothesis import strategies as st

from headrace import wire
from headrace.wire import Head

_MARKS = "".join(c for c in string.printable if "!" <= c <= "~" and c not in '"\\')

ids = st.one_of(
    st.from_regex(r"[0-9a-v]{26}", fullmatch=True),
    st.builds(
        "".join,
        st.tuples(st.sampled_from(_MARKS.replace("~", "")), st.text(alphabet=_MARKS, max_size=127)),
    ),
)
_counter = st.integers(0, 20) | st.integers(0, 999_999_998)

_counters = st.fixed_dictionaries(
    {},
    optional={
        "priority": st.integers(-100, 100) | st.integers(-999_999_999, 999_999_999),
        "delivery": _counter,
        "crashes": _counter,
        "attempt": _counter,
        "unknown_since": st.integers(0, 999_999_999_999_999),
        "key": st.text(alphabet=_MARKS + " ", max_size=20),
    },
)
# Often without counters: only there can what follows be taken for one.
heads = st.builds(lambda job_id, counters: Head(job_id, **counters), ids, st.just({}) | _counters)

_LOOKALIKES = [
    f',"{name}":{value}'.encode()
    for name in ("priority", "delivery", "crashes", "attempt", "unknown_since", "id", "key")
    for value in (
        *("1.5", "1e3", "-1", "-2.5", "12345678901", "1234567890123456", '"1"', "null", "[3]", "5"),
        *("-", '"k\\"x"', '"\\u006b"', '""', '"k"x'),
    )
]
bodies = st.builds(
    lambda start, rest: start + rest,
    st.one_of(st.just(b""), st.sampled_from(_LOOKALIKES)),
    st.one_of(
        st.just(b',"task":"t"}'),
        st.just(b"}"),
        st.binary(max_size=60).map(lambda raw: b"," + raw),
        st.sampled_from(_LOOKALIKES).map(lambda more: more + b',"task":"t"}\n'),
    ),
)


def _normal(job: bytes) -> bool:
    """Tell whether its head is written as we write it, so that a rewrite keeps its bytes."""
    parts = wire.split(job)
    return parts is not None and wire.join(*parts) == job


jobs = st.builds(wire.join, heads, bodies).filter(_normal)
