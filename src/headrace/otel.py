"""OpenTelemetry: one trace from the enqueue to the run, and to what that enqueues; spans and metrics.

    pip install "headrace[otel]"

    from headrace.otel import instrument
    instrument(app)

The context travels in the job's headers (W3C ``traceparent``). Names are those of the semantic conventions
for messaging (v1.44; all of them in development there), with ``messaging.system`` = ``headrace``:
https://opentelemetry.io/docs/specs/semconv/messaging/. What is exported, and where to, is the
application's business, as everywhere with OpenTelemetry.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, TypeAlias

from opentelemetry import propagate, trace
from opentelemetry.metrics import MeterProvider, get_meter
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, TracerProvider

from headrace import __version__
from headrace.clock import monotonic
from headrace.context import Context
from headrace.hooks import EnqueueRequest
from headrace.partitions.names import split
from headrace.tasks import Tasks

SYSTEM: Final = "headrace"
"""There is no well-known name for it in the conventions."""

_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
"""Seconds, as the conventions have them."""

_BY_HAND: Final[dict[str, Any]] = {"record_exception": False, "set_status_on_exception": False}
"""A failure is noted here, once."""

_Attributes: TypeAlias = dict[str, str | int]


def instrument(
    app: Tasks,
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
) -> None:
    """Have the enqueues and the runs of an application traced and measured.

    Call it once, where the application is made, and before ``app.include``: hooks stand around what is
    declared later, too, and the first is the outermost.

    Args:
        app: the application, or the tasks of a library.
        tracer_provider: makes spans; None for the global one.
        meter_provider: takes measurements; None for the global one.
    """
    instruments = _Instruments(tracer_provider, meter_provider)
    app.around_enqueue(instruments.send)
    app.around_run(instruments.process)


class _Instruments:
    """What measures the jobs of one application."""

    def __init__(self, tracers: TracerProvider | None, meters: MeterProvider | None) -> None:
        self._tracer = trace.get_tracer(SYSTEM, __version__, tracers)
        meter = get_meter(SYSTEM, __version__, meters)
        seconds: dict[str, Any] = {"unit": "s", "explicit_bucket_boundaries_advisory": _BUCKETS}
        self._sent = meter.create_counter("messaging.client.sent.messages", "{message}")
        self._consumed = meter.create_counter("messaging.client.consumed.messages", "{message}")
        self._sending = meter.create_histogram("messaging.client.operation.duration", **seconds)
        self._processing = meter.create_histogram("messaging.process.duration", **seconds)

    def send(self, request: EnqueueRequest) -> Iterator[None]:
        """Stand around an enqueue: its span, in which the job's trace goes on."""
        queue = split(request.options.get("queue") or request.queue)[0]
        attributes = _attributes("send", queue, request.task)
        since = monotonic()
        # Not the current one: jobs that are sent together stand side by side, and not in one another.
        span = self._tracer.start_span(f"send {queue}", None, SpanKind.PRODUCER, attributes)
        if not request.schedule:  # its jobs would all belong to this one trace
            propagate.inject(request.headers, trace.set_span_in_context(span))
        try:
            yield
            span.set_attribute("messaging.message.id", request.job_id)
        except BaseException as error:
            _failed(span, attributes, error)
            raise
        finally:
            span.end()
            self._sent.add(1, attributes)
            self._sending.record(monotonic() - since, attributes)

    def process(self, ctx: Context) -> Iterator[None]:
        """Stand around a run: its span, below the one of the enqueue."""
        queue = split(ctx.queue)[0]
        attributes = _attributes("process", queue, ctx.task)
        about: _Attributes = {
            "messaging.message.id": ctx.job_id,
            "headrace.attempt": ctx.attempt,
            "headrace.delivery": ctx.delivery,
        }
        made_in = propagate.extract(ctx.headers)
        origin = trace.get_current_span(made_in).get_span_context()
        links = [Link(origin)] if origin.is_valid else []
        since = monotonic()
        with self._tracer.start_as_current_span(
            f"process {queue}", made_in, SpanKind.CONSUMER, attributes | about, links, **_BY_HAND
        ) as span:
            try:
                yield
            except BaseException as error:
                _failed(span, attributes, error)
                raise
            finally:
                self._consumed.add(1, attributes)
                self._processing.record(monotonic() - since, attributes)


def _attributes(operation: str, queue: str, task: str) -> _Attributes:
    return {
        "messaging.system": SYSTEM,
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": queue,
        "headrace.task": task,
    }


def _failed(span: Span, attributes: _Attributes, error: BaseException) -> None:
    """Note a failure in the span, and in what is measured of it."""
    attributes["error.type"] = type(error).__qualname__
    span.set_attribute("error.type", type(error).__qualname__)
    span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"[:200]))
    if isinstance(error, Exception):
        span.record_exception(error)
