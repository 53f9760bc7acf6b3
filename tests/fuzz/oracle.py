"""What must hold of any bytes whatever that a consumer is handed: one judge for all fuzzers. Pure.

``judge`` takes the bytes on every way that the product has for them, and asserts what is promised:
nothing is raised, the bytes (or, of a job that is rewritten, every field's own bytes) are still there.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from headrace import Headrace, wire
from headrace.consumer import outcomes
from headrace.consumer.claimed import ClaimedJob, read
from headrace.consumer.outcomes import OutcomePolicy
from headrace.consumer.run import failure, success
from headrace.errors import Reject, Retry
from headrace.keys import keys_of
from headrace.web.views import job_view

_K: Final = keys_of("queue")
_SMALL: Final = 512  # bytes: a limit that most jobs of the fuzzers are under, and some over
_LONGEST_MS: Final = 10**13
_HEAD: Final = frozenset({"id", "priority", "delivery", "crashes", "attempt", "unknown_since"})
_REWRITTEN: Final = _HEAD | {"foreign_id", "error"}
_ABSENT: Final = b"absent"
_MOST: Final = 999_999_999  # where a counter ends: nothing is delivered so often

_app = Headrace("redis://127.0.0.1:1/0")  # where nobody listens: nothing here may connect


@_app.task(name="t", result_ttl=60)
def _task(*args: Any, **kwargs: Any) -> None:
    """Stand in for a user's task; it is never run."""


@_app.task(name="echo", dead_letter=False)
def _dropped(*args: Any, **kwargs: Any) -> None:
    """Stand in for a task that keeps no dead letters."""


_raw_fields_of = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_policy = OutcomePolicy(consumer="fuzz-1-x", unknown_task_ttl_ms=1, uniform=lambda: 0.5)
_patient = OutcomePolicy(consumer="fuzz-1-x", unknown_task_ttl_ms=10**15, uniform=lambda: 0.5)


def _fields_of(job: bytes) -> dict[str, bytes]:
    return {name: bytes(raw) for name, raw in _raw_fields_of(job).items()}


def judge(raw: bytes) -> None:
    """Assert all that is promised of any bytes."""
    judge_wire(raw)
    for moved in (True, False):
        for max_bytes in (wire.DEFAULT_MAX_BYTES, _SMALL):
            judge_claimed(raw, moved=moved, max_bytes=max_bytes)


def judge_wire(raw: bytes) -> None:
    """Assert what is promised of the pure functions."""
    parts = wire.split(raw)
    if parts is not None:
        head, body = parts
        assert raw.endswith(body)
        joined = wire.join(head, body)
        assert _plain(body) is False or wire.split(joined) == (head, body)
        assert joined.startswith(b'{"id":"%b"' % head.id.encode())
        if body.rstrip().endswith(b"}"):  # of others nobody writes such a letter
            letter = wire.split(wire.letter(head, body, wire.Error("rejected")))
            assert letter is not None
            assert letter[0].id == head.id
            assert letter[0] == head or not _plain(body)
        for _ in range(body.count(b'"error"')):  # it may be there several times
            body = wire.without_error(body)
        assert wire.without_error(body) == body
    wrapped = wire.malformed_letter(raw, wire.Error("malformed"))
    assert msgspec.json.decode(wrapped, type=dict[str, msgspec.Raw]).keys() == {"id", "error"}
    assert wire.redriven(wrapped) == raw
    once = wire.redriven(raw)
    assert isinstance(once, bytes)
    if wire.wrapped_payload(wire.read_error(raw)) is None:
        assert same_fields(raw, once)
    view = job_view(raw)
    assert view["bytes"] == len(raw)
    msgspec.json.encode(view)


def judge_claimed(
    raw: bytes, *, moved: bool, max_bytes: int = wire.DEFAULT_MAX_BYTES
) -> ClaimedJob:
    """Assert what is promised of a claimed job: how it is read, and every way in which it can end."""
    claimed = read(raw, _K, 7, tasks=_app.tasks, leased_until=0.0, moved=moved, max_bytes=max_bytes)
    assert claimed.moved == raw
    parts = wire.split(claimed.job)
    assert parts is not None, "what stands in processing has an id in front, for its lease"
    assert parts[0].id == claimed.head.id
    assert parts[0] == claimed.head or not _plain(claimed.body)
    assert not (moved and claimed.owned), "what a blocking move brought is not leased yet"
    if wire.split(raw) is None or claimed.job != raw:
        assert not claimed.owned, "Redis does not know these bytes as ours"
    _judge_bytes(claimed)
    if claimed.unrunnable is None:
        _judge_runs(claimed)
    else:
        _judge_unrunnable(claimed)
    if claimed.unrunnable != "malformed":
        before = claimed.body
        claimed.renamed()
        assert claimed.job == wire.join(claimed.head, before)
        assert wire.split(claimed.job) == (claimed.head, before) or not _plain(before)
    return claimed


def _plain(body: bytes) -> bool:
    """Tell whether a body has no field that could be taken for one of the head: jokers write these.

    Where the head before it ends in a 0, or an error goes that stood between, it is counted then.
    """
    return b"\\u" not in body and not any(b'"%b"' % name.encode() in body for name in _HEAD)


def _original(raw: bytes) -> bytes:
    """Give the bytes that a job is about: its own, or those that a letter of malformed bytes holds."""
    payload = wire.wrapped_payload(wire.read_error(raw))
    return raw if payload is None else payload


def _judge_bytes(claimed: ClaimedJob) -> None:
    raw, job = claimed.moved, claimed.job
    if claimed.unrunnable == "malformed":
        assert claimed.body in {raw, _original(raw)}
        assert claimed.problem is not None
        return
    assert same_fields(raw, job) or same_fields(_original(raw), job)
    if claimed.unrunnable is None:
        assert claimed.decoded is not None
        assert claimed.context is not None
        assert claimed.task is _app.tasks[claimed.decoded.task]


def same_fields(before: bytes, after: bytes) -> bool:
    """Tell whether every field of a job kept its bytes, but for those that a rewrite may change."""
    try:
        old = _fields_of(before)
    except Exception:  # no object: then it must not have been touched at all
        return before == after or wire.split(before) is not None
    try:
        new = _fields_of(after)
    except Exception:
        return False
    keep = [name for name in {**old, **new} if name not in _REWRITTEN]
    return all(old.get(name, _ABSENT).strip() == new.get(name, _ABSENT).strip() for name in keep)


def _judge_unrunnable(claimed: ClaimedJob) -> None:
    if claimed.head.delivery == _MOST:
        return
    outcome = outcomes.of_unrunnable(claimed, _policy)
    head = claimed.head
    if claimed.unrunnable == "unknown_task":
        parked = outcomes.of_unrunnable(claimed, _patient)
        if not head.unknown_since:
            assert parked.verb == outcome.verb == "park"
        if parked.verb == "park":
            assert 1_000 <= parked.delay_ms <= 60_000
            again = wire.split(parked.job)
            assert again is not None
            assert again[0].id == head.id
            assert parked.job.endswith(claimed.body)
            assert again[0].delivery == head.delivery + 1
        if outcome.verb == "park":
            return
    if outcome.verb == "drop":
        assert claimed.unrunnable == "too_large"
        assert claimed.task is not None
        return
    assert outcome.verb == "dead"
    assert claimed.unrunnable is not None
    _judge_letter(claimed, outcome.job, claimed.unrunnable)


def _judge_letter(claimed: ClaimedJob, letter: bytes, reason: str) -> None:
    parts = wire.split(letter)
    assert parts is not None
    assert (parts[0].id, parts[0].delivery) == (claimed.head.id, claimed.head.delivery + 1)
    error = wire.read_error(letter)
    if reason == "malformed":
        assert error is not None
        assert error.reason == reason
        assert wire.redriven(letter) == claimed.body, "the exact bytes come back"
        again = read(letter, _K, 8, tasks=_app.tasks, leased_until=0.0, moved=False)
        if again.unrunnable == "malformed":
            assert again.body == claimed.body, "never wrapped twice"
        else:  # it had a field twice, of which the last one counts once it is rewritten
            assert same_fields(claimed.body, again.job)
        return
    if error is None:  # its body is no valid JSON where nobody looks: it is kept as it is
        assert claimed.body.rstrip()[:-1] in letter
        return
    assert error.reason == reason
    back = wire.split(wire.redriven(letter))
    assert back is not None
    assert back[0].id == claimed.head.id
    assert (back[0].attempt, back[0].crashes) == (0, 0) or not _plain(claimed.body)
    assert same_fields(claimed.job, wire.redriven(letter))


def _judge_runs(claimed: ClaimedJob) -> None:
    if _MOST in {claimed.head.delivery, claimed.head.attempt}:
        return
    failures = (None, ValueError("\ud800"), Retry(in_=1e300), Reject("no"), TypeError())
    for error in failures:
        end = success(claimed, {"a": 1 << 80}) if error is None else failure(claimed, error)
        outcome = outcomes.of_run(claimed, end, _policy)
        assert (outcome.job_id, outcome.claim) == (claimed.head.id, 7)
        assert isinstance(outcome.result_ttl_ms, int)
        assert 0 <= outcome.result_ttl_ms <= _LONGEST_MS
        assert bool(outcome.result_ttl_ms) == bool(outcome.result)
        assert isinstance(outcome.delay_ms, int)
        assert 0 <= outcome.delay_ms <= _LONGEST_MS
        if outcome.verb == "retry":
            again = wire.split(outcome.job)
            assert again is not None
            assert outcome.job.endswith(claimed.body)
            assert again[0].attempt == claimed.head.attempt + 1
        elif outcome.verb == "dead":
            reason = "max_attempts" if not isinstance(error, Reject) else "rejected"
            _judge_letter(claimed, outcome.job, reason)
        else:
            assert (outcome.verb, error) == ("done", None) or outcome.verb == "drop"
