"""For operators: is the server safe, are the queues in order, where is a job, does the sum hold?

Looks are flows of plain reads and two scripts, judgements are pure, and only ``repairs`` writes. The
command line alone prints.

    checkup            reads the facts of all, and judges them
    ├ server, permissions, connections        server_checks   its table
    ├ keyspace
    ├ queue, fit, scan                        queue_checks    its table
    └                                         schedule_checks of schedules
    repairs            what can be repaired
    location           where a job is                         explanation     in words
    balance            where all jobs are
"""

from headrace.doctor.balance import Balance, balance_of, equation, total
from headrace.doctor.checkup import Checkup, check_up
from headrace.doctor.explanation import Explanation, explain
from headrace.doctor.finding import SEVERITIES, Finding, Severity
from headrace.doctor.humanize import command
from headrace.doctor.location import Location, locate
from headrace.doctor.repairs import Repaired, make_repairs

__all__ = [
    "SEVERITIES",
    "Balance",
    "Checkup",
    "Explanation",
    "Finding",
    "Location",
    "Repaired",
    "Severity",
    "balance_of",
    "check_up",
    "command",
    "equation",
    "explain",
    "locate",
    "make_repairs",
    "total",
]
