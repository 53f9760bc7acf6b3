"""A cluster as a store sees it: which node serves what, and where each request goes.

Redis Cluster and Valkey Cluster spread keys over 16,384 slots and the slots over primaries; what stands
in braces in a key's name decides its slot. So on a cluster the name of each queue stands in braces,
``{emails}:processing``, and the keys of a queue are together. Everything above the stores names keys
as on one server; ``names`` and ``parts`` translate at this one place.
"""

from headrace.store.cluster.cluster import Cluster

__all__ = ["Cluster"]
