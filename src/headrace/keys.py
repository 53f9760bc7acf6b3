"""Every Redis key, spelled in one place.

    key                      type    holds
    queue                    list    pending jobs; producers LPUSH, consumers take from the right
    queue:processing         list    claimed jobs, newest on the left
    queue:dlq                list    dead letters, newest on the left
    queue:delayed            zset    jobs that wait for an instant; score = due, ms
    queue:priority           zset    jobs with a priority other than 0; score = -priority; those let out of lanes
    queue:limited            hash    job id -> lane, rank, bytes of each job that waits in a lane (see lanes.keys)
    queue:leases             zset    job id -> deadline of its lease, ms; a bare item has "~digest:n"
    queue:claims             hash    job id -> claim token, a space, the job's bytes
    queue:nudge              list    hints that wake idle consumers; capped, expiring, safe to lose
    queue:stats              hash    counters
    queue:meta               hash    paused; when the last sweep was; since when it is unused
    queue:cancelled          zset    ids of running jobs that were asked to stop; expires
    queue:result:<id>        list    one element: how the job ended; expires
    queue:history:<id>       list    runs of the job after which it was tried again; expires
    queue:unique:<key>       string  the id of the job that has the key; goes with it, or expires
    queue:moving             list    jobs on their way to another server (see moving)
    queue:forwarded:<id>     string  a job has come here from another node, or a workflow has begun, that was handed on; expires
    queue:arrived:<batch>    string  a batch of them that has arrived here; expires
    queue:members            zset    consumers that share the queue, which is divided: since when, ms; expires
    queue:present            zset    when each of them was there last, ms; expires
    queue:ticks              hash    on a cluster: schedule -> its last tick that was fired here; expires
    headrace:queues          set     names of the queues that producers and consumers have used
    headrace:consumers       hash    consumers that were seen connected: since when each is missing, ms; 0 it is not
    headrace:forgotten       hash    counters of queues that are forgotten, in sum
    headrace:leader          string  who sweeps and promotes; expires
    headrace:workflows       set     names of queues that workflows use, while one is not over
    headrace:partitions      hash    queue -> among how many partitions its jobs are divided, how many are consumed
    headrace:schedules       hash    schedules: name -> definition, JSON
    headrace:schedule-due    zset    name -> next tick, ms; not of those that are paused
    headrace:schedule-state  hash    name -> counters, last tick, paused, JSON

Those of limits (lanes, slots, admitted, limits, buckets; headrace:limited) are spelled in ``lanes.keys``.

``queue`` stands for the queue's name. On a cluster it stands in braces, also alone: ``{queue}:dlq``, and
``{headrace}:leader``; so all keys of a queue are in one slot (see ``store.cluster``). Those of workflows are in ``workflows.keys``,
those of what jobs tell while they run in ``reports.keys``,
those of statistics (timings, minutes; headrace:slots) in ``timings.keys``, that of webhooks in ``webhooks.marks``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from functools import lru_cache

from headrace.errors import InvalidSetting

QUEUES = "headrace:queues"
CONSUMERS = "headrace:consumers"
FORGOTTEN = "headrace:forgotten"
LEADER = "headrace:leader"
WORKFLOWS = "headrace:workflows"
PARTITIONS = "headrace:partitions"
SCHEDULES = "headrace:schedules"
SCHEDULE_DUE = "headrace:schedule-due"
SCHEDULE_STATE = "headrace:schedule-state"
CHANNEL_PREFIX = "headrace:consumer:"
"""What the names of channels begin with, in each of which one consumer hears that a job of its is cancelled."""
DUE = "headrace.due"
"""The channel on which scripts say that a job is due before all others of its queue: the queue's name, and in how many ms."""
CONNECTION_PREFIX = "headrace:"  # of CLIENT SETNAME, so that an operator sees whose a connection is
# What follows it; else it is a consumer's.
PROGRAMS = frozenset({"cli", "producer", "server", "supervisor"})

_NAME = re.compile(r"[^\s:{}\x00-\x1f]{1,100}")


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one queue.

    Attributes:
        queue: the queue's name.
    """

    queue: str
    pending: str
    processing: str
    dead: str
    delayed: str
    priority: str
    limited: str
    leases: str
    claims: str
    nudge: str
    stats: str
    meta: str
    cancelled: str

    def result(self, job_id: str) -> str:
        """Where the job's end is told to whoever waits for it."""
        return f"{self.queue}:result:{job_id}"

    def history(self, job_id: str) -> str:
        """Where the job's runs are told after which it was tried again."""
        return f"{self.queue}:history:{job_id}"

    def unique(self, key: str) -> str:
        """Where the id of the job that has this key stands; "": what all of them begin with."""
        return f"{self.queue}:unique:{key}"


# What follows the queue's name, in the order of the fields after the first two.
_ENDINGS = [f":{'dlq' if one.name == 'dead' else one.name}" for one in fields(Keys)[2:]]


def is_name(queue: str) -> bool:
    """Whether a queue can have this name. In the registry anything may stand."""
    return _NAME.fullmatch(queue) is not None


def queue_of(pending: str) -> str:
    """Return the queue whose pending list has this name: on a cluster it stands in braces."""
    return pending.strip("{}")


@lru_cache(maxsize=1 << 14)
def keys_of(queue: str) -> Keys:
    """Return the keys of a queue.

    Raises:
        InvalidSetting: the name is empty, too long, or holds white space, ``:``, ``{`` or ``}``.
    """
    if not is_name(queue):
        raise InvalidSetting(
            f"{queue!r} cannot be a queue's name: use 1 to 100 characters, no white space, "
            "and none of : { }"
        )
    return Keys(queue, queue, *[queue + ending for ending in _ENDINGS])
