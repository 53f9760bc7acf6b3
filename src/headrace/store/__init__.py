"""The only package that imports redis: two stores that run operations, and what else speaks to it."""

from headrace.store.aio import AsyncStore
from headrace.store.channel import Channel
from headrace.store.exchange import advice
from headrace.store.probe import ServerInfo, probe
from headrace.store.shared import SharedStore, Together
from headrace.store.subscription import Subscription
from headrace.store.sync import Store

__all__ = [
    "AsyncStore",
    "Channel",
    "ServerInfo",
    "SharedStore",
    "Store",
    "Subscription",
    "Together",
    "advice",
    "probe",
]
