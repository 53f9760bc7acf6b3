"""Timings: how long jobs wait and run, by task, and what became of them minute by minute.

    a job ends ─▶ recorder: a few additions in memory ─▶ add: every 10 s one script for each queue
                                                           │
       queue:timings  since the queue is known, by task ◀──┤
       queue:minutes  the last 24 hours               ◀────┘

Statistics and nothing else: no job depends on them. A consumer that dies takes the last ten seconds with
it, and what is told and not answered is not told again, for it would count twice.

    tally      what is counted, in fixed buckets; percentiles. Pure
    recorder   counts in a consumer           requests   what is asked of Redis
    telling     tells it, and keeps what was not taken
    recent     the last minutes of a queue    places     reads and sums them in bulk
    keys       the keys
"""

from headrace.timings.keys import minutes_of, timings_of
from headrace.timings.recorder import Recorder

__all__ = ["Recorder", "minutes_of", "timings_of"]
