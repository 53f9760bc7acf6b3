"""For the tests of applications: jobs without Redis, and private servers for those that need one.

Never imported by the package itself. ``inline`` is what a test holds; ``memory`` keeps its jobs,
``stand_in`` answers the application in Redis' place, ``runs`` runs jobs by the consumer's own steps,
``recorded`` is what a test sees and expects; ``servers`` starts what is real.
"""

from __future__ import annotations

from headrace.testing.inline import Inline, run_inline
from headrace.testing.recorded import ExpectedCall, Recorded, call
from headrace.testing.runs import Crash
from headrace.testing.servers import consume, consumer, live, server
from headrace.testing.stand_in import NotExercised

__all__ = [
    "Crash",
    "ExpectedCall",
    "Inline",
    "NotExercised",
    "Recorded",
    "call",
    "consume",
    "consumer",
    "live",
    "run_inline",
    "server",
]
