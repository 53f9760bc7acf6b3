"""Ids rise, never repeat, and tell when they were made."""

from __future__ import annotations

import base64
import multiprocessing
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from headrace.clock import now_ms
from headrace.ids import (
    _COUNTER_MASK,
    ALPHABET,
    LENGTH,
    _Sequence,
    new_id,
    time_ms_of,
)


def test_an_id_is_26_letters_of_the_alphabet() -> None:
    job_id = new_id()
    assert len(job_id) == LENGTH == 26
    assert set(job_id) <= set(ALPHABET)


def test_an_id_is_a_uuid_of_version_7() -> None:
    job_id = uuid.UUID(bytes=base64.b32hexdecode(new_id().upper() + "======"))
    assert (job_id.version, job_id.variant) == (7, uuid.RFC_4122)


def test_a_hundred_thousand_ids_rise_without_a_repeat() -> None:
    ids = [new_id() for _ in range(100_000)]
    assert ids == sorted(ids)
    assert len(set(ids)) == 100_000


def test_threads_share_no_id() -> None:
    together = threading.Barrier(4)

    def take(_: int) -> list[str]:
        together.wait()
        return [new_id() for _ in range(2_500)]

    with ThreadPoolExecutor(4) as pool:
        taken = list(pool.map(take, range(4)))
    assert all(ids == sorted(ids) for ids in taken)
    assert len(set().union(*taken)) == 10_000


def test_a_forked_child_does_not_go_on_with_its_parents_ids() -> None:
    new_id()  # the parent's sequence is under way
    fork = multiprocessing.get_context("fork")
    answers = fork.SimpleQueue()

    def thousand() -> list[str]:
        return [new_id() for _ in range(1_000)]

    children = [fork.Process(target=lambda: answers.put(thousand())) for _ in range(2)]
    for child in children:
        child.start()
    ids = [*thousand(), *(job_id for _ in children for job_id in answers.get())]
    for child in children:
        child.join()
    assert len(set(ids)) == 3_000


def test_an_id_tells_when_it_was_made() -> None:
    before = now_ms()
    told = time_ms_of(new_id())
    # Ids of one process never go back, so a test that took very many may have borrowed a moment.
    assert told is not None
    assert before <= told <= now_ms() + 1_000


@pytest.mark.parametrize(
    "foreign",
    [
        "",
        "42",
        "x" * LENGTH,
        "é" * LENGTH,
        str(uuid.NAMESPACE_DNS),
        "0" * LENGTH,
        "0" * (LENGTH + 1),
    ],
)
def test_a_foreign_id_tells_no_time(foreign: str) -> None:
    assert time_ms_of(foreign) is None


def test_a_millisecond_that_is_used_up_borrows_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.ids.now_ms", lambda: 1_700_000_000_000)
    sequence = _Sequence()
    first = sequence.take()
    sequence._counter = _COUNTER_MASK - 8  # as after 2 ** 27 of them
    ids = [sequence.take() for _ in range(6)]
    assert [first, *ids] == sorted({first, *ids})
    assert [time_ms_of(job_id) for job_id in ids] == [
        1_700_000_000_000 + n for n in (0, 0, 1, 1, 1, 1)
    ]
