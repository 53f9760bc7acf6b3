"""Sentry: what a task raises is reported, with its job; and the monitoring of queues there.

    pip install "headrace[sentry]"

    from headrace.sentry import instrument
    sentry_sdk.init(dsn=…, traces_sample_rate=0.1)
    instrument(app)

Names are those that Sentry's monitoring of queues reads:
https://docs.sentry.io/platforms/python/tracing/instrumentation/custom-instrumentation/queues-module/.
Arguments are not sent: they may hold what shall not leave.
"""

from __future__ import annotations

from collections.abc import Iterator

import sentry_sdk
from sentry_sdk.consts import OP

from headrace.clock import now_ms
from headrace.context import Context
from headrace.errors import Reject, Retry
from headrace.hooks import EnqueueRequest
from headrace.ids import time_ms_of
from headrace.tasks import Tasks

_TRACE = ("sentry-trace", "baggage")


def instrument(app: Tasks) -> None:
    """Have the failures of an application's tasks reported, and its enqueues and runs traced.

    ``Retry`` and ``Reject``, which a task raises to say what shall become of its job, are no failures.

    Args:
        app: the application, or the tasks of a library.
    """

    @app.around_enqueue
    def send(request: EnqueueRequest) -> Iterator[None]:
        # Not the current one: jobs that are sent together stand side by side, and not in one another.
        span = sentry_sdk.start_span(op=OP.QUEUE_PUBLISH, name=request.task)
        span.set_data("messaging.destination.name", request.queue)
        if not request.schedule:  # its jobs would all belong to this one trace
            baggage = span.to_baggage()
            request.headers["sentry-trace"] = span.to_traceparent()
            request.headers.update({"baggage": baggage.serialize()} if baggage else {})
        try:
            yield
            span.set_data("messaging.message.id", request.job_id)
        finally:
            span.finish()

    @app.around_run
    def run(ctx: Context) -> Iterator[None]:
        with sentry_sdk.isolation_scope() as scope:
            scope.set_tag("headrace.task", ctx.task)
            scope.set_tag("headrace.queue", ctx.queue)
            about = {"id": ctx.job_id, "attempt": ctx.attempt, "delivery": ctx.delivery}
            scope.set_context("headrace job", about)
            given = {name: ctx.headers[name] for name in _TRACE if name in ctx.headers}
            transaction = sentry_sdk.continue_trace(
                given, op=OP.QUEUE_PROCESS, name=ctx.task, source="task"
            )
            with sentry_sdk.start_transaction(transaction) as span:
                span.set_data("messaging.message.id", ctx.job_id)
                span.set_data("messaging.destination.name", ctx.queue)
                span.set_data("messaging.message.retry.count", ctx.attempt - 1)
                if (made_ms := time_ms_of(ctx.job_id)) is not None:
                    span.set_data("messaging.message.receive.latency", max(0, now_ms() - made_ms))
                try:
                    yield
                except Exception as error:
                    span.set_status("internal_error")
                    if not isinstance(error, Retry | Reject):
                        sentry_sdk.capture_exception(error)
                    raise
