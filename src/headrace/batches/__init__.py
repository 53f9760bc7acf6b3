"""Batches: tasks that take many jobs in one call, each with an outcome of its own.

A room beside the engine. To a consumer each job is a job like any other: claimed, leased, extended, cancelled, settled
by itself. Only its run is to join others and to wait for its part of what one call of the function gives.
"""

from headrace.batches.batch import Batch, BatchItem
from headrace.batches.declaring import BatchFunction, Batching, BatchTask

__all__ = ["Batch", "BatchFunction", "BatchItem", "BatchTask", "Batching"]
