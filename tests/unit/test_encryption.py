"""Encryption: what is read again, what is refused, and what is never said."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import traceback
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace import (
    Encryption,
    EnqueueRequest,
    Headrace,
    InvalidJob,
    InvalidSetting,
    NoResult,
    Tasks,
    redaction,
)
from headrace.encryption import ENCRYPTED, Opener, edited_call, for_job, refused
from headrace.encryption.encrypted import HIDDEN
from headrace.encryption.encryption import CannotOpen, id_of
from headrace.encryption.sealing import (
    RESULTS,
    is_sealed,
    open_call,
    open_value,
    seal_call,
    seal_value,
)
from headrace.handoff import PLACEHOLDER
from headrace.plain import plain_copy
from headrace.testing import call, run_inline
from tests.support.processes import clean_environment

KEY, OTHER = (Encryption.generate_key() for _ in range(2))
KEYS = Encryption([KEY])
LEAF = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=20)
JSON = st.recursive(
    LEAF, lambda one: st.lists(one, max_size=3) | st.dictionaries(st.text(max_size=5), one)
)


@given(args=st.lists(JSON, max_size=3), kwargs=st.dictionaries(st.text(max_size=5), JSON))
def test_arguments_come_back_as_they_were(args: list[Any], kwargs: dict[str, Any]) -> None:
    if ENCRYPTED in kwargs:
        return
    none, sealed = seal_call(KEYS, "pay", tuple(args), kwargs)
    assert none == ()
    assert list(sealed) == [ENCRYPTED]
    assert open_call(KEYS, "pay", json.loads(json.dumps(sealed))) == (args, kwargs)


@given(value=JSON)
def test_a_result_comes_back_as_it_was(value: Any) -> None:
    raw = json.dumps(value).encode()
    sealed = json.loads(seal_value(KEYS, "result", "pay", "job-1", raw))
    assert is_sealed(sealed)
    assert open_value(KEYS, "result", sealed) == value


@given(data=st.data())
def test_a_text_of_which_any_letter_was_changed_is_refused(data: st.DataObject) -> None:
    _, sealed = seal_call(KEYS, "pay", ("4111",), {})
    token: str = sealed[ENCRYPTED]
    at = data.draw(st.integers(0, len(token) - 1))
    letter = data.draw(st.sampled_from("ABYZabyz0189-_.=+/ é"))
    if (
        letter == token[at]
    ):  # not by a filter: the text is another each time, and draws must not depend on it
        letter = "!"
    with pytest.raises(CannotOpen, match="encrypted"):
        open_call(KEYS, "pay", {ENCRYPTED: f"{token[:at]}{letter}{token[at + 1 :]}"})


@given(bit=st.integers(0, 7), data=st.data())
def test_a_text_of_which_any_bit_was_changed_is_refused(bit: int, data: st.DataObject) -> None:
    _, sealed = seal_call(KEYS, "pay", ("4111",), {})
    key_id, _, text = sealed[ENCRYPTED].partition(".")
    raw = bytearray(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << bit
    changed = urlsafe_b64encode(raw).rstrip(b"=").decode()
    with pytest.raises(CannotOpen, match="changed since, or taken from elsewhere"):
        open_call(KEYS, "pay", {ENCRYPTED: f"{key_id}.{changed}"})


@pytest.mark.parametrize("cut", range(1, 60))
def test_a_text_that_was_cut_or_made_longer_is_refused(cut: int) -> None:
    _, sealed = seal_call(KEYS, "pay", ("4111",), {})
    token = sealed[ENCRYPTED]
    for text in (token[:-cut], token + "A" * cut, "", None, 5, [token]):
        with pytest.raises(CannotOpen):
            open_call(KEYS, "pay", {ENCRYPTED: text})


def test_arguments_of_one_task_are_not_another_ones() -> None:
    _, sealed = seal_call(KEYS, "pay", ("4111",), {})
    with pytest.raises(CannotOpen, match="taken from elsewhere"):
        open_call(KEYS, "refund", sealed)


def test_a_result_is_of_one_task_and_one_job_and_no_arguments() -> None:
    sealed = json.loads(seal_value(KEYS, "result", "pay", "job-1", b'"paid"'))
    for changed in ({"task": "refund"}, {"job": "job-2"}):
        with pytest.raises(CannotOpen):
            open_value(KEYS, "result", sealed | changed)
    with pytest.raises(CannotOpen):
        open_value(KEYS, "item", sealed)
    with pytest.raises(CannotOpen):
        open_call(KEYS, "pay", {ENCRYPTED: sealed[ENCRYPTED]})
    opener = Opener(KEYS, task="pay")
    assert for_job(opener, "job-1")(sealed) == "paid"
    with pytest.raises(NoResult, match="of another job"):
        for_job(opener, "job-2")(sealed)
    with pytest.raises(NoResult, match="of another job"):
        Opener(KEYS, task="refund")(sealed)


def test_the_same_arguments_never_look_the_same_twice() -> None:
    texts = {seal_call(KEYS, "pay", (1,), {})[1][ENCRYPTED] for _ in range(1_000)}
    nonces = {urlsafe_b64decode(text.partition(".")[2][:16]) for text in texts}
    assert (len(texts), len(nonces), {*map(len, nonces)}) == (1_000, 1_000, {12})


def test_the_first_key_encrypts_and_all_decrypt() -> None:
    before, after = Encryption([KEY]), Encryption([OTHER, KEY])
    _, old = seal_call(before, "pay", (1,), {})
    _, new = seal_call(after, "pay", (2,), {})
    assert [text.partition(".")[0] for text in (old[ENCRYPTED], new[ENCRYPTED])] == [
        before.key_ids[0],
        after.key_ids[0],
    ]
    assert open_call(after, "pay", old) == ([1], {})
    assert open_call(after, "pay", new) == ([2], {})
    with pytest.raises(CannotOpen, match=f"under key {after.key_ids[0]}, which is none of those"):
        open_call(before, "pay", new)


def test_results_that_redis_puts_into_the_arguments_of_a_member_are_found_again() -> None:
    args = (PLACEHOLDER, {"deep": [f"{PLACEHOLDER}-3", "x"]}, "not a placeholder")
    _, sealed = seal_call(KEYS, "total", args, {"again": PLACEHOLDER})
    assert sealed[RESULTS] == [PLACEHOLDER, f"{PLACEHOLDER}-3"]
    one = json.loads(seal_value(KEYS, "result", "pay", "job-1", b"1"))
    filled = {ENCRYPTED: sealed[ENCRYPTED], RESULTS: [[one, 2], {"a": PLACEHOLDER}]}
    found, named = open_call(KEYS, "total", filled)
    assert found == [[1, 2], {"deep": [{"a": PLACEHOLDER}, "x"]}, "not a placeholder"]
    assert named == {"again": [1, 2]}
    with pytest.raises(CannotOpen, match="results that belong into it"):
        open_call(KEYS, "total", {ENCRYPTED: sealed[ENCRYPTED]})


@pytest.mark.parametrize(
    ("args", "more"), [(("4111",), {}), ((), {"card": "4111"}), ((), {RESULTS: [], "card": "4111"})]
)
def test_arguments_in_the_clear_beside_encrypted_ones_are_refused_and_not_quoted(
    args: tuple[Any, ...], more: dict[str, Any]
) -> None:
    _, sealed = seal_call(KEYS, "pay", (1,), {})
    with pytest.raises(InvalidJob, match="others beside it") as caught:
        Headrace(encryption=KEYS).call("pay", *args, **sealed, **more)
    assert "4111" not in str(caught.value)


@pytest.mark.parametrize("args", [(1,), (PLACEHOLDER,)])
def test_what_was_encrypted_before_stays_as_it_is(args: tuple[Any, ...]) -> None:
    _, sealed = seal_call(KEYS, "pay", args, {})
    assert seal_call(KEYS, "pay", (), sealed) == ((), sealed)


@pytest.mark.parametrize("keys", [[], "", ["short"], [b"x" * 31], [KEY, KEY], [KEY, "é" * 44], [5]])
def test_what_is_no_key_is_refused_and_not_quoted(keys: Any) -> None:
    with pytest.raises(InvalidSetting, match="key") as caught:
        Encryption(keys)
    assert KEY not in str(caught.value)
    assert "short" not in str(caught.value)


def test_a_key_is_text_in_either_base64_or_32_bytes() -> None:
    raw = urlsafe_b64decode(KEY)
    spellings = (KEY, KEY.rstrip("="), KEY.replace("-", "+").replace("_", "/"), KEY.encode(), raw)
    assert {Encryption([one]).key_ids[0] for one in spellings} == {id_of(raw)}
    assert Encryption(KEY).key_ids == [id_of(raw)]


def test_keys_are_shown_nowhere_and_do_not_travel() -> None:
    assert KEY not in repr(KEYS)
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(KEYS)


def test_the_environment_gives_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_ENCRYPTION_KEYS", f" {KEY}, {OTHER}\n")
    app = Headrace()
    assert app.encryption is not None
    assert app.encryption.key_ids == Encryption([KEY, OTHER]).key_ids
    assert Headrace(encryption=KEYS).encryption is KEYS
    monkeypatch.setenv("HEADRACE_ENCRYPTION_KEYS", "secret-but-wrong")
    with pytest.raises(
        InvalidSetting, match="HEADRACE_ENCRYPTION_KEYS: encryption key 1"
    ) as caught:
        Headrace()
    assert "secret-but-wrong" not in str(caught.value)
    monkeypatch.setenv("HEADRACE_ENCRYPTION_KEYS", " , ")
    assert Headrace().encryption is None


def test_a_task_says_whether_it_is_encrypted() -> None:
    app, bare = Headrace(encryption=KEYS), Headrace()

    def job_of(app: Headrace, **options: Any) -> bytes:
        name = f"task{len(app.tasks)}"
        return app.task(name=name, **options)(lambda card: None).call("4111").job

    assert b"4111" not in job_of(app)
    assert b"4111" not in job_of(app, encrypted=True)
    assert b"4111" in job_of(app, encrypted=False)
    assert b"4111" in job_of(bare)
    with pytest.raises(InvalidSetting, match="there are no keys"):
        job_of(bare, encrypted=True)
    with pytest.raises(InvalidSetting, match="must be True or False"):
        job_of(app, encrypted="yes")
    assert b"4111" not in app.call("unknown", "4111").job


def test_tasks_of_a_library_are_encrypted_by_who_includes_them() -> None:
    tasks = Tasks()

    @tasks.task
    def pay(card: str) -> None: ...

    app = Headrace(encryption=KEYS)
    app.include(tasks)
    assert b"4111" not in pay.call("4111").job
    later = tasks.task(name="later")(lambda card: None)
    assert b"4111" not in later.call("4111").job


def test_what_is_no_json_is_refused_by_its_name_before_it_is_encrypted() -> None:
    @Headrace(encryption=KEYS).task
    def pay(card: object) -> None: ...

    with pytest.raises(InvalidJob, match="argument 'card'"):
        pay.call({1, 2})


def test_a_result_without_keys_is_refused_and_not_given_as_if_it_were_one() -> None:
    sealed = json.loads(seal_value(KEYS, "result", "pay", "job-1", b"1"))
    with pytest.raises(NoResult, match=f"under key {KEYS.key_ids[0]}, and there are no keys"):
        refused(sealed)
    assert refused({ENCRYPTED: 1}) == {ENCRYPTED: 1}  # somebody's own


def test_an_exception_is_told_without_the_text_of_any_that_it_is_linked_to() -> None:
    task = Headrace(encryption=KEYS).task(name="pay")(lambda card: None)
    try:
        try:
            raise KeyError("4111")
        except KeyError as error:
            error.add_note("4111")
            raise ExceptionGroup("4111", [ValueError("4111")]) from error
    except ExceptionGroup as error:
        told = task.told(plain_copy(error), b"")
    text = "".join(traceback.format_exception(told))
    assert "4111" not in text.replace('"4111"', "")  # the lines of the code are the application's
    assert text.count(HIDDEN) == 2
    assert type(told).__name__ == "ExceptionGroup"
    assert type(told.__cause__).__name__ == "KeyError"


def test_cryptography_is_imported_by_who_has_a_key_alone() -> None:
    code = (
        "import sys; from headrace import Encryption, Headrace; app = Headrace()\n"
        "app.task(lambda: None, ).call() if False else app.call('x', 1)\n"
        "used = lambda: any(m.startswith('cryptography.hazmat') for m in sys.modules)\n"
        "assert not used(); Encryption([Encryption.generate_key()]); assert used()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=clean_environment())


def test_without_the_library_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)
    with pytest.raises(InvalidSetting, match=r"pip install \"headrace\[encryption\]\""):
        Encryption([KEY])


def test_in_a_test_of_an_application_nothing_is_different() -> None:
    app = Headrace(encryption=KEYS)

    @app.task(result_ttl=60)
    def pay(card: str, *, cents: int) -> str:
        return f"paid {cents} by {card}"

    with run_inline(app) as jobs:
        job = pay.enqueue("4111", cents=5)
        assert jobs.enqueued == [call(pay, "4111", cents=5)]
        assert b"4111" not in jobs.job(job).job
        jobs.run()
        assert job.result() == jobs.result(job) == "paid 5 by 4111"
        assert b"4111" not in jobs.job(job).end


def test_what_is_hidden_by_its_name_is_hidden_when_it_is_encrypted_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pay = Headrace(encryption=KEYS).task(name="pay")(lambda card: None)
    job = pay.call("4111").job
    monkeypatch.setenv("HEADRACE_REDACT", "card")
    assert b"$encrypted" in redaction.shown(job)
    monkeypatch.setenv("HEADRACE_REDACT", "pay()")
    assert redaction.MASK.encode() in redaction.shown(job)


def test_the_same_call_goes_through_hooks_and_is_encrypted_once() -> None:
    app, seen = Headrace(encryption=KEYS), []

    @app.around_enqueue
    def hook(request: EnqueueRequest) -> Iterator[None]:
        seen.append(request.args)
        request.args = (request.args[0] + "!",)
        yield

    @app.task(result_ttl=60)
    def pay(card: str) -> str:
        return card

    with run_inline(app) as jobs:
        job = pay.enqueue("4111")
        assert b"4111" not in jobs.job(job).job
        jobs.run()
        assert (seen, job.result()) == ([("4111",)], "4111!")


@pytest.mark.parametrize(
    "given",
    [
        {ENCRYPTED: "hello"},
        {ENCRYPTED: ""},
        {ENCRYPTED: None},
        {ENCRYPTED: {"deep": 1}},
        {ENCRYPTED: ["0e2b81f0.AAAA"]},
        {ENCRYPTED: f"{KEYS.key_ids[0]}.AAAA"},
        {ENCRYPTED: seal_call(KEYS, "refund", (), {})[1][ENCRYPTED]},
        {ENCRYPTED: seal_call(KEYS, "pay", (), {})[1][ENCRYPTED] + "A"},
        {ENCRYPTED: seal_call(KEYS, "pay", (), {})[1][ENCRYPTED], RESULTS: "none"},
        {ENCRYPTED: seal_call(KEYS, "pay", (), {})[1][ENCRYPTED], "card": "4111"},
    ],
)
def test_an_argument_that_is_called_as_what_is_encrypted_and_is_not_is_refused_at_the_caller(
    given: dict[str, Any],
) -> None:
    app = Headrace(encryption=KEYS)
    with pytest.raises(InvalidJob, match="encrypted"):
        app.call("pay", **given)


def test_what_somebody_has_encrypted_before_passes_under_whatever_key() -> None:
    app = Headrace(encryption=KEYS)
    for keys in (KEYS, Encryption([OTHER])):
        _, sealed = seal_call(keys, "pay", ("4111",), {})
        assert json.loads(app.call("pay", **sealed).job)["kwargs"] == sealed


@given(value=st.sampled_from(["x", None, 5]), name=st.sampled_from(["card", RESULTS]))
def test_within_an_argument_any_object_comes_back_as_it_was(value: Any, name: str) -> None:
    looks_so = {ENCRYPTED: value, "task": "pay", "job": "1"}
    call_of = Headrace(encryption=KEYS).call("pay", looks_so, **{name: [{ENCRYPTED: value}]})
    sealed = json.loads(call_of.job)["kwargs"]
    assert open_call(KEYS, "pay", sealed) == ([looks_so], {name: [{ENCRYPTED: value}]})


class TestEdited:
    """A dead letter whose arguments are encrypted, with other arguments."""

    def test_what_was_encrypted_is_when_it_was_edited_too(self) -> None:
        _, before = seal_call(KEYS, "pay", ("4111",), {})
        for changes in ({"kwargs": {"card": "4242"}}, {"args": ["4242"], "kwargs": {}}):
            fields = edited_call(KEYS, "pay", {"kwargs": before}, changes)
            assert fields["args"] == []
            assert "4242" not in json.dumps(fields)
            opened = open_call(KEYS, "pay", fields["kwargs"])
            assert opened == (changes.get("args", []), changes["kwargs"])

    @pytest.mark.parametrize("keys", [KEYS, None])
    def test_what_would_not_be_all_of_the_arguments_is_refused(
        self, keys: Encryption | None
    ) -> None:
        _, before = seal_call(KEYS, "pay", ("4111",), {})
        for changes in ({"args": ["4242"]}, {"args": ["4242"], "kwargs": before}):
            with pytest.raises(InvalidJob, match="give all of them anew"):
                edited_call(keys, "pay", {"kwargs": before}, changes)

    def test_without_keys_nothing_is_put_in_the_clear(self) -> None:
        _, before = seal_call(KEYS, "pay", ("4111",), {})
        with pytest.raises(InvalidJob, match="HEADRACE_ENCRYPTION_KEYS"):
            edited_call(None, "pay", {"kwargs": before}, {"kwargs": {"card": "4242"}})
        for beside in ({**before, "card": "4242"}, {ENCRYPTED: {"card": "4242"}}):
            with pytest.raises(InvalidJob, match="the argument something else"):
                edited_call(None, "pay", {"kwargs": before}, {"kwargs": beside})
        _, after = seal_call(KEYS, "pay", ("4242",), {})
        fields = edited_call(None, "pay", {"kwargs": before}, {"kwargs": after})
        assert fields == {"args": [], "kwargs": after}

    def test_what_was_in_the_clear_stays_so(self) -> None:
        for before in ({}, {"kwargs": {"host": "a"}}, {"args": [1], "kwargs": 5}):
            changes = {"args": ["b"]}
            assert edited_call(KEYS, "ping", before, changes) == changes
        assert edited_call(KEYS, "pay", {"kwargs": {ENCRYPTED: "x"}}, {}) == {}
