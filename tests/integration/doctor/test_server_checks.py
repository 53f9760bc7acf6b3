"""What the doctor finds in a server: settings, permissions, replicas, and what INFO says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from headrace import operations as op
from headrace.clock import now_ms
from headrace.doctor import server
from headrace.doctor.server_checks import judge_server
from headrace.embedded import EmbeddedServer
from headrace.store import Store
from tests.integration.doctor.ward import Ward
from tests.support.servers import private_server
from tests.support.wait import wait_until


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """Give a server that the tests of this file may configure."""
    with private_server(tmp_path_factory.mktemp("doctor")) as server:
        yield server


@pytest.fixture
def patient(own: EmbeddedServer) -> Iterator[Ward]:
    """Give a server whose settings are put back afterwards."""
    store = Store(own.url, name="test")
    with Redis.from_url(own.url) as redis:
        names = [name for name in server.SETTINGS if name != "save"]
        before = {name: redis.config_get(name)[name] for name in names}
        yield Ward(store, redis)
        for name, value in before.items():
            redis.config_set(name, value)
        for user in redis.acl_users():
            if user != "default":
                redis.acl_deluser(user)
        redis.flushall()
    store.close()


SETTINGS = [
    ("appendonly", "no", "aof_off", "problem"),
    ("appendfsync", "no", "aof_fsync_no", "warning"),
    ("no-appendfsync-on-rewrite", "yes", "aof_unsynced_rewrite", "warning"),
    ("maxmemory-policy", "allkeys-lru", "eviction", "warning"),
    ("timeout", "5", "timeout", "note"),
    ("tcp-keepalive", "0", "keepalive", "warning"),
]


@pytest.mark.parametrize(("name", "value", "code", "severity"), SETTINGS)
def test_an_unsafe_setting_is_found_and_what_is_said_mends_it(
    patient: Ward, name: str, value: str, code: str, severity: str
) -> None:
    assert code not in patient.found()
    patient.redis.config_set(name, value)
    finding = patient.found()[code]
    assert finding.severity == severity
    assert finding.why
    # The line that it gives is one that Redis takes.
    words = finding.todo.partition(",")[0].split()
    assert words[:3] == ["redis-cli", "CONFIG", "SET"]
    patient.redis.execute_command(*words[1:])
    assert code not in patient.found()


@pytest.mark.parametrize(
    ("policy", "severity"), [("allkeys-lru", "problem"), ("volatile-ttl", "warning")]
)
def test_eviction_is_a_problem_once_memory_has_an_end(
    patient: Ward, policy: str, severity: str
) -> None:
    patient.redis.config_set("maxmemory", 1 << 30)
    patient.redis.config_set("maxmemory-policy", policy)
    assert patient.found()["eviction"].severity == severity


def test_a_redis_that_is_nearly_full_is_a_problem(patient: Ward) -> None:
    used = patient.redis.info("memory")["used_memory"]
    patient.redis.config_set("maxmemory", int(used * 1.05))
    finding = patient.found()["memory"]
    assert finding.severity == "problem"
    assert "maxmemory" in finding.todo


def test_connections_that_run_out_are_a_problem(patient: Ward) -> None:
    used = patient.redis.info("clients")["connected_clients"]
    patient.redis.config_set("maxclients", used + 1)
    finding = patient.found()["clients"]
    assert "turned away" in finding.why


def test_commands_that_are_forbidden_are_named(patient: Ward, own: EmbeddedServer) -> None:
    patient.redis.execute_command(
        "ACL",
        "SETUSER",
        "bob",
        "on",
        ">pw",
        "~*",
        "&*",
        "+@all",
        "-blmove",
        "-client|list",
        "-config",
    )
    store = Store(own.url.replace("://", "://bob:pw@"))
    bob = Ward(store, patient.redis)
    found = bob.found()
    assert found["forbidden"].found == "this user may not give 1 command: BLMOVE"
    assert found["forbidden"].severity == "problem"
    notes = [f.found for f in bob.check_up().findings if f.code == "forbidden_helpful"]
    assert notes == ["this user may not give CLIENT LIST", "this user may not give CONFIG GET"]
    assert "no_consumer" not in found  # who is connected is not known
    assert "aof_unknown" not in found  # INFO says it
    store.close()


def test_a_user_without_channels_is_told_what_is_worse_and_what_would_do(
    patient: Ward, own: EmbeddedServer
) -> None:
    patient.redis.execute_command("ACL", "SETUSER", "bob", "on", ">pw", "~*", "+@all")
    store = Store(own.url.replace("://", "://bob:pw@"))
    notes = [f for f in Ward(store, patient.redis).check_up().findings if "may not give" in f.found]
    assert [note.found.split()[-1] for note in notes] == ["PUBLISH", "SUBSCRIBE"]
    for note in notes:
        (command,) = re.findall(r"redis-cli (ACL SETUSER .*)", note.todo)
        patient.redis.execute_command(*command.replace("NAME", "bob").replace("'", "").split())
    assert "forbidden_helpful" not in Ward(store, patient.redis).found()
    store.close()


def test_a_user_who_may_not_look_at_keys_gets_the_rest(patient: Ward, own: EmbeddedServer) -> None:
    patient.redis.execute_command("ACL", "SETUSER", "bob", "on", ">pw", "~*", "+@all", "-scan")
    patient.store.run(op.register("emails"))
    store = Store(own.url.replace("://", "://bob:pw@"))
    bob = Ward(store, patient.redis)
    assert "SCAN" in bob.found()["keys_unknown"].found.upper()
    assert set(bob.check_up().snapshots) == {"emails", "queue"}
    store.close()


def test_without_scripts_the_server_is_looked_at_all_the_same(
    patient: Ward, own: EmbeddedServer
) -> None:
    patient.redis.execute_command(
        "ACL", "SETUSER", "bob", "on", ">pw", "~*", "+@all", "-@scripting"
    )
    store = Store(own.url.replace("://", "://bob:pw@"))
    found = Ward(store, patient.redis).found()
    assert "EVALSHA" in found["forbidden"].found
    assert "aof_off" not in found
    assert "it cannot be looked at" in found["unreadable"].found
    store.close()


def test_a_replica_is_a_problem_and_its_primary_shows_it(patient: Ward, tmp_path: Path) -> None:
    host, port = "127.0.0.1", patient.redis.connection_pool.connection_kwargs["port"]
    with private_server(tmp_path / "replica") as other, Redis.from_url(other.url) as replica:
        replica.replicaof(host, port)
        wait_until(
            lambda: patient.redis.info("replication").get("slave0", {}).get("state") == "online",
            what="the replica is online",
        )
        store = Store(other.url)
        finding = Ward(store, replica).found()["replica"]
        assert finding.found == f"this is a replica of {host}:{port}"
        store.close()
        found = {finding.code: finding for finding in patient.check_up().findings}
        assert "up to date" in found["replica"].found
        assert found["min_replicas"].todo == "redis-cli CONFIG SET min-replicas-to-write 1"
        assert "no_replica" not in found


def test_a_clock_that_is_an_hour_off_is_found(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "now_ms", lambda: now_ms() + 3_610_000)
    assert ward.found()["clock"].found == "its clock is 60 min behind this machine's"


INFO = [
    ({"loading": "1", "loading_eta_seconds": "30"}, "loading", "problem"),
    ({"aof_last_write_status": "err"}, "aof_write_failed", "problem"),
    ({"aof_last_bgrewrite_status": "err"}, "aof_rewrite_failed", "warning"),
    ({"aof_rewrite_in_progress": "1"}, "aof_rewriting", "note"),
    ({"rdb_last_bgsave_status": "err"}, "save_failed", "warning"),  # saving is off there
    (
        {"connected_slaves": "1", "slave0": "ip=10.0.0.2,port=6379,state=online,lag=60"},
        "replica_behind",
        "warning",
    ),
    (
        {"connected_slaves": "1", "slave0": "ip=10.0.0.2,port=6379,state=wait_bgsave,lag=0"},
        "replica_behind",
        "warning",
    ),
    ({"used_memory": str(95 << 30), "total_system_memory": str(100 << 30)}, "memory", "problem"),
]


@pytest.mark.parametrize(("said", "code", "severity"), INFO)
def test_what_info_says_is_judged(
    ward: Ward, said: dict[str, str], code: str, severity: str
) -> None:
    facts = ward.store.follow(server.look())
    before = {finding.code for finding in judge_server(facts) if finding.severity != "ok"}
    assert code not in before
    (finding,) = [
        finding
        for finding in judge_server(replace(facts, info={**facts.info, **said}))
        if finding.code == code
    ]
    assert finding.severity == severity


FACTS = [
    ({"ping_s": 0.2}, "slow", "warning"),
    ({"refused": None}, "permissions_unknown", "note"),
    ({"config": {}, "info": {}}, "aof_unknown", "note"),
    ({"config": {}, "info": {}}, "eviction_unknown", "note"),
    ({"config": {}, "info": {}}, "memory_unknown", "note"),
]


@pytest.mark.parametrize(("known", "code", "severity"), FACTS)
def test_what_is_slow_or_not_known_is_said(
    ward: Ward, known: dict[str, Any], code: str, severity: str
) -> None:
    facts = ward.store.follow(server.look())
    assert code not in {finding.code for finding in judge_server(facts)}
    found = {finding.code: finding for finding in judge_server(replace(facts, **known))}
    assert found[code].severity == severity


def test_a_failed_save_stops_a_server_that_saves(ward: Ward) -> None:
    facts = ward.store.follow(server.look())
    facts = replace(
        facts,
        info={**facts.info, "rdb_last_bgsave_status": "err"},
        config={**facts.config, "save": "3600 1", "stop-writes-on-bgsave-error": "yes"},
    )
    (finding,) = [f for f in judge_server(facts) if f.code == "save_failed"]
    assert finding.severity == "problem"
