"""Headrace: a job queue on Redis. Many producers, many consumers, one list; nothing is lost."""

from headrace.app import Headrace
from headrace.batches import Batch, BatchItem
from headrace.context import CURRENT, Context
from headrace.encryption import Encryption
from headrace.errors import (
    AccessDenied,
    ClusterUnsupported,
    DatabaseUnknown,
    EmbeddedServerError,
    HeadraceError,
    HostUnknown,
    InvalidArguments,
    InvalidJob,
    InvalidSetting,
    JobCancelled,
    JobExists,
    JobFailed,
    JobInterrupted,
    JobStopped,
    LifespanFailed,
    LimitExceeded,
    NoResult,
    NotPermitted,
    NotReplicated,
    PayloadTooLarge,
    QueueFull,
    Reject,
    ReplyLost,
    ResultError,
    ResultTimeout,
    Retry,
    StoreError,
    StoreFull,
    StoreRefused,
    StoreUnavailable,
    StoreUnsuitable,
    Undecryptable,
    UnknownTask,
)
from headrace.gathering import aresults_of, results_of
from headrace.history import Run
from headrace.hooks import INJECTED, Depends, EnqueueRequest, Event
from headrace.job import Job
from headrace.reports import RESTARTED, Progress
from headrace.retry import Backoff
from headrace.task import Task
from headrace.tasks import Tasks
from headrace.workflows import RESULT, Dag, Workflow, chain, chord, group

__version__ = "0.1.0"

__all__ = [
    "CURRENT",
    "INJECTED",
    "RESTARTED",
    "RESULT",
    "AccessDenied",
    "Backoff",
    "Batch",
    "BatchItem",
    "ClusterUnsupported",
    "Context",
    "Dag",
    "DatabaseUnknown",
    "Depends",
    "EmbeddedServerError",
    "Encryption",
    "EnqueueRequest",
    "Event",
    "Headrace",
    "HeadraceError",
    "HostUnknown",
    "InvalidArguments",
    "InvalidJob",
    "InvalidSetting",
    "Job",
    "JobCancelled",
    "JobExists",
    "JobFailed",
    "JobInterrupted",
    "JobStopped",
    "LifespanFailed",
    "LimitExceeded",
    "NoResult",
    "NotPermitted",
    "NotReplicated",
    "PayloadTooLarge",
    "Progress",
    "QueueFull",
    "Reject",
    "ReplyLost",
    "ResultError",
    "ResultTimeout",
    "Retry",
    "Run",
    "StoreError",
    "StoreFull",
    "StoreRefused",
    "StoreUnavailable",
    "StoreUnsuitable",
    "Task",
    "Tasks",
    "Undecryptable",
    "UnknownTask",
    "Workflow",
    "aresults_of",
    "chain",
    "chord",
    "group",
    "results_of",
]
