"""The wire: what is written is read again, and a rewrite keeps every byte that it does not mean."""

from __future__ import annotations

import json
import string

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace import wire
from headrace.errors import InvalidJob, PayloadTooLarge
from headrace.ids import new_id
from headrace.wire import Error, Head

ID = "0123456789abcdefghijklmnop"
MARKS = "".join(c for c in string.printable if "!" <= c <= "~" and c not in '"\\')
ERROR = Error("max_attempts", "ValueError", "no", "Traceback …", 1_700_000_000_000, "host-1-x")

ids = st.one_of(
    st.from_regex(r"[0-9a-v]{26}", fullmatch=True),
    st.text(alphabet=MARKS, min_size=1, max_size=128).filter(lambda name: name[0] != "~"),
)
counters = st.one_of(st.just(0), st.integers(1, 20), st.integers(1, 999_999_999))
heads = st.builds(
    Head,
    id=ids,
    priority=st.integers(-999_999_999, 999_999_999) | st.integers(-2, 2),
    delivery=counters,
    crashes=counters,
    attempt=counters,
    unknown_since=st.integers(0, 999_999_999_999_999),
    key=st.just("") | st.text(alphabet=f"{MARKS} ", max_size=20),
)
# JSON values as somebody else may write them: msgspec would write many of them otherwise.
scalars = st.one_of(
    st.sampled_from(
        [
            *("1e5", "1E+2", "-0", "-0.0", "0.10", "1e400", "12345678901234567890123"),
            *("9007199254740993", "true", "false", "null", '""', '"\\u00e4"', '"\\/"', '"ä\\n"'),
            *('"\\ud83d\\ude00"', '"\\u0000"'),
        ]
    ),
    st.integers().map(str),
    st.text().filter(lambda text: text.isprintable()).map(json.dumps),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: "[" + " , ".join(items) + " ]"),
        st.lists(inner, max_size=3).map(
            lambda items: "{" + ",".join(f'"k{n}" :{v}' for n, v in enumerate(items)) + "}"
        ),
    ),
    max_leaves=6,
)
names = st.text(alphabet=string.ascii_lowercase, min_size=1, max_size=8).filter(
    lambda name: name not in {*Head._fields, "foreign_id", "error"}
)
fields = st.dictionaries(names, values.map(str.encode), max_size=5)


def written(fields: dict[str, bytes], space: bytes = b"") -> bytes:
    """Write fields as a body: from the comma on, to the brace."""
    parts = [b'"%b"%b:%b%b' % (name.encode(), space, space, v) for name, v in fields.items()]
    return b"".join(b"," + part for part in parts) + (space if parts else b"") + b"}"


bodies = st.builds(written, fields, st.sampled_from([b"", b" ", b"\n\t"]))


class TestSplitAndJoin:
    @given(heads, bodies)
    def test_what_is_joined_is_split_again(self, head: Head, body: bytes) -> None:
        assert wire.split(wire.join(head, body)) == (head, body)

    @given(heads, st.binary(max_size=50).map(lambda raw: b',"task":' + raw))
    def test_whatever_bytes_the_body_has(self, head: Head, body: bytes) -> None:
        assert wire.split(wire.join(head, body)) == (head, body)

    @given(st.binary(max_size=80))
    def test_no_bytes_break_it(self, raw: bytes) -> None:
        for job in (raw, b'{"id":"' + raw, b'{"id":"a"' + raw, b'{"id":"a","delivery":' + raw):
            parts = wire.split(job)
            if parts is not None:
                assert job.endswith(parts[1])

    @given(ids, st.integers(-100, 100), bodies)
    def test_a_new_job_is_what_join_writes(self, job_id: str, priority: int, body: bytes) -> None:
        assert wire.assemble(job_id, body, priority) == wire.join(Head(job_id, priority), body)

    def test_the_lean_job_is_as_lean_as_can_be(self) -> None:
        body = wire.encode_call("echo", ("hi",), {})
        assert wire.assemble(ID, body) == b'{"id":"%b","task":"echo","args":["hi"]}' % ID.encode()

    @given(ids, st.integers(-100, 100), st.text(alphabet=f"{MARKS} ", max_size=20), bodies)
    def test_the_key_of_a_new_job_ends_its_head(
        self, job_id: str, priority: int, key: str, body: bytes
    ) -> None:
        job = wire.assemble(job_id, body, priority, key)
        assert wire.split(job) == (Head(job_id, priority, key=key), body)

    def test_a_key_is_written_as_it_is(self) -> None:
        assert wire.assemble("a", b',"task":"t"}', 5, "mail 7") == (
            b'{"id":"a","priority":5,"key":"mail 7","task":"t"}'
        )

    def test_every_counter_stands_in_front_in_its_order_where_it_is_not_0(self) -> None:
        job = wire.join(Head("a", -1, 2, 3, 4, 5), b"}")
        assert job == (
            b'{"id":"a","priority":-1,"delivery":2,"crashes":3,"attempt":4,"unknown_since":5}'
        )
        assert wire.join(Head("a", attempt=1), b"}") == b'{"id":"a","attempt":1}'

    @pytest.mark.parametrize(
        "job",
        [
            b'{"task":"t"}',
            b'{"task":"t","id":"a"}',
            b' {"id":"a","task":"t"}',
            b'{ "id":"a","task":"t"}',
            b'{"id": "a","task":"t"}',
            b'{"id":"a" ,"task":"t"}',
            b'{"id":"","task":"t"}',
            b'{"id":"a b","task":"t"}',
            b'{"id":"~a","task":"t"}',
            rb'{"id":"a\"","task":"t"}',
            b'{"id":"\xc3\xa4","task":"t"}',
            b'{"id":"a\x7f","task":"t"}',
            b'{"id":"%b","task":"t"}' % (b"i" * 129),
            b'{"id":"0123456789abcdefghijkl\x00nop","task":"t"}',
            b'{"id":"0123456789abcdefghijkl nop","task":"t"}',
            b'{"id":7}',
            b'{"id":"a"',
            b"",
        ],
    )
    def test_what_has_no_canonical_id_in_front_is_bare(self, job: bytes) -> None:
        assert wire.split(job) is None

    def test_an_id_of_26_characters_that_ends_before_is_read_to_its_end(self) -> None:
        job = b'{"id":"a","b":"cdefghijklmnop","task":"t"}'
        assert wire.split(job) == (Head("a"), b',"b":"cdefghijklmnop","task":"t"}')

    @pytest.mark.parametrize(
        "body",
        [
            b',"priority":1.5}',
            b',"priority":1e2}',
            b',"priority":"1"}',
            b',"priority":1234567890}',
            b',"delivery":-1}',
            b',"delivery":1 }',
            b',"task":"t","priority":5}',
        ],
    )
    def test_what_is_no_short_whole_number_in_its_place_counts_nothing(self, body: bytes) -> None:
        assert wire.split(b'{"id":"a"' + body) == (Head("a"), body)

    def test_a_counter_out_of_its_order_is_of_the_body(self) -> None:
        assert wire.split(b'{"id":"a","crashes":2,"delivery":3}') == (
            *(Head("a", crashes=2), b',"delivery":3}'),
        )


class TestEncode:
    def test_only_what_differs_from_the_default_is_written(self) -> None:
        assert wire.encode_call("t", (), {}, timeout=None) == b',"task":"t"}'
        assert wire.encode_call("t", (1,), {"a": None}, timeout=2.5, max_attempts=3) == (
            b',"task":"t","args":[1],"kwargs":{"a":null},"timeout":2.5,"max_attempts":3}'
        )

    def test_arguments_that_are_no_scalars_stand_after_the_task_as_well(self) -> None:
        assert wire.encode_call("t", (1, [2.5], {"a": "b"}), {}) == (
            b',"task":"t","args":[1,[2.5],{"a":"b"}]}'
        )

    def test_a_text_that_utf_8_cannot_write_is_refused_by_its_name(self) -> None:
        with pytest.raises(InvalidJob, match="^argument 'b': a str does not come back equal"):
            wire.encode_call("t", ("fine", "\ud800"), {}, ("a", "b"))
        with pytest.raises(InvalidJob, match="^argument 2: a str does not come back equal"):
            wire.encode_call("t", ("fine", "\ud800"), {})

    def test_what_json_would_change_is_refused_by_its_name(self) -> None:
        with pytest.raises(InvalidJob, match="^argument 'b': a set does not come back equal"):
            wire.encode_call("t", (1, {2}), {}, ("a", "b"))
        with pytest.raises(InvalidJob, match="^argument 2: a set does not come back equal"):
            wire.encode_call("t", (1, {2}), {})
        with pytest.raises(InvalidJob, match="^argument 'k' at .'x'.: a set does not"):
            wire.encode_call("t", (), {"j": 1, "k": {"x": {2}}})
        with pytest.raises(InvalidJob, match="^argument 'task': a str does not come back equal"):
            wire.encode_call("\ud800", (), {})

    def test_a_job_may_be_as_large_as_the_limit_and_no_larger(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        body = b',"x":"%b"}' % (b"x" * 100)
        size = len(wire.assemble("a", body))
        monkeypatch.setattr(wire, "DEFAULT_MAX_BYTES", size)
        assert len(wire.assemble("a", body)) == size
        monkeypatch.setattr(wire, "DEFAULT_MAX_BYTES", size - 1)
        with pytest.raises(PayloadTooLarge) as refused:
            wire.assemble("a", body)
        assert str(refused.value) == (
            f"a job of {size:,} bytes is over the limit of {size - 1:,}: "
            "store the data elsewhere and enqueue its address"
        )

    @given(heads, fields)
    def test_a_consumer_reads_what_a_producer_wrote(
        self, head: Head, unknown: dict[str, bytes]
    ) -> None:
        known = wire.encode_call("t", (1, "a"), {"k": [None]}, timeout=1.5, result_ttl=60.0)
        unknown = {f"x{name}": value for name, value in unknown.items()}
        unknown = {name: value for name, value in unknown.items() if value != b"1e400"}
        body = wire.read_body(wire.join(head, written(unknown)[:-1] + known))
        assert (body.task, body.args, body.kwargs) == ("t", [1, "a"], {"k": [None]})
        assert (body.timeout, body.result_ttl, body.max_attempts) == (1.5, 60.0, None)

    @pytest.mark.parametrize(
        "job", [b"", b"[]", b"{}", b'{"task":1}', b'{"task":"\xff"}', b"[" * 100_000, b"1e400"]
    )
    def test_what_is_malformed_raises(self, job: bytes) -> None:
        with pytest.raises(Exception):
            wire.read_body(job)


class TestCanonical:
    def test_a_job_without_an_id_gets_a_new_one(self) -> None:
        before = new_id()
        head, body = wire.canonical(b'{"task":"echo","args":["hi"]}')
        assert before < head.id < new_id()
        assert body == b',"task":"echo","args":["hi"]}'

    def test_an_id_that_can_be_used_is_kept(self) -> None:
        assert wire.canonical(b'{"task":"t","id":"mine"}') == (Head("mine"), b',"task":"t"}')
        assert wire.canonical(rb'{"id":"\u0061","task":"t"}') == (Head("a"), b',"task":"t"}')

    @pytest.mark.parametrize(
        "raw",
        [
            b"7",
            b"1e400",
            b"[1e400]",
            b"null",
            b'""',
            b'"a b"',
            rb'"a\"b"',
            b'["a"]',
            b'"~a"',
            b'"%b"' % (b"i" * 129),
        ],
    )
    def test_another_one_is_kept_beside_a_new_one(self, raw: bytes) -> None:
        head, body = wire.canonical(b'{"id":%b,"task":"t"}' % raw)
        assert len(head.id) == 26
        assert body == b',"task":"t","foreign_id":%b}' % raw

    @given(fields, st.sampled_from([b"", b" ", b"\r\n"]))
    def test_values_keep_their_bytes_and_their_order(
        self, fields: dict[str, bytes], space: bytes
    ) -> None:
        job = space + (b"{" + written(fields, space)[1:] if fields else b"{%b}" % space)
        head, body = wire.canonical(job + space)
        assert body == (written(fields) if fields else b"}")
        assert wire.split(wire.join(head, body)) == (head, body)

    @pytest.mark.parametrize(
        "value",
        [
            *(b"1e5", b"1E+5", b"-0.0", b"12345678901234567890123", b"9007199254740993", b"1e400"),
            *(b'"\\u00e4\\/"', b'{"b" : 1 , "a":[ ]}', b'"\xc3\xa4"'),
        ],
    )
    def test_a_value_keeps_its_bytes(self, value: bytes) -> None:
        assert wire.canonical(b'{"x": %b ,"id":"a"}' % value) == (Head("a"), b',"x":%b}' % value)

    def test_of_a_field_given_twice_the_last_one_counts_as_everywhere(self) -> None:
        assert wire.canonical(b'{"x":1,"y":2,"x":3,"id":"a"}') == (Head("a"), b',"x":3,"y":2}')

    def test_white_space_after_the_object_goes(self) -> None:
        assert wire.canonical(b'{"id":"a" , "task":"t" }\r\n') == (Head("a"), b',"task":"t"}')

    def test_counters_come_to_the_front(self) -> None:
        job = b'{"task":"t","attempt":2,"priority":-7,"delivery":3,"id":"a","crashes":1}'
        assert wire.canonical(job) == (Head("a", -7, 3, 1, 2), b',"task":"t"}')

    @pytest.mark.parametrize(("given", "kept"), [(b"999", 100), (b"-999", -100), (b"7", 7)])
    def test_a_priority_is_kept_within_its_bounds(self, given: bytes, kept: int) -> None:
        assert wire.canonical(b'{"priority":%b,"id":"a"}' % given) == (Head("a", kept), b"}")

    @pytest.mark.parametrize("value", [b"1.5", b'"5"', b"1e2", b"null", b"1234567890"])
    def test_a_priority_that_is_none_stays_where_it_is(self, value: bytes) -> None:
        head, body = wire.canonical(b'{"id" :"a","priority":%b,"task":"t"}' % value)
        assert head.priority == 0
        assert body == b',"priority":%b,"task":"t"}' % value
        assert wire.split(wire.join(head, body)) == (head, body)

    @pytest.mark.parametrize("name", ["delivery", "crashes", "attempt"])
    def test_a_counter_beyond_9_digits_is_read_as_split_reads_it(self, name: str) -> None:
        head, body = wire.canonical(b'{"id" :"a","%b":1234567890}' % name.encode())
        assert wire.split(wire.join(head, body)) == (head, body)

    @pytest.mark.parametrize("job", [b"", b"hi", b"[]", b"{", b'{"id":"a"} x', b"\xff", b"null"])
    def test_what_is_no_object_raises(self, job: bytes) -> None:
        with pytest.raises(Exception):
            wire.canonical(job)


class TestLetter:
    @given(heads, bodies)
    def test_a_letter_goes_back_as_the_job_that_it_was(self, head: Head, body: bytes) -> None:
        letter = wire.letter(head, body, ERROR)
        assert wire.read_error(letter) == ERROR
        assert wire.redriven(letter) == wire.join(wire.renewed(head), body)

    def test_one_that_goes_back_expires_no_more(self) -> None:
        body = b',"task":"t","expires_at":5,"n":1}'
        letter = wire.letter(Head("a"), body, ERROR)
        assert wire.redriven(letter) == wire.join(Head("a"), b',"task":"t","n":1}')
        assert wire.revived(body) == b',"task":"t","n":1}'

    @given(heads, bodies)
    def test_a_job_that_dies_again_has_its_last_error_alone(self, head: Head, body: bytes) -> None:
        once = wire.letter(head, body, ERROR)
        parts = wire.split(once)
        assert parts is not None
        again = Error("timeout", failed_at=1)
        assert wire.letter(*parts, again) == wire.letter(head, body, again)

    def test_white_space_after_the_object_goes_and_nothing_else(self) -> None:
        body = b', "task" : "t"\n} \r\n'
        letter = wire.letter(Head("a"), body, ERROR)
        assert wire.redriven(letter) == b'{"id":"a", "task" : "t"\n}'

    def test_its_failures_are_forgotten_and_its_deliveries_are_not(self) -> None:
        head = Head("a", priority=1, delivery=9, crashes=2, attempt=3, unknown_since=4)
        letter = wire.letter(head, b"}", ERROR)
        assert wire.redriven(letter) == b'{"id":"a","priority":1,"delivery":9}'

    @pytest.mark.parametrize(
        "body", [b',"args":["error"]}', b',"x":{"error":1}}', b',"args":["\\"error\\":"]}']
    )
    def test_a_nested_error_is_the_jobs_own(self, body: bytes) -> None:
        assert wire.redriven(wire.join(Head("a"), body)) == wire.join(Head("a"), body)
        assert wire.redriven(wire.letter(Head("a"), body, ERROR)) == wire.join(Head("a"), body)

    def test_an_error_that_somebody_moved_goes_too(self) -> None:
        job = b'{"id":"a","error" : {"reason":"x"}, "n":1e5, "task":"t"}'
        assert wire.redriven(job) == b'{"id":"a","n":1e5,"task":"t"}'

    def test_a_letter_without_an_id_goes_back_as_it_is(self) -> None:
        assert wire.redriven(b'{"task":"t"}') == b'{"task":"t"}'
        assert wire.redriven(b"no letter") == b"no letter"

    @pytest.mark.parametrize(
        "job", [b"", b"\xff", b"[]", b'{"id":"a"}', b'{"error":1}', b'{"error":{"reason":5}}']
    )
    def test_what_has_no_error_of_ours_has_none(self, job: bytes) -> None:
        assert wire.read_error(job) is None

    @given(heads, bodies)
    def test_a_letter_is_valid_json(self, head: Head, body: bytes) -> None:
        assert msgspec.json.decode(wire.letter(head, body, ERROR), type=dict[str, msgspec.Raw])


class TestMalformed:
    @given(
        st.binary(max_size=200) | st.text().map(str.encode) | st.builds(wire.join, heads, bodies)
    )
    def test_the_exact_bytes_come_back(self, malformed: bytes) -> None:
        letter = wire.malformed_letter(malformed, Error("malformed", failed_at=1, consumer="c"))
        assert wire.split(letter) is not None
        assert wire.redriven(letter) == malformed
        error = wire.read_error(letter)
        assert error is not None
        assert wire.wrapped_payload(error) == malformed
        assert (error.reason, error.failed_at, error.consumer) == ("malformed", 1, "c")

    def test_a_letter_that_is_malformed_itself_comes_back_exactly_too(self) -> None:
        inner = wire.malformed_letter(b"\xff", Error("malformed"))
        assert wire.redriven(wire.malformed_letter(inner, Error("malformed"))) == inner

    def test_what_is_utf_8_can_be_read_by_people(self) -> None:
        assert b"h\xc3\xa4 hi" in wire.malformed_letter("hä hi".encode(), Error("malformed"))

    def test_its_letter_has_an_id_of_its_own(self) -> None:
        letters = [wire.split(wire.malformed_letter(b"", Error("malformed"))) for _ in range(2)]
        heads = [parts[0] for parts in letters if parts is not None]
        assert [Head(head.id) for head in heads] == heads
        assert len({head.id for head in heads if len(head.id) == 26}) == 2

    @pytest.mark.parametrize("text", ["!!!!", "c2VjcmV0!", "c2V", "ä"])
    def test_what_somebody_else_wrote_for_base64_wraps_nothing(self, text: str) -> None:
        assert wire.wrapped_payload(Error("malformed", payload_base64=text)) is None

    def test_every_other_letter_wraps_nothing(self) -> None:
        assert wire.wrapped_payload(ERROR) is None
        assert wire.wrapped_payload(None) is None


class TestError:
    def test_a_failure_is_told_by_its_type_and_message(self) -> None:
        error = wire.error_of(
            "max_attempts", ValueError("no"), traceback="T", failed_at=1, consumer="c"
        )
        assert error == Error("max_attempts", "ValueError", "no", "T", 1, "c")

    def test_it_is_cut_to_what_a_letter_can_carry(self) -> None:
        traceback = "start" + "x" * 10_000 + "end"
        failure = ValueError("m" * 5_000)
        error = wire.error_of("timeout", failure, traceback=traceback, failed_at=1, consumer="c")
        assert (len(error.message), len(error.traceback)) == (1_000, 8_000)
        assert error.traceback.endswith("end")

    def test_a_death_without_an_exception_has_no_type(self) -> None:
        error = wire.error_of("expired", None, failed_at=1, consumer="c")
        assert (error.type, error.message) == ("", "")


def test_a_tasks_name_has_a_limit_which_producers_and_consumers_share() -> None:
    most = "ü" * wire.MAX_TASK_NAME
    job = wire.assemble(new_id(), wire.encode_call(most, (), {}))
    assert wire.read_body(job).task == most
    with pytest.raises(InvalidJob, match="256 characters: use at most 255"):
        wire.encode_call(most + "ü", (), {})
    with pytest.raises(msgspec.ValidationError, match=r"<= 255 - at `\$.task`"):
        wire.read_body(job.replace(b',"task":"', b',"task":"+'))
