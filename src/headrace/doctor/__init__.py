"""For operators: is the server safe, are the queues in order, where is a job, does the sum hold?

Looks are flows of plain reads and two scripts, judgements are pure, and only ``repairs`` writes. The
command line alone prints.
"""

from headrace.doctor.conservation import Sum, equation, total
from headrace.doctor.conservation import of as sum_of
from headrace.doctor.examination import Examination, examine
from headrace.doctor.explanation import Explanation, explain
from headrace.doctor.finding import SEVERITIES, Finding, Severity, worst
from headrace.doctor.repairs import Mended, mend
from headrace.doctor.whereabouts import Whereabouts
from headrace.doctor.whereabouts import look as look_for
from headrace.doctor.words import command

__all__ = [
    "SEVERITIES",
    "Examination",
    "Explanation",
    "Finding",
    "Mended",
    "Severity",
    "Sum",
    "Whereabouts",
    "command",
    "equation",
    "examine",
    "explain",
    "look_for",
    "mend",
    "sum_of",
    "total",
    "worst",
]
