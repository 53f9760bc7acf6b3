"""Headrace: a job queue on Redis. Many producers, many consumers, one list; nothing is lost."""

from headrace.app import Headrace
from headrace.context import CURRENT, Context
from headrace.errors import (
    EmbeddedServerError,
    HeadraceError,
    InvalidArguments,
    InvalidJob,
    InvalidSetting,
    JobCancelled,
    JobFailed,
    JobInterrupted,
    JobStopped,
    NoResult,
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
    UnknownTask,
)
from headrace.job import Job
from headrace.retry import Backoff
from headrace.task import Task

__version__ = "0.1.0"

__all__ = [
    "CURRENT",
    "Backoff",
    "Context",
    "EmbeddedServerError",
    "Headrace",
    "HeadraceError",
    "InvalidArguments",
    "InvalidJob",
    "InvalidSetting",
    "Job",
    "JobCancelled",
    "JobFailed",
    "JobInterrupted",
    "JobStopped",
    "NoResult",
    "NotReplicated",
    "PayloadTooLarge",
    "QueueFull",
    "Reject",
    "ReplyLost",
    "ResultError",
    "ResultTimeout",
    "Retry",
    "StoreError",
    "StoreFull",
    "StoreRefused",
    "StoreUnavailable",
    "StoreUnsuitable",
    "Task",
    "UnknownTask",
]
