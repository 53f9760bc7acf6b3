"""The consumer: claims jobs, runs their tasks, and tells Redis what became of them."""

from headrace.consumer.consumer import Consumer
from headrace.consumer.options import ConsumerOptions, QueueWeight

__all__ = ["Consumer", "ConsumerOptions", "QueueWeight"]
