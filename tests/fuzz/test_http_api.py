"""The HTTP API against its own OpenAPI document: every endpoint, good and bad requests, all checks.

The server is a process with a Valkey of its own, in whose lists lies everything that can lie there.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import example, given
from hypothesis import strategies as st
from redis import Redis
from schemathesis.checks import CHECKS, load_all_checks
from starlette.routing import Route

from headrace import Headrace
from headrace.embedded.server import free_port
from headrace.keys import QUEUES, is_name, keys_of
from headrace.leasing import Leases, Lines
from headrace.options import JobOptions
from headrace.policy import LeasePolicy
from headrace.store import AsyncStore
from headrace.web.api import api
from headrace.web.api.claims import MAX_WAIT_S
from headrace.web.application import create_site
from headrace.web.openapi import document
from headrace.web.problems import PREFIX
from headrace.web.reader import Reader
from headrace.web.shapes import JOB_ID, QUEUE_NAME
from headrace.web.updates import Updates
from tests.fuzz.extent import TIMES, bounded
from tests.fuzz.seeds import JOBS, VALUES
from tests.integration.transitions.strategies import ids as wire_ids
from tests.support.invariants import read
from tests.support.processes import ROOT, clean_environment, processes
from tests.support.servers import private_server
from tests.support.wait import WAIT_S, wait_until

NOBODY = "redis://127.0.0.1:1/0"  # where nothing listens
PROGRAM = """
import asyncio, sys
from headrace import Headrace
from headrace.web import serve
asyncio.run(serve(Headrace(sys.argv[1]), port=int(sys.argv[2])))
"""
STORE = AsyncStore(NOBODY)
LINES = Lines(STORE, Leases(STORE, Headrace(NOBODY)), "", LeasePolicy())
READER = Reader(STORE, Headrace(NOBODY))
DOCUMENT = document(api(Headrace(NOBODY), STORE, READER, Updates(READER), LINES).endpoints())
STREAM = "/api/v1/events"  # its answer has no end: tests/integration/test_web_server.py reads it

load_all_checks()
every_check = [CHECKS.get_one(name) for name in CHECKS.get_all_names()]
# A cron expression and a time zone have grammars of their own, which the document does not spell.
SPELLED_ELSEWHERE = {("put", "/api/v1/schedules/{name}"): "positive_data_acceptance"}


def fill(redis: Redis) -> int:
    """Put all kinds of things into every place, as plain clients could; give how many."""
    odd = [*JOBS, *(b'{"id":"a%d","task":"t","error":%b}' % (n, v) for n, v in enumerate(VALUES))]
    k = keys_of("queue")
    redis.lpush(k.pending, *odd)
    redis.lpush(k.dead, *odd)
    redis.zadd(k.delayed, {job: 4e12 + n for n, job in enumerate(odd)})
    redis.zadd(k.priority, {job: n - 5 for n, job in enumerate(odd)})
    for queue in ("a/b", "a", "ü%2F?#", "a b", "jobs", "a/jobs"):
        redis.sadd(QUEUES, queue)
    return 4 * len(odd)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a server; give its address, and see afterwards that what it accepted is there."""
    folder = tmp_path_factory.mktemp("http")
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    with private_server(folder) as server, processes(folder) as start:
        with Redis(port=server.port) as redis:
            redis.flushall()
            foreign = fill(redis)
            command = (sys.executable, "-c", PROGRAM, server.url, str(port))
            program = start(*command, env=clean_environment(PYTHONPATH=str(ROOT / "src")))

            def answers() -> bool:
                assert program.alive(), program.output
                with contextlib.suppress(httpx.TransportError):
                    return httpx.get(f"{base}/readyz").is_success
                return False

            wait_until(answers, "the server answers")
            yield base
            assert program.alive(), program.output
            assert httpx.get(f"{base}/healthz").is_success
            assert program.end() == 0
            # The seeds put a name into the registry that no queue can have, and of that it tells; and of
            # ticks that schedules missed, which requests made.
            told = ("which cannot be a queue's name", "ms since 1970), and 1 fired: its policy is")
            odd = [line for line in program.output.splitlines() if not any(t in line for t in told)]
            assert odd == []
            assert read(redis).foreign == foreign


schema = schemathesis.openapi.from_dict(DOCUMENT).exclude(path=STREAM)


@pytest.mark.timeout(60 * TIMES)
@schema.parametrize()
@bounded(15)
def test_the_api_does_what_its_document_says(case: Any, served: str) -> None:
    but = SPELLED_ELSEWHERE.get((case.operation.method, case.operation.path))
    checks = [check for check in every_check if check.__name__ != but]
    assert len(checks) == len(every_check) - (but is not None)
    # A claim may wait for a minute, and nobody brings a job: longer than the request here may take.
    wait = case.body.get("wait") if isinstance(case.body, dict) else None
    if isinstance(wait, int | float) and 0 < wait <= MAX_WAIT_S:
        case.body["wait"] = min(wait, 0.05)
    case.call_and_validate(base_url=served, timeout=WAIT_S, checks=checks)


class TestTheDocument:
    def test_is_served_as_it_is(self, served: str) -> None:
        answer = httpx.get(f"{served}/api/v1/openapi.json")
        assert answer.headers["content-type"] == "application/json"
        assert answer.json() == DOCUMENT

    def test_has_every_route_and_no_other(self) -> None:
        app = create_site(Headrace(NOBODY), STORE)
        routes = {
            (route.path.replace(":rest", ""), method)
            for route in app.routes
            if isinstance(route, Route) and route.path.startswith(PREFIX)
            for method in (route.methods or set()) - {"HEAD"}
        }
        shown = {
            (path, method.upper()) for path, ops in DOCUMENT["paths"].items() for method in ops
        }
        assert routes == shown

    def test_takes_every_option_of_a_job_and_nothing_else(self) -> None:
        options = {*JobOptions.__annotations__, "task", "args", "kwargs"}
        assert DOCUMENT["components"]["schemas"]["NewJob"]["properties"].keys() == options

    @given(st.text(max_size=101))
    @example("a" * 100)
    @example("a" * 101)
    @example("\x85")
    def test_knows_which_names_a_queue_can_have(self, name: str) -> None:
        assert bool(re.fullmatch(QUEUE_NAME, name)) == is_name(name)

    @given(wire_ids)
    def test_knows_every_id_that_a_job_can_have(self, job_id: str) -> None:
        assert re.fullmatch(JOB_ID, job_id)


OPERATIONS = [
    (path, method, operation)
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
]


@pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS)
class TestStrangers:
    def test_a_foreign_host_is_refused_everywhere(
        self, served: str, path: str, method: str, operation: dict[str, Any]
    ) -> None:
        answer = httpx.request(method, served + path, headers={"host": "evil.example"})
        assert answer.status_code == 403
        assert "403" in operation["responses"]
        assert answer.json().keys() == {"type", "title", "status", "detail"}

    def test_a_method_that_is_none_is_405_and_says_which_is_right(
        self, served: str, path: str, method: str, operation: dict[str, Any]
    ) -> None:
        answer = httpx.request("PATCH", served + path)
        assert answer.status_code == 405
        assert method.upper() in answer.headers["allow"]
        assert answer.json().keys() == {"type", "title", "status", "detail"}


class TestTheStream:
    def test_is_one_as_documented(self, served: str) -> None:
        with httpx.stream("GET", served + STREAM, timeout=WAIT_S) as answer:
            assert answer.status_code == 200
            kind = answer.headers["content-type"].partition(";")[0]
            assert [kind] == [*DOCUMENT["paths"][STREAM]["get"]["responses"]["200"]["content"]]
            read = b""
            for part in answer.iter_bytes():
                read += part
                if b"data: " in read and read.endswith(b"\n\n"):
                    break
        (data,) = [line for line in read.split(b"\n") if line.startswith(b"data: ")][:1]
        assert json.loads(data.removeprefix(b"data: "))["queue"] == "queue"

    @bounded(20)
    @given(st.text().filter(lambda name: not is_name(name)))
    def test_of_no_queue_is_400(self, served: str, name: str) -> None:
        answer = httpx.get(served + STREAM, params={"queue": name}, timeout=WAIT_S)
        assert answer.status_code == 400
        assert answer.json().keys() == {"type", "title", "status", "detail"}
