"""Webhooks: what their file may say, how a message is signed, what an event tells."""

from __future__ import annotations

import json
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import pytest

from headrace import wire
from headrace.errors import InvalidSetting
from headrace.webhooks.event import died
from headrace.webhooks.hook import read_webhooks, webhook
from headrace.webhooks.sending import MAX_BYTES, DeliveryFailed, post, signature

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
TABLE = {"url": "https://example.org/x", "secret": SECRET}


def test_a_message_is_signed_as_standard_webhooks_shows_it() -> None:
    # The example of the specification and its libraries.
    key = webhook("ops", TABLE).secret
    found = signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_file_is_read_and_a_secret_may_stand_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPS_SECRET", "sixteen bytes or more")
    path = tmp_path / "hooks.toml"
    path.write_text(
        '[ops]\nurl = "http://127.0.0.1:80/a?b=c"\nsecret_env = "OPS_SECRET"\n'
        'events = ["dead", "age"]\nqueues = ["emails"]\nmax_age = 600\n'
        f'[all]\nurl = "https://example.org"\nsecret = "{SECRET}"\n'
    )
    ops, everything = read_webhooks(path)
    assert (ops.name, ops.secret, ops.max_age_s) == ("ops", b"sixteen bytes or more", 600.0)
    assert ops.watches("age", "emails")
    assert not ops.watches("dead", "others")
    assert everything.watches("dead", "others")
    assert not everything.watches("age", "emails")


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"url": "ftp://example.org"}, "http"),
        ({"url": "file:///etc/passwd"}, "http"),
        ({"url": "http:///x"}, "http"),
        ({"url": "https://me:pw@example.org"}, "no user"),
        ({"url": "https://example.org/a b"}, "ASCII"),
        ({"url": "https://example.org/a\x7fb"}, "ASCII"),
        ({"url": "https://example.org:99999/"}, "[Pp]ort"),
        ({"url": 5}, "http"),
        ({"secret": "short"}, "16 bytes"),
        ({"secret": "whsec_!!"}, "base64"),
        ({"secret_env": "X"}, "either"),
        ({"events": []}, "events"),
        ({"events": ["born"]}, "events"),
        ({"events": ["age"]}, "max_age"),
        ({"max_age": 5}, "max_age"),
        ({"events": ["age"], "max_age": -1}, "seconds"),
        ({"queues": ["a:b"]}, "queue"),
        ({"queue": "a"}, "unknown queue"),
    ],
)
def test_what_has_no_meaning_is_refused_by_name(
    tmp_path: Path, other: dict[str, Any], says: str
) -> None:
    with pytest.raises((TypeError, ValueError, InvalidSetting), match=says):
        webhook("ops", TABLE | other)
    path = tmp_path / "hooks.toml"
    path.write_text("[ops]\nurl = 'x'\n")
    with pytest.raises(InvalidSetting, match=r"hooks.toml: \[ops\]"):
        read_webhooks(path)


@pytest.mark.parametrize("text", ["", "no toml", "ops = 5"])
def test_a_file_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "hooks.toml"
    path.write_text(text)
    with pytest.raises(InvalidSetting, match=r"hooks\.toml"):
        read_webhooks(path)


def test_an_event_tells_what_died_without_its_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    error = wire.error_of(
        "max_attempts", ValueError("no"), failed_at=1_795_492_028_185, consumer="c"
    )
    letter = wire.letter(wire.Head("17"), b',"task":"pay","args":["4711 0000"]}', error)
    event = died("queue", letter, "msg_1")
    told = json.loads(event.body)
    assert (told["type"], told["timestamp"]) == ("dead", "2026-11-24T03:47:08.185Z")
    about = told["data"]
    assert (about["queue"], about["id"], about["task"]) == ("queue", "17", "pay")
    assert (about["reason"], about["error_type"], about["message"]) == (
        "max_attempts", "ValueError", "no",
    )  # fmt: skip
    assert b"4711" not in event.body


LETTERS = (
    *(b"", b"{", b"[]", b'{"task":5}', b'{"error":{"failed_at":1e99}}'),
    b'{"error":{"reason":"x","failed_at":%b}}' % (b"9" * 400),
    b'{"id":"x","n":%b,"error":{"reason":"x","failed_at":%b}}' % (b"9" * 30, b"9" * 30),
)


@pytest.mark.parametrize("redact", ["", "password"])
@pytest.mark.parametrize("letter", LETTERS)
def test_an_event_is_made_of_anything(
    letter: bytes, redact: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_REDACT", redact)
    told = json.loads(died("queue", letter, "msg_1").body)
    assert told["type"] == "dead"
    assert 0 <= told["data"]["failed_at_ms"] < 1e15


@pytest.mark.parametrize("text", ["x", "\\", "\x01", "€", "😀"])
def test_an_event_is_small_enough_to_be_sent_whatever_a_letter_says(text: str) -> None:
    error = dict.fromkeys(("reason", "type", "message", "consumer"), text * 1_100_000)
    event = died("queue", json.dumps({"task": text * 9_999, "error": error}).encode(), "msg_1")
    assert len(event.body) < MAX_BYTES
    assert json.loads(event.body)["data"]["message"] == text * 1_000


def test_what_went_wrong_with_a_request_is_told_without_what_was_asked_or_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hook = webhook("ops", TABLE | {"url": "http://127.0.0.1:1/hidden"})
    with pytest.raises(DeliveryFailed, match=r"webhook ops: ConnectionRefusedError \(errno \d+\)$"):
        post(hook, "msg_1", 0, b"{}")

    def odd(*_: object) -> None:
        raise HTTPException("POST /hidden answered oddly")

    monkeypatch.setattr(HTTPConnection, "request", odd)
    with pytest.raises(DeliveryFailed, match="^webhook ops: HTTPException$"):
        post(hook, "msg_1", 0, b"{}")
