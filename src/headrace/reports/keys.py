"""The keys of what jobs tell while they run, all in the slot of their queue.

queue:progress:<id>  string  how far the job is, JSON; expires
queue:stream:<id>    stream  what the job has yielded; expires

Of the stream there are the last items of the last run; an id in it is the run's delivery and a number.
"""

from __future__ import annotations

from headrace.keys import Keys


def progress_of(k: Keys, job_id: str) -> str:
    """Where a job tells how far it is."""
    return f"{k.queue}:progress:{job_id}"


def stream_of(k: Keys, job_id: str) -> str:
    """Where the items are that a job yields."""
    return f"{k.queue}:stream:{job_id}"
