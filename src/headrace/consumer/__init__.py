"""The consumer: claims jobs, runs their tasks, and tells Redis what became of them."""

from headrace.consumer.consumer import Consumer, default_concurrency
from headrace.consumer.options import ConsumerOptions, QueueWeight, parse_queues

__all__ = [
    "Consumer",
    "ConsumerOptions",
    "QueueWeight",
    "default_concurrency",
    "parse_queues",
]
