"""OpenTelemetry and Sentry: one trace from the enqueue to the run and what that enqueues."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
import sentry_sdk
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sentry_sdk.transport import Transport

from headrace import Backoff, Context, Headrace, Reject, otel, sentry
from tests.support.consuming import QUICK, Site


class Collector:
    """What stands in for an OTLP collector: it takes what is exported to it over HTTP."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        mine = self.spans

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:  # noqa: N802  the library's name
                body = self.rfile.read(int(self.headers["Content-Length"]))
                sent = ExportTraceServiceRequest.FromString(body)
                for resource in sent.resource_spans:
                    for scope in resource.scope_spans:
                        mine.extend(scope.spans)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self.server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


class Traced:
    """An application's spans and measurements, kept in memory."""

    def __init__(self, app: Headrace) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self._reader = InMemoryMetricReader()
        meters = MeterProvider([self._reader])
        otel.instrument(app, tracer_provider=self.provider, meter_provider=meters)

    def spans(self, name: str) -> list[ReadableSpan]:
        return [one for one in self._exporter.get_finished_spans() if one.name == name]

    def span(self, name: str) -> ReadableSpan:
        (one,) = self.spans(name)
        return one

    def measured(self) -> dict[str, list[Any]]:
        """Return what was measured, by name: the points of each."""
        data = self._reader.get_metrics_data()
        assert data is not None
        metrics = [
            metric
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        ]
        return {metric.name: list(metric.data.data_points) for metric in metrics}


@pytest.fixture
def traced(site: Site) -> Traced:
    return Traced(site.app)


async def test_a_trace_is_seen_whole_in_a_collector(site: Site, collector: Collector) -> None:
    host, port = collector.server.server_address[:2]
    provider = TracerProvider()
    exporter = OTLPSpanExporter(f"http://{host!s}:{port}/v1/traces")
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    otel.instrument(site.app, tracer_provider=provider, meter_provider=MeterProvider())

    @site.app.task
    def follow_up() -> None: ...

    @site.app.task
    async def order(ctx: Context) -> None:
        ctx.enqueue(follow_up.call())

    with provider.get_tracer("shop").start_as_current_span("checkout"):
        await site.app.aenqueue("order")
    async with site.consumer():
        await site.drained()
    provider.shutdown()
    by_id = {span.span_id: span for span in collector.spans}
    assert len({span.trace_id for span in collector.spans}) == 1
    names = {
        span.name: by_id[span.parent_span_id].name if span.parent_span_id else ""
        for span in collector.spans
    }
    sends = [span for span in collector.spans if span.name == "send queue"]
    parents = sorted(by_id[span.parent_span_id].name for span in sends)
    assert parents == ["checkout", "process queue"]
    assert names["checkout"] == ""
    processes = [span for span in collector.spans if span.name == "process queue"]
    assert {by_id[span.parent_span_id].name for span in processes} == {"send queue"}
    assert all(span.links[0].span_id == span.parent_span_id for span in processes)


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_spans_have_the_names_of_the_conventions(
    site: Site, traced: Traced, kind: str
) -> None:
    if kind == "sync":

        @site.app.task(name="work")
        def work(n: int) -> None:
            trace.get_tracer("own", tracer_provider=traced.provider).start_span("inner").end()

    else:

        @site.app.task(name="work")
        async def work_async(n: int) -> None:
            trace.get_tracer("own", tracer_provider=traced.provider).start_span("inner").end()

    job = await site.app.aenqueue("work", 1)
    async with site.consumer():
        await site.drained()
    sent, run = traced.span("send queue"), traced.span("process queue")
    common = {
        "messaging.system": "headrace",
        "messaging.destination.name": "queue",
        "messaging.message.id": job.id,
        "headrace.task": "work",
    }
    assert sent.kind is trace.SpanKind.PRODUCER
    assert dict(sent.attributes or {}) == common | {
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
    }
    assert run.kind is trace.SpanKind.CONSUMER
    assert dict(run.attributes or {}) == common | {
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "headrace.attempt": 1,
        "headrace.delivery": 0,
    }
    inner = traced.span("inner")
    assert inner.parent == run.get_span_context()


async def test_jobs_that_are_sent_together_stand_side_by_side(site: Site, traced: Traced) -> None:
    @site.app.task
    async def work(n: int) -> None: ...

    await site.app.aenqueue_many(work.call(n) for n in range(3))
    async with site.consumer():
        await site.drained()
    sent = traced.spans("send queue")
    assert [one.parent for one in sent] == [None] * 3
    runs = traced.spans("process queue")
    made_in = [run.links[0].context.span_id for run in runs]
    assert sorted(made_in) == sorted(one.get_span_context().span_id for one in sent)  # type: ignore[union-attr]


async def test_a_failure_is_in_the_span_and_in_what_is_measured(site: Site, traced: Traced) -> None:
    @site.app.task(max_attempts=2, backoff=Backoff(base_s=0))
    async def fails() -> None:
        raise OSError("no route")

    await site.app.aenqueue("fails")
    async with site.consumer():
        await site.died()
    runs = traced.spans("process queue")
    assert [dict(run.attributes or {})["headrace.attempt"] for run in runs] == [1, 2]
    for run in runs:
        assert run.status.description == "OSError: no route"
        assert [event.name for event in run.events] == ["exception"]
    measured = traced.measured()
    (consumed,) = measured["messaging.client.consumed.messages"]
    assert (consumed.value, consumed.attributes["error.type"]) == (2, "OSError")
    (processed,) = measured["messaging.process.duration"]
    assert processed.count == 2
    assert processed.explicit_bounds[:2] == (0.005, 0.01)
    (sent,) = measured["messaging.client.sent.messages"]
    assert "error.type" not in sent.attributes


async def test_a_job_from_elsewhere_begins_a_trace_of_its_own(site: Site, traced: Traced) -> None:
    @site.app.task
    async def work() -> None: ...

    site.push({"task": "work"}, {"task": "work", "headers": {"traceparent": "nonsense"}})
    async with site.consumer():
        await site.drained()
    runs = traced.spans("process queue")
    first, second = (run.get_span_context() for run in runs)
    assert first and second and first.trace_id != second.trace_id
    assert not any(run.links or run.parent for run in runs)


async def test_a_schedule_puts_no_trace_into_its_ticks(site: Site, traced: Traced) -> None:
    @site.app.task
    async def work() -> None: ...

    await site.app.schedules.aadd("beat", site.app.call("work"), every=600)
    (schedule,) = await site.app.schedules.alist()
    assert schedule.definition is not None
    assert b"traceparent" not in bytes(schedule.definition.job)
    await site.app.schedules.aremove("beat")


class Reports(Transport):
    """What stands in for Sentry: it keeps what is reported."""

    def __init__(self) -> None:
        super().__init__({})
        self.events: list[Any] = []
        self.transactions: list[Any] = []

    def capture_envelope(self, envelope: Any) -> None:
        for item in envelope.items:
            if (event := item.get_event()) is not None:
                self.events.append(event)
            if (transaction := item.get_transaction_event()) is not None:
                self.transactions.append(transaction)


@pytest.fixture
def reports() -> Iterator[Reports]:
    reports = Reports()
    sentry_sdk.init(
        dsn="http://key@localhost/1",
        transport=reports,
        traces_sample_rate=1.0,
        default_integrations=False,
    )
    yield reports
    sentry_sdk.init()


async def test_sentry_is_told_what_a_task_raises_and_of_which_job(
    site: Site, reports: Reports
) -> None:
    sentry.instrument(site.app)

    @site.app.task(max_attempts=1)
    async def fails(secret: str) -> None:
        raise OSError("no route")

    @site.app.task
    async def rejects() -> None:
        raise Reject

    job = await site.app.aenqueue("fails", "password1")
    await site.app.aenqueue("rejects")
    async with site.consumer(lease=QUICK):
        await site.died(2)
    (event,) = reports.events
    assert event["exception"]["values"][0]["type"] == "OSError"
    assert event["tags"]["headrace.task"] == "fails"
    assert event["contexts"]["headrace job"]["id"] == job.id
    runs = {one["transaction"]: one for one in reports.transactions}
    assert runs.keys() == {"fails", "rejects"}
    assert runs["fails"]["contexts"]["trace"]["op"] == "queue.process"
    assert "password1" not in str({name: event[name] for name in ("tags", "contexts")})
