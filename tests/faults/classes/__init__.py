"""All fault classes."""

from tests.faults.classes import (
    clusters,
    consumers,
    failover,
    failpoints,
    far,
    hosts,
    jobs,
    keys,
    limits,
    links,
    moves,
    partitions,
    schedules,
    servers,
    storage,
    streams,
    workflows,
)
from tests.faults.classes.registry import CLASSES, FaultClass

__all__ = [
    "CLASSES",
    "FaultClass",
    "clusters",
    "consumers",
    "failover",
    "far",
    "failpoints",
    "hosts",
    "jobs",
    "keys",
    "limits",
    "links",
    "moves",
    "partitions",
    "schedules",
    "servers",
    "storage",
    "streams",
    "workflows",
]
