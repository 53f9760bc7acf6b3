"""The consumer: ``run`` one in this process."""

from headrace.consumer.consumer import Consumer, default_concurrency
from headrace.consumer.options import ConsumerOptions, QueueWeight, parse_queues
from headrace.consumer.program import run

__all__ = [
    "Consumer",
    "ConsumerOptions",
    "QueueWeight",
    "default_concurrency",
    "parse_queues",
    "run",
]
