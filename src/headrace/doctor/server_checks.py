"""Judges a server: does it keep what it is given, and has it room? A row is a check. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

from headrace.doctor.finding import Check, Finding, Severity, judge
from headrace.doctor.humanize import counted, size, span
from headrace.doctor.permissions import HELPFUL
from headrace.doctor.server import Replica, ServerFacts
from headrace.keys import CHANNEL_PREFIX, DUE

_CHANNELS: Final = dict.fromkeys(("PUBLISH", "SUBSCRIBE"), f" '&{DUE}' '&{CHANNEL_PREFIX}*'")
_CLOCK_S: Final = 2.0  # what NTP keeps by far, and ages are shown by the second
_SLOW_S: Final = 0.1  # a batch of jobs takes a round trip, so ten batches a second
_LAG_S: Final = 10  # a replica reports every second
_FULL, _FILLING = 0.9, 0.75  # of its memory or its connections
_SHORT_S: Final = 60  # of idleness, after which connections are closed
_EVICT_NOTHING: Final = (
    "redis-cli CONFIG SET maxmemory-policy noeviction, "
    "and maxmemory-policy noeviction in redis.conf"
)


def _by_share(share: float) -> Severity:
    return "problem" if share >= _FULL else "warning"


def _evicts(s: ServerFacts) -> str:
    """Return its policy of eviction; "" if it evicts nothing, or that is unknown."""
    policy = s.setting("maxmemory-policy") or ""
    return "" if policy == "noeviction" else policy


def _stops_writes(s: ServerFacts) -> bool:
    """Whether a failed save makes it refuse writes."""
    return s.setting("stop-writes-on-bgsave-error") != "no" and s.setting("save") != ""


def _is_refused(name: str) -> Callable[[ServerFacts], bool]:
    return lambda s: name in (s.refused or ())


def _needed(s: ServerFacts) -> list[str]:
    """Return the commands that this user may not give, and without which nothing works."""
    return [name for name in s.refused or () if name not in HELPFUL]


def _memory(s: ServerFacts) -> str:
    what = "maxmemory" if s.limit("maxmemory") else "the machine's memory"
    return f"it uses {size(s.number('used_memory'))} of {size(s.memory_whole)}, {what}"


def _synced(s: ServerFacts) -> str:
    how = {
        "everysec": "at most 2 s are lost with the machine",
        "always": "synced always",
    }.get(s.setting("appendfsync") or "", "how it is synced is not known")
    return f"the append-only file is on, {how}"


_SAFETY: Final[tuple[Check[ServerFacts], ...]] = (
    Check("replica", "problem", lambda s: s.info.get("role") == "slave",
          lambda s: f"this is a replica of {s.info.get('master_host')}:{s.info.get('master_port')}",
          "It refuses every write, so nobody can enqueue, claim or settle here.",
          "give the URL of the primary"),
    Check("aof_unknown", "note", lambda s: s.setting("appendonly") is None,
          "whether it has an append-only file is not known"),
    Check("aof_off", "problem", lambda s: s.setting("appendonly") not in {"yes", None},
          "the append-only file is off", "When the server ends, every job since its last save is lost.",
          "redis-cli CONFIG SET appendonly yes, and appendonly yes in redis.conf"),
    Check("aof_fsync_no", "warning",
          lambda s: s.setting("appendonly") == "yes" and s.setting("appendfsync") == "no",
          "the append-only file is on, but never synced (appendfsync no)",
          "A machine that loses power loses what its kernel had not written, often 30 s of jobs.",
          "redis-cli CONFIG SET appendfsync everysec, and appendfsync everysec in redis.conf"),
    Check("aof", "ok", lambda s: s.setting("appendonly") == "yes" and s.setting("appendfsync") != "no",
          _synced),
    Check("aof_unsynced_rewrite", "warning",
          lambda s: s.setting("appendonly") == s.setting("no-appendfsync-on-rewrite") == "yes",
          "nothing is synced while the file is rewritten (no-appendfsync-on-rewrite yes)",
          "A machine that loses power meanwhile loses more than a second of jobs.",
          "redis-cli CONFIG SET no-appendfsync-on-rewrite no"),
    Check("aof_write_failed", "problem", lambda s: s.info.get("aof_last_write_status", "ok") != "ok",
          "the last write to the append-only file failed",
          "Redis refuses every write until one succeeds.",
          "make room on its disk, and look into its log"),
    Check("aof_rewrite_failed", "warning",
          lambda s: s.info.get("aof_last_bgrewrite_status", "ok") != "ok",
          "the last rewrite of the append-only file failed", "The file grows until the disk is full.",
          "look into the server's log; redis-cli BGREWRITEAOF"),
    Check("save_failed", lambda s: "problem" if _stops_writes(s) else "warning",
          lambda s: s.info.get("rdb_last_bgsave_status", "ok") != "ok",
          "the last save to disk (BGSAVE) failed",
          lambda s: "Redis refuses every write until one succeeds." if _stops_writes(s)
          else "Backups made of it are old.",
          "make room on its disk and in memory, look into its log, then redis-cli BGSAVE"),
    Check("aof_rewriting", "note", lambda s: s.info.get("aof_rewrite_in_progress") == "1",
          "the append-only file is being rewritten just now"),
    Check("eviction_unknown", "note", lambda s: s.setting("maxmemory-policy") is None,
          "what it does when memory is short is not known"),
    Check("eviction", "ok", lambda s: s.setting("maxmemory-policy") == "noeviction",
          "it evicts nothing (maxmemory-policy noeviction)"),
    Check("eviction", "warning", lambda s: _evicts(s) and not s.limit("maxmemory"),
          lambda s: f"maxmemory-policy is {_evicts(s)}, harmless only while there is no maxmemory",
          "With a maxmemory, Redis would delete queues to make room.", _EVICT_NOTHING),
    Check("eviction", "warning",
          lambda s: s.limit("maxmemory") and _evicts(s).startswith("volatile"),
          lambda s: f"it evicts keys that expire when memory is short (maxmemory-policy {_evicts(s)})",
          "Results and the keys that keep a second job out can vanish before their time.",
          _EVICT_NOTHING),
    Check("eviction", "problem",
          lambda s: s.limit("maxmemory") and _evicts(s) and not _evicts(s).startswith("volatile"),
          lambda s: f"it evicts any key when memory is short (maxmemory-policy {_evicts(s)})",
          "A whole queue is one key, and would be gone.", _EVICT_NOTHING),
    Check("memory_unknown", "note", lambda s: not s.memory_whole,
          lambda s: f"it uses {size(s.number('used_memory'))}; how much it may is not known"),
    Check("memory", "ok", lambda s: s.memory_whole and s.memory_share < _FILLING, _memory),
    Check("memory", lambda s: _by_share(s.memory_share), lambda s: s.memory_share >= _FILLING, _memory,
          lambda s: "A full Redis refuses to enqueue; consumers still drain it." if s.limit("maxmemory")
          else "A Redis that outgrows its machine is ended by the kernel.",
          lambda s: "redis-cli CONFIG SET maxmemory BYTES, more; or more consumers"
          if s.limit("maxmemory") else "set maxmemory in redis.conf, or take a larger machine"),
    Check("no_replica", "note", lambda s: not s.replicas and s.info.get("role") != "slave",
          "no replica is connected", "When its disk is lost, so are the jobs."),
)  # fmt: skip

_REPLICA: Final[tuple[Check[Replica], ...]] = (
    Check("replica_behind", "warning", lambda r: r.state != "online" or r.lag_s > _LAG_S,
          lambda r: f"replica {r.address} is "
          + (r.state if r.state != "online" else f"{r.lag_s} s behind"),
          "What it has not got is lost when it takes over.", "look into the replica's log"),
    Check("replica", "ok", lambda r: r.state == "online" and r.lag_s <= _LAG_S,
          lambda r: f"replica {r.address} is connected"
          + (f", {r.lag_s} s behind" if r.lag_s > 1 else " and up to date")),
)  # fmt: skip

_CROWDED: Final[tuple[Check[ServerFacts], ...]] = (
    Check("clients", lambda s: _by_share(s.clients_share), lambda s: s.clients_share >= _FILLING,
          lambda s: f"{s.number('connected_clients'):,} of {s.limit('maxclients'):,} possible "
          "connections are in use (maxclients)",
          "Consumers and producers beyond that are turned away.",
          lambda s: f"redis-cli CONFIG SET maxclients {2 * s.limit('maxclients')}"),
)  # fmt: skip

_ACCESS: Final[tuple[Check[ServerFacts], ...]] = (
    Check("min_replicas", "note",
          lambda s: s.replicas and s.config and not s.limit("min-replicas-to-write"),
          "it accepts jobs also when no replica gets them (min-replicas-to-write 0)",
          "A primary that is cut off goes on accepting jobs, which a failover then loses.",
          "redis-cli CONFIG SET min-replicas-to-write 1"),
    Check("timeout", "note", lambda s: 0 < s.limit("timeout") < _SHORT_S,
          lambda s: "connections that are idle for {0} s are closed (timeout {0})".format(
              s.limit("timeout")),
          "Producers connect anew each time.", "redis-cli CONFIG SET timeout 0"),
    Check("keepalive", "warning", lambda s: s.setting("tcp-keepalive") == "0",
          "dead connections are never noticed (tcp-keepalive 0)",
          "A consumer whose machine vanished looks connected, and a job can be moved to nobody.",
          "redis-cli CONFIG SET tcp-keepalive 300"),
    Check("slow", "warning", lambda s: s.ping_s > _SLOW_S,
          lambda s: f"a round trip takes {s.ping_s * 1000:.1f} ms",
          "Each batch of jobs takes at least one.",
          "run consumers near Redis; look for slow commands: redis-cli SLOWLOG GET"),
    Check("speed", "ok", lambda s: s.ping_s <= _SLOW_S,
          lambda s: f"a round trip takes {s.ping_s * 1000:.1f} ms"),
    Check("clock", "warning", lambda s: abs(s.clock_ahead_s) > _CLOCK_S,
          lambda s: f"its clock is {span(abs(s.clock_ahead_s))} "
          f"{'ahead of' if s.clock_ahead_s > 0 else 'behind'} this machine's",
          "Delayed jobs run by its clock; ages, and the order of equal priorities, by producers'.",
          "let NTP set the clocks of both"),
    Check("clock", "ok", lambda s: abs(s.clock_ahead_s) <= _CLOCK_S,
          "its clock agrees with this machine's"),
    Check("permissions_unknown", "note", lambda s: s.refused is None,
          "what this user may do is not known"),
    Check("forbidden", "problem", _needed,
          lambda s: f"this user may not give {counted(len(_needed(s)), 'command')}: "
          f"{', '.join(_needed(s))}",
          "Headrace cannot work without.",
          "redis-cli ACL SETUSER NAME +@all -@dangerous +client +info ~*, or less of it"),
    *(
        Check("forbidden_helpful", "note", _is_refused(name),
              f"this user may not give {name}", f"Without it {worse}.",
              f"redis-cli ACL SETUSER NAME +{name.lower().replace(' ', '|')}{_CHANNELS.get(name, '')}")
        for name, worse in HELPFUL.items()
    ),
    Check("permissions", "ok", lambda s: s.refused == (),
          "this user may give every command that Headrace needs"),
)  # fmt: skip

_LOADING: Final[Check[ServerFacts]] = Check(
    "loading", "problem", lambda s: s.is_loading,
    lambda s: f"it still reads its data from disk: {span(s.number('loading_eta_seconds'))} to go",
    "Until then it refuses all else.",
)  # fmt: skip


def judge_server(facts: ServerFacts) -> Iterator[Finding]:
    """Judge a server, in the order in which one would look."""
    if facts.is_loading:
        yield from judge([_LOADING], facts)
        return
    yield from _kept(facts)
    yield from judge(_ACCESS, facts)
    for node in facts.others:
        yield from (one for one in _kept(node) if one.severity != "ok")


def _kept(facts: ServerFacts) -> Iterator[Finding]:
    """Judge whether a server keeps what it is given: of a cluster each primary is asked."""
    found = [*judge([_LOADING], facts), *judge(_SAFETY, facts)]
    for replica in facts.replicas:
        found += judge(_REPLICA, replica)
    found += judge(_CROWDED, facts)
    for one in found:
        yield replace(one, found=f"{facts.node}: {one.found}") if facts.node else one
