"""Hooks: what an application puts around its jobs, and what its tasks depend on.

A room beside the engine. A task has one attribute that a run calls, ``run``: it is the function itself, unless
there are hooks or dependencies; then it is what ``composing`` has put around that. So a plain job pays nothing.
"""

from headrace.hooks.bridge import awaiting
from headrace.hooks.dependencies import INJECTED, Depends
from headrace.hooks.enqueuing import (
    EnqueueRequest,
    HookedCall,
    apassed,
    around_enqueue_of,
    asend_hooked,
    astart_hooked,
    hand_on_hooked,
    passed,
    send_hooked,
    start_hooked,
)
from headrace.hooks.events import Event, EventName
from headrace.hooks.hooked import Hooked
from headrace.hooks.hooked_task import HookedTask
from headrace.hooks.hooks import Chain, Hooks
from headrace.hooks.telling import ConsumerHooks, consumer_hooks

__all__ = [
    "INJECTED",
    "Chain",
    "ConsumerHooks",
    "Depends",
    "EnqueueRequest",
    "Event",
    "EventName",
    "Hooked",
    "HookedCall",
    "HookedTask",
    "Hooks",
    "apassed",
    "around_enqueue_of",
    "asend_hooked",
    "astart_hooked",
    "awaiting",
    "consumer_hooks",
    "hand_on_hooked",
    "passed",
    "send_hooked",
    "start_hooked",
]
