"""Find tells where a job is; the flow ``locate`` searches where that needs a search."""

from __future__ import annotations

import pytest

from headrace import flows
from headrace import operations as op
from headrace.operations import Found
from tests.integration.transitions.driver import LONG_MS, Driver, again, job

A, B = job("a"), job("b")
P = job("p", priority=1)


def locate(queue: Driver, job_id: str, job: bytes = b"") -> Found:
    return queue.store.follow(flows.locate(queue.k, job_id, job))


def test_waiting_jobs_are_found_by_their_bytes(queue: Driver) -> None:
    queue.enqueue(A, P)
    queue.enqueue(B, due="+60000")
    assert queue.find(A) == Found("pending", b"")
    assert queue.find(P) == Found("pending", b"")
    assert queue.find(B) == Found("delayed", b"")


def test_a_claimed_job_is_found_by_its_id(queue: Driver) -> None:
    queue.hold(A)
    assert queue.find(again(A)) == Found("processing", b"")


def test_a_bare_item_is_found_by_its_bytes(queue: Driver) -> None:
    queue.move_bare(A)
    assert queue.find(A) == Found("processing", b"")


def test_an_end_that_is_kept_is_told(queue: Driver) -> None:
    queue.hold(A)
    queue.settle(A, "done", result_ttl_ms=LONG_MS, result=b"\x00end")
    assert queue.find(A) == Found("ended", b"\x00end")
    assert locate(queue, "a", A) == Found("ended", b"\x00end")


def test_a_cancelled_job_is_known_for_a_while(queue: Driver) -> None:
    queue.enqueue(A)
    queue.cancel(A)
    assert queue.find(A) == Found("cancelled", b"")
    assert locate(queue, "a") == Found("cancelled")


def test_a_job_asked_to_stop_is_still_processing(queue: Driver) -> None:
    queue.hold(A)
    queue.cancel(A)
    assert queue.find(A) == Found("processing", b"")


def test_a_job_of_which_nothing_is_left_is_unknown(queue: Driver) -> None:
    queue.hold(A)
    queue.settle(A, "done")
    assert queue.find(A) == Found("unknown", b"")
    assert locate(queue, "a", A) == Found("unknown")


@pytest.mark.parametrize("state", ["pending", "priority", "delayed", "dead", "processing"])
def test_a_job_whose_bytes_have_changed_is_searched(queue: Driver, state: str) -> None:
    wanted = P if state == "priority" else A
    fillers = [job(f"{n:03}", priority=int(state == "priority")) for n in range(300)]
    due = "+60000" if state == "delayed" else ""
    queue.enqueue(*fillers[:100], due=due)
    queue.enqueue(wanted, due=due)
    queue.enqueue(*fillers[100:], due=due)
    if state == "dead":
        held = queue.claim(1_000)
        queue.settle_all(*(queue.outcome(one, "dead", job=one) for one in held))
    elif state == "processing":  # bare: what is claimed is found by its id
        for _ in range(301):
            queue.move()
    found = locate(queue, wanted[7:8].decode())
    assert (found.word, found.raw) == ("pending" if state == "priority" else state, wanted)
    queue.check(bare=301 if state == "processing" else 0)


def test_a_search_stops_after_a_mebibyte_and_goes_on_where_it_was(queue: Driver) -> None:
    large = b',"task":"t","args":["%b"]}' % (b"x" * 100_000)
    queue.enqueue(A, *(job(f"b{n}", large) for n in range(30)))
    offsets, offset = [0], 0
    while True:
        found, offset = queue.store.run(op.seek(queue.k.pending, "a", offset))
        if found:
            break
        offsets.append(offset)
    assert found == A
    assert offsets == [0, 16]
    assert queue.store.run(op.seek(queue.k.pending, "nobody", 24)) == (b"", 0)


def test_the_beginning_of_an_id_is_not_the_id(queue: Driver) -> None:
    queue.enqueue(job("abc"))
    assert locate(queue, "ab") == Found("unknown")


def test_finding_changes_nothing(queue: Driver) -> None:
    queue.enqueue(A)
    before = queue.state()
    queue.find(A)
    queue.find(B)
    assert queue.state() == before
