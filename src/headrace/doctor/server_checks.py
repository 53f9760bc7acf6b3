"""Judges a server: does it keep what it is given, and has it room? Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from headrace.doctor.finding import Finding
from headrace.doctor.permissions import HELPFUL
from headrace.doctor.server import ServerFacts
from headrace.doctor.words import counted, size, span

CLOCK_S: Final = 2.0
SLOW_S: Final = 0.1
LAG_S: Final = 10
_FULL, _FILLING = 0.9, 0.75


def judge(facts: ServerFacts) -> list[Finding]:
    """Judge a server, in the order in which one would look."""
    if facts.info.get("loading") == "1":
        eta = span(facts.number("loading_eta_seconds"))
        found = f"it still reads its data from disk: {eta} to go"
        return [Finding("problem", "loading", found, "Until then it refuses all else.")]
    checks = (
        _role, _append_only_file, _last_writes, _eviction, _memory, _replicas, _clients, _speed,
        _clock, _permissions,
    )  # fmt: skip
    return [finding for check in checks for finding in check(facts)]


def _role(facts: ServerFacts) -> Iterator[Finding]:
    if facts.info.get("role") == "slave":
        master = f"{facts.info.get('master_host')}:{facts.info.get('master_port')}"
        yield Finding(
            "problem",
            "replica",
            f"this is a replica of {master}",
            "It refuses every write, so nobody can enqueue, claim or settle here.",
            "give the URL of the primary",
        )
    if facts.info.get("cluster_enabled") == "1":
        yield Finding(
            "problem",
            "cluster",
            "this server is part of a Redis Cluster",
            "The keys of a queue lie on several of its nodes, and its scripts need them on one.",
            "use a single primary, with replicas",
        )


def _append_only_file(facts: ServerFacts) -> Iterator[Finding]:
    on, fsync = facts.setting("appendonly"), facts.setting("appendfsync")
    if on is None:
        yield Finding("note", "aof_unknown", "whether it has an append-only file is not known")
    elif on != "yes":
        yield Finding(
            "problem",
            "aof_off",
            "the append-only file is off",
            "When the server ends, every job since its last save is lost.",
            "redis-cli CONFIG SET appendonly yes, and appendonly yes in redis.conf",
        )
    elif fsync == "no":
        yield Finding(
            "warning",
            "aof_fsync_no",
            "the append-only file is on, but never synced (appendfsync no)",
            "A machine that loses power loses what its kernel had not written, often 30 s of jobs.",
            "redis-cli CONFIG SET appendfsync everysec, and appendfsync everysec in redis.conf",
        )
    else:
        loss = {
            "everysec": ", at most a second is lost with the machine",
            "always": ", synced always",
        }
        synced = loss.get(fsync or "", ", how it is synced is not known")
        yield Finding("ok", "aof", f"the append-only file is on{synced}")
    if on == "yes" and facts.setting("no-appendfsync-on-rewrite") == "yes":
        yield Finding(
            "warning",
            "aof_unsynced_rewrite",
            "nothing is synced while the file is rewritten (no-appendfsync-on-rewrite yes)",
            "A machine that loses power meanwhile loses more than a second of jobs.",
            "redis-cli CONFIG SET no-appendfsync-on-rewrite no",
        )


def _last_writes(facts: ServerFacts) -> Iterator[Finding]:
    info = facts.info
    if info.get("aof_last_write_status", "ok") != "ok":
        yield Finding(
            "problem",
            "aof_write_failed",
            "the last write to the append-only file failed",
            "Redis refuses every write until one succeeds.",
            "make room on its disk, and look into its log",
        )
    if info.get("aof_last_bgrewrite_status", "ok") != "ok":
        yield Finding(
            "warning",
            "aof_rewrite_failed",
            "the last rewrite of the append-only file failed",
            "The file grows until the disk is full.",
            "look into the server's log; redis-cli BGREWRITEAOF",
        )
    if info.get("rdb_last_bgsave_status", "ok") != "ok":
        stops = facts.setting("stop-writes-on-bgsave-error") != "no" and facts.setting("save") != ""
        yield Finding(
            "problem" if stops else "warning",
            "save_failed",
            "the last save to disk (BGSAVE) failed",
            "Redis refuses every write until one succeeds."
            if stops
            else "Backups made of it are old.",
            "make room on its disk and in memory, look into its log, then redis-cli BGSAVE",
        )
    if info.get("aof_rewrite_in_progress") == "1":
        yield Finding("note", "aof_rewriting", "the append-only file is being rewritten just now")


def _eviction(facts: ServerFacts) -> Iterator[Finding]:
    policy, limit = facts.setting("maxmemory-policy"), int(facts.setting("maxmemory") or 0)
    if policy is None:
        yield Finding("note", "eviction_unknown", "what it does when memory is short is not known")
        return
    if policy == "noeviction":
        yield Finding("ok", "eviction", "it evicts nothing (maxmemory-policy noeviction)")
        return
    todo = "redis-cli CONFIG SET maxmemory-policy noeviction, and maxmemory-policy noeviction in redis.conf"
    if not limit:
        found = f"maxmemory-policy is {policy}, harmless only while there is no maxmemory"
        why = "With a maxmemory, Redis would delete queues to make room."
        yield Finding("warning", "eviction", found, why, todo)
    elif policy.startswith("volatile"):
        found = f"it evicts keys that expire when memory is short (maxmemory-policy {policy})"
        why = "Results and the keys that keep a second job out can vanish before their time."
        yield Finding("warning", "eviction", found, why, todo)
    else:
        found = f"it evicts any key when memory is short (maxmemory-policy {policy})"
        yield Finding(
            "problem", "eviction", found, "A whole queue is one key, and would be gone.", todo
        )


def _memory(facts: ServerFacts) -> Iterator[Finding]:
    used, limit = facts.number("used_memory"), int(facts.setting("maxmemory") or 0)
    whole, what = limit, "maxmemory"
    if not limit:
        whole, what = facts.number("total_system_memory"), "the machine's memory"
    if not whole:
        yield Finding(
            "note", "memory_unknown", f"it uses {size(used)}; how much it may is not known"
        )
        return
    share, found = used / whole, f"it uses {size(used)} of {size(whole)}, {what}"
    why = (
        "A full Redis refuses to enqueue; consumers still drain it."
        if limit
        else "A Redis that outgrows its machine is ended by the kernel."
    )
    todo = (
        "redis-cli CONFIG SET maxmemory BYTES, more; or more consumers"
        if limit
        else "set maxmemory in redis.conf, or take a larger machine"
    )
    if share >= _FILLING:
        severity = "problem" if share >= _FULL else "warning"
        yield Finding(severity, "memory", found, why, todo)  # type: ignore[arg-type]
    else:
        yield Finding("ok", "memory", found)


def _replicas(facts: ServerFacts) -> Iterator[Finding]:
    if facts.info.get("role") == "slave":
        return
    count = facts.number("connected_slaves")
    least = int(facts.setting("min-replicas-to-write") or 0)
    if not count:
        why = "When its disk is lost, so are the jobs."
        yield Finding("note", "no_replica", "no replica is connected", why)
    for n in range(count):
        pairs = facts.info.get(f"slave{n}", "").split(",")
        replica = dict(pair.partition("=")[::2] for pair in pairs)
        name, lag = f"{replica.get('ip')}:{replica.get('port')}", int(replica.get("lag") or 0)
        if replica.get("state") != "online" or lag > LAG_S:
            state = replica.get("state", "away")
            found = (
                f"replica {name} is {state}"
                if state != "online"
                else f"replica {name} is {lag} s behind"
            )
            why = "What it has not got is lost when it takes over."
            yield Finding("warning", "replica_behind", found, why, "look into the replica's log")
        else:
            yield Finding("ok", "replica", f"replica {name} is {state_of(lag)}")
    if count and not least and facts.config:
        yield Finding(
            "note",
            "min_replicas",
            "it accepts jobs also when no replica gets them (min-replicas-to-write 0)",
            "A primary that is cut off goes on accepting jobs, which a failover then loses.",
            "redis-cli CONFIG SET min-replicas-to-write 1",
        )


def state_of(lag_s: int) -> str:
    """Say how far behind a replica is."""
    return f"connected, {lag_s} s behind" if lag_s > 1 else "connected and up to date"


def _clients(facts: ServerFacts) -> Iterator[Finding]:
    used, limit = facts.number("connected_clients"), int(facts.setting("maxclients") or 0)
    if limit and used >= _FILLING * limit:
        yield Finding(
            "problem" if used >= _FULL * limit else "warning",
            "clients",
            f"{used:,} of {limit:,} possible connections are in use (maxclients)",
            "Consumers and producers beyond that are turned away.",
            f"redis-cli CONFIG SET maxclients {2 * limit}",
        )
    timeout = int(facts.setting("timeout") or 0)
    if 0 < timeout < 60:
        yield Finding(
            "note",
            "timeout",
            f"connections that are idle for {timeout} s are closed (timeout {timeout})",
            "Producers connect anew each time.",
            "redis-cli CONFIG SET timeout 0",
        )
    if facts.setting("tcp-keepalive") == "0":
        yield Finding(
            "warning",
            "keepalive",
            "dead connections are never noticed (tcp-keepalive 0)",
            "A consumer whose machine vanished looks connected, and a job can be moved to nobody.",
            "redis-cli CONFIG SET tcp-keepalive 300",
        )


def _speed(facts: ServerFacts) -> Iterator[Finding]:
    found = f"a round trip takes {facts.ping_s * 1000:.1f} ms"
    if facts.ping_s > SLOW_S:
        why = "Each batch of jobs takes at least one."
        todo = "run consumers near Redis; look for slow commands: redis-cli SLOWLOG GET"
        yield Finding("warning", "slow", found, why, todo)
    else:
        yield Finding("ok", "speed", found)


def _clock(facts: ServerFacts) -> Iterator[Finding]:
    ahead = facts.clock_ahead_s
    if abs(ahead) > CLOCK_S:
        yield Finding(
            "warning",
            "clock",
            f"its clock is {span(abs(ahead))} {'ahead of' if ahead > 0 else 'behind'} this machine's",
            "Delayed jobs run by its clock; ages, and the order of equal priorities, by producers'.",
            "let NTP set the clocks of both",
        )
    else:
        yield Finding("ok", "clock", "its clock agrees with this machine's")


def _permissions(facts: ServerFacts) -> Iterator[Finding]:
    if facts.refused is None:
        yield Finding("note", "permissions_unknown", "what this user may do is not known")
        return
    needed = [name for name in facts.refused if name not in HELPFUL]
    if needed:
        yield Finding(
            "problem",
            "forbidden",
            f"this user may not give {counted(len(needed), 'command')}: {', '.join(needed)}",
            "Headrace cannot work without.",
            "redis-cli ACL SETUSER NAME +@all -@dangerous +client +info ~*, or less of it",
        )
    for name in facts.refused:
        if name in HELPFUL:
            found = f"this user may not give {name}"
            why = f"Without it {HELPFUL[name]}."
            grant = "+" + name.lower().replace(" ", "|")
            yield Finding(
                "note", "forbidden_helpful", found, why, f"redis-cli ACL SETUSER NAME {grant}"
            )
    if not facts.refused:
        yield Finding("ok", "permissions", "this user may give every command that Headrace needs")
