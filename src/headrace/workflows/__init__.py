"""Workflows: jobs that follow others. A job's end and what follows from it are one script.

    steps      chain, group, chord, Dag: what is to be done, as data
    starting   hands it to Redis
    handing    lets a job hand it to Redis, with its own end
    workflow   the handle of one that was started
    member     what a job knows of the workflow to which it belongs
    commit     the end of a job, with what follows from it
    duty       finds members that ended without a consumer

What each rests on is in docs/workflows.md and docs/decisions/0043.
"""

from headrace.workflows.steps import RESULT, Dag, Steps, chain, chord, group
from headrace.workflows.workflow import FailedMember, Workflow, WorkflowStatus

__all__ = [
    "RESULT",
    "Dag",
    "FailedMember",
    "Steps",
    "Workflow",
    "WorkflowStatus",
    "chain",
    "chord",
    "group",
]
