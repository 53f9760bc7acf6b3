"""Schedules: jobs that are enqueued again and again, every so often or by a cron expression.

They stand in Redis. Whoever leads fires their ticks: each is one script, so that it fires once
however many lead, and whenever one of them dies.

    timing        when ticks are                    definition   what a schedule says
    step          what is done about ticks that are due
    duty          the leader's part of it           requests     what all ask of Redis
    declared, schedulable   those in code           manager      changed at run time: ``app.schedules``
    changes       how both change what stands in Redis
    schedule      one as people see it
"""

from headrace.schedules.declared import Declared, adefinitions_of, definitions_of, keep_declared
from headrace.schedules.definition import Definition, Missed, define, timing_of
from headrace.schedules.duty import Schedules
from headrace.schedules.manager import Manager
from headrace.schedules.schedulable import Schedulable
from headrace.schedules.schedule import Schedule

__all__ = [
    "Declared",
    "Definition",
    "Manager",
    "Missed",
    "Schedulable",
    "Schedule",
    "Schedules",
    "adefinitions_of",
    "define",
    "definitions_of",
    "keep_declared",
    "timing_of",
]
