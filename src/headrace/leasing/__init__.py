"""Leases for consumers that run elsewhere, in any language, and reach Redis through the server alone.

What such a consumer is given is a claim like any other: leased, fenced by a token, reclaimed when the
lease runs out. The server keeps nothing of it: whatever is needed at the end stands in Redis, so that a
restart of the server, or another server, makes no difference.

    tasks       what is known of a job's task here: the application's, or that there is none
    leases      claim, extend and settle
    endings     how a claim ends
    statistics  how long they waited and ran
    lines       who waits for jobs: long polls
"""

from headrace.leasing.endings import Ending, Ticket, Verb
from headrace.leasing.leases import Leased, Leases
from headrace.leasing.lines import Lines, Poll

__all__ = ["Ending", "Leased", "Leases", "Lines", "Poll", "Ticket", "Verb"]
