"""Bytes to begin from: jobs and letters of every kind, and the pieces of which they are made."""

from __future__ import annotations

from typing import Final

from headrace import wire
from headrace.wire import Head

ID: Final = "06h0nc2tn9rb3324jlb9ek3844"
_ERROR: Final = wire.Error("max_attempts", "ValueError", "no", "Traceback …", 1, "host-1-x")
_BODY: Final = b',"task":"t","args":[1,"\xc3\xa4",null,{"a":[]}],"kwargs":{"b":1.5e3}}'
_MALFORMED: Final = wire.Error("malformed", failed_at=1, consumer="host-1-x")

JOBS: Final[tuple[bytes, ...]] = (
    b'{"task":"t"}',
    b'{"task":"t","args":["hi"]}',
    wire.join(Head(ID), _BODY),
    wire.join(Head(ID, -5, 2, 1, 3, 1_795_492_028_185), _BODY),
    wire.join(Head("a"), b',"task":"nobody","x":12345678901234567890123}'),
    wire.join(Head("a"), b',"task":"t","timeout":30,"max_attempts":5,"result_ttl":60}'),
    b' { "task" : "echo" ,\n"id" : "mine" , "priority" : 7 , "crashes" : 1 } \r\n',
    b'{"id":17,"task":"t","foreign_id":1}',
    b'{"id":"a b","task":"t","delivery":-1}',
    wire.letter(Head(ID, 0, 3, 0, 3), _BODY, _ERROR),
    b'{"error":{"reason":"x"},"id":"z","task":"t"}',
    wire.malformed_letter(b"\xff\xfe", _MALFORMED),
    wire.malformed_letter(b'{"task":"t","args":', _MALFORMED),
    wire.malformed_letter(wire.malformed_letter(b"[", _MALFORMED), _MALFORMED),
    b'{"id":"x","error":{"reason":"malformed","payload_base64":"e30="}}',
    b'{"id":"x","error":{"reason":"malformed","payload":"{\\"task\\":\\"t\\"}"}}',
    b"nonsense",
    b"[]",
    b"",
)

FIELDS: Final = (
    *("id", "priority", "delivery", "crashes", "attempt", "unknown_since", "task", "args"),
    *("kwargs", "timeout", "max_attempts", "result_ttl", "error", "foreign_id", "x"),
)
ERROR_FIELDS: Final = (
    *("reason", "type", "message", "traceback", "failed_at", "consumer", "payload"),
    "payload_base64",
)

VALUES: Final[tuple[bytes, ...]] = (
    *(
        b"null",
        b"true",
        b"0",
        b"-0",
        b"1",
        b"-1",
        b"007",
        b"0000000000001",
        b"1.5",
        b"1e3",
        b"1e400",
        b"-1e400",
        b"NaN",
    ),
    *(b"999999999", b"1000000000", b"9007199254740993", b"9223372036854775808"),
    *(b"999999999999999", b"1" * 40, b"1" * 5_000, b"1e-400", b"0.1e-9", b"Infinity"),
    *(b'""', b'"t"', b'"a"', b'"~a"', b'"a b"', b'"\\u0061"', b'"\\ud800"', b'"\\udc00\\ud800"'),
    *(b'"\\u0000"', b'"\x00"', b'"\xff"', b'"\xed\xa0\x80"', b'"\xc3\xa4"', b'"\xf0\x9f\x98\x80"'),
    *(b"[]", b"{}", b"[1,2]", b'{"a":1}', b'{"error":1}', b'["error"]', b'"\\"error\\":"'),
    *(b"[" * 2_000 + b"]" * 2_000, b"[" * 2_000, b'{"a":' * 2_000, b"7 ", b" 7", b"[1,]"),
)

PIECES: Final[tuple[bytes, ...]] = (
    *(b'{"id":"', b'"', b",", b":", b"{", b"}", b"[", b"]", b" ", b"\n", b"\x00", b"\\", b"\\u"),
    *(b"\xef\xbb\xbf", b"\xff", b"\xed\xa0\x80", b"\x80\x04", b"}{", b"//", b"/*", b"'", b"#"),
    *(b',"%b":' % name.encode() for name in (*FIELDS, *ERROR_FIELDS)),
    *(value for value in VALUES if len(value) < 100),
    *(b',"error":{"reason":"malformed","payload":"', b'"payload_base64":"!"'),
)
