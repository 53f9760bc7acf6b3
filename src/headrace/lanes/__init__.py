"""Lanes: where jobs wait that may not run yet, or not before others.

They wait for a token of a rate limit, for a slot of a concurrency limit, or for their turn among other keys.

    limit        what a limit is            declared      what an application says
    operations   what is asked of Redis     keys          where it stands
    *.lua        the transitions

A job is let out of its lane to where prioritised jobs wait; from there on it is a job as any other, but for
its *permit*, which tells a consumer that it may run. What comes without one goes back into its lane.
"""

from headrace.lanes import operations
from headrace.lanes.keys import LaneKeys, lane_keys
from headrace.lanes.limit import Limit, lane_of, limit, name_of

__all__ = [
    "LaneKeys",
    "Limit",
    "lane_keys",
    "lane_of",
    "limit",
    "name_of",
    "operations",
]
