"""Job ids: a UUIDv7 in 26 lower-case base32hex letters.

The letters sort as the ids were made, which is what keeps jobs of one priority in order. Decode one
with ``base64.b32hexdecode(id.upper() + "======")``: the first six bytes are milliseconds since 1970
by the producer's clock (shown to people, never decisive). Where the job's queue is divided, ``@`` and the
number of its partition follow, so that it is found by its id (see ``partitions``). Layout: RFC 9562 section 5.7; alphabet:
RFC 4648 section 7, whose order is that of the numbers it writes.
"""

from __future__ import annotations

import os
import re
import threading

from headrace.clock import now_ms

ALPHABET = "0123456789abcdefghijklmnopqrstuv"
LENGTH = 26
_ID = re.compile(r"[0-9a-vA-V]{26}(@\d{1,3})?")
_PAIRS = [a + b for a in ALPHABET for b in ALPHABET]  # 10 bits at a time
_FIRST_MS = 1_577_836_800_000  # 2020: an older instant is read out of an id of another make
_COUNTER_MASK = (1 << 30) - 1


class _Sequence:
    """Ids of one process, strictly rising: random for each millisecond, counting within one.

    RFC 9562 section 6.2, method 2 (monotonic random). The last 28 bits count; of an id's 128 bits
    the letters carry 130, so the counter's letters end in two zero bits.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._forget()
        os.register_at_fork(after_in_child=self._forget)  # a child must not repeat its parent's ids

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._ms = 0
        self._prefix = ""
        self._counter = _COUNTER_MASK

    def take(self) -> str:
        with self._lock:
            ms = now_ms()
            if ms > self._ms:
                self._start(ms)
            counter = self._counter = self._counter + 4
            if counter > _COUNTER_MASK:  # 2^27 ids or more in one millisecond: borrow the next
                self._start(self._ms + 1)
                counter = self._counter
            prefix = self._prefix
        pairs = _PAIRS
        return f"{prefix}{pairs[counter >> 20]}{pairs[counter >> 10 & 1023]}{pairs[counter & 1023]}"

    def _start(self, ms: int) -> None:
        self._ms = ms
        random = int.from_bytes(os.urandom(10))
        # The version (7) and the variant (2) stand among the random bits: 12, 34, and the counter's.
        head = ms << 52 | 0x7 << 48 | random >> 68 << 36 | 0x2 << 34 | random >> 34 & (1 << 34) - 1
        self._prefix = "".join([_PAIRS[head >> shift & 1023] for shift in range(90, -1, -10)])
        # Start in the lower half: at least 2^27 ids before the millisecond runs out.
        self._counter = random & (_COUNTER_MASK >> 1) & ~3


_sequence = _Sequence()


def new_id() -> str:
    """Return a new id, above all that this process made before."""
    return _sequence.take()


def time_ms_of(job_id: str) -> int | None:
    """When the id was made, in milliseconds since 1970 by its maker's clock; None for a foreign id."""
    if _ID.fullmatch(job_id) is None:
        return None
    ms = int(job_id[:10], 32) >> 2  # of 50 bits, 48
    return ms if ms >= _FIRST_MS else None
