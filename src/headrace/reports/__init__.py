"""Reports: what a job tells while it runs: how far it is, and the items that it yields.

    ctx.progress(…) ─┐                                 ┌─▶ job.progress()
                     ├─▶ reporter ─ one script ─▶ Redis ┤
    yield item ──────┘   a thread of the consumer      └─▶ job.stream()

Both are written under the job's current claim alone, so that a run that was lost changes nothing. A job
that tells nothing pays for nothing: the thread begins with the first report.
"""

from headrace.reports import progress
from headrace.reports.progress import Progress
from headrace.reports.reading import RESTARTED, Reading, Stream
from headrace.reports.reporter import Reporter
from headrace.reports.streaming import streamed

__all__ = ["RESTARTED", "Progress", "Reading", "Reporter", "Stream", "progress", "streamed"]
