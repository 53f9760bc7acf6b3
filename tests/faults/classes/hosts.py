"""Many hosts, each with an address, a clock and a line of its own: lines lose packets, are slow, and are cut."""

from __future__ import annotations

from typing import Any

from headrace.partitions.names import names_of
from tests.faults.bench import Bench
from tests.faults.classes.registry import fault_class
from tests.faults.evidence import Terms, Verdict
from tests.faults.hosts import Hosts, Line, WireRole
from tests.faults.namespaces import why_not
from tests.faults.roles import QUEUE
from tests.support.wait import wait_until

_MIX = (("quick", 20), ("nap", 10), ("flaky", 3), ("failing", 3))
_OFF_S = (0.0, 3_600.0, -3_600.0, 0.0)  # how far the clocks of hosts are off
_CONSUMING = len(_OFF_S)
_HOSTS = _CONSUMING + 2  # on the others are producers, and a server that keeps order
_PARTITIONS = 6
_TIMEOUT_S = 1.0  # leases are short here, too
_SPOILT = {
    "host cut off": Line(requests=1.0, answers=1.0),
    "requests do not arrive": Line(requests=1.0),
    "answers do not arrive": Line(answers=1.0),
    "packets lost and late": Line(requests=0.1, answers=0.1, delay_s=0.02),
}


def _lay(bench: Bench) -> Hosts:
    """Lay the wire."""
    control = bench.folder / "wire"
    pid = bench.start(
        WireRole,
        name=bench.name("wire"),
        hosts=_HOSTS,
        control=control,
        seed=bench.rng.getrandbits(32),
    )
    bench.infrastructure.append(pid)
    wait_until(control.exists, "the wire is laid")
    return Hosts(pid, control)


def _populate(bench: Bench, hosts: Hosts, url: str, **options: Any) -> None:
    """Start somebody on each host."""
    for host in range(_HOSTS):
        role: dict[str, Any] = {
            "url": url,
            "namespace": hosts.namespace(host),
            "timeout_s": _TIMEOUT_S,
            **options,
        }
        if host < _CONSUMING:
            bench.consumer(clock_off_s=_OFF_S[host], **role)
        else:
            bench.maintainer(**role)
            bench.producer(1_000_000, role=role, mix=_MIX, batch=5, pause_s=0.05, delayed=0.2)


def _spoil(bench: Bench, hosts: Hosts, ports: list[int]) -> None:
    """Let lines fail in each way in turn, any host's with any of these servers, for less and for more than a lease."""
    for turn in range(max(len(_SPOILT), round(40 * bench.scale))):
        what = [*_SPOILT][turn % len(_SPOILT)]
        host = bench.rng.randrange(_HOSTS)
        bench.fault(what, target=f"host {host}")
        hosts.spoil(host, _SPOILT[what], bench.rng.choice(ports))
        bench.pause(0.2 * bench.lease.lease_s, 2 * bench.lease.lease_s)
        hosts.heal()
        bench.healed()
        bench.pause(0.1, 1.0)
    assert hosts.lost, "no packet was lost: nothing was shown"
    bench.end_producers()


@fault_class("hosts, cut off from Redis", cost_s=130, short=0.1, why_not=why_not)
def cut_off(bench: Bench) -> Verdict:
    """Cut hosts off from Redis, one way and both ways, and lose their packets; their clocks are hours apart."""
    hosts = _lay(bench)
    listening = ("--bind", "127.0.0.1", hosts.address, "--protected-mode", "no")
    port = bench.serve_redis(extra_args=listening).port
    bench.sample()
    _populate(bench, hosts, f"redis://{hosts.address}:{port}/0")
    _spoil(bench, hosts, [0])
    return bench.finish(Terms(stranded_s=60.0))


@fault_class("hosts, cut off from nodes", cost_s=130, short=0.1, why_not=why_not)
def cut_off_from_nodes(bench: Bench) -> Verdict:
    """Cut hosts off from one node of a cluster that they reach otherwise, and from all; the queue is on each node."""
    hosts, cluster = _lay(bench), bench.serve_cluster()
    for node in cluster.nodes:
        node.ask("CONFIG", "SET", "bind", f"127.0.0.1 {hosts.address}", "protected-mode", "no")
        # A client takes the host that it has asked: each sees the same servers at another address.
        node.ask("CONFIG", "SET", "cluster-preferred-endpoint-type", "unknown-endpoint")
    bench.queues = names_of(QUEUE, _PARTITIONS)
    bench.sample()
    ports = [node.port for node in cluster.primaries()]
    _populate(bench, hosts, f"redis+cluster://{hosts.address}:{ports[0]}", partitions=_PARTITIONS)
    _spoil(bench, hosts, [*ports, 0])
    return bench.finish(Terms(stranded_s=60.0))
