"""The end of a member that travels to its workflow's home, as a job."""

from __future__ import annotations

from headrace import wire
from headrace.workflows.member import Member
from headrace.workflows.telling import TELL, told_at_home

MEMBER = Member("w", 1, ("queue",), 2)


def test_it_carries_any_json_and_says_what_is_not_there() -> None:
    for value, why, said in (
        (b"null", b"", [[None], []]),
        (b"", b"", [[], []]),
        (b'{"a":[1e300,true]}', b"", [[{"a": [1e300, True]}], []]),
        (b"", b'{"reason":"crashed"}', [[], [{"reason": "crashed"}]]),
    ):
        body = wire.read_body(told_at_home(MEMBER, value, why, "far").job)
        assert (body.task, body.args) == (TELL, ["w", 1, "queue", *said])


def test_a_result_that_is_too_large_to_travel_fails_its_member() -> None:
    one = told_at_home(MEMBER, b'"%b"' % (b"x" * (1 << 20)), b"", "far")
    _, _, _, value, why = wire.read_body(one.job).args
    assert (value, why[0]["reason"]) == ([], "too_large")
    assert len(one.job) < wire.DEFAULT_MAX_BYTES
