"""How the consumers and Redis itself are, for Prometheus: read in one round trip, with one ``INFO``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from headrace import operations as op
from headrace.doctor.server import info
from headrace.keys import LEADER
from headrace.operations import Operation
from headrace.timings import requests
from headrace.timings.requests import Told

# what INFO says -> metric, help
_GAUGES: Final = {
    "used_memory": ("memory_used_bytes", "Memory that Redis uses."),
    "maxmemory": ("memory_max_bytes", "Memory that it may use; 0: no bound."),
    "connected_clients": ("connected_clients", "Connections to Redis."),
    "maxclients": ("max_clients", "Connections that it lets in."),
}
_NODE: Final = ["node"]


@dataclass(frozen=True, slots=True)
class Vitals:
    """What is known beside the queues.

    Attributes:
        led: somebody does the maintenance.
        told: what consumers tell of their slots.
        infos: what INFO says, by node; "" where there is one.
    """

    led: bool = False
    told: Mapping[str, Told] = field(default_factory=dict)
    infos: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def asked() -> list[Operation[Any]]:
    """Return what to ask of Redis for it."""
    led = op.command("EXISTS", LEADER, parse=bool)
    return [op.time_ms(), led, requests.told(), info()]


def vitals_of(
    now_ms: float, led: Any, told: Mapping[str, Told], infos: Mapping[str, Mapping[str, str]]
) -> Vitals:
    """Put together what was answered, without consumers that have gone."""
    since_ms = now_ms - requests.ABSENT_S * 1000
    return Vitals(led, {name: one for name, one in told.items() if one.at_ms > since_ms}, infos)


def measured(vitals: Vitals) -> Iterator[Metric]:
    """Return the metrics of it."""
    told = vitals.told.values()
    for name, says, value in (
        ("maintenance_led", "1: a consumer or a server does the maintenance.", int(vitals.led)),
        ("consumers", "Consumers that have told of themselves in the last 150 s.", len(told)),
        ("slots", "Jobs that they can run at once.", sum(one.slots for one in told)),
        ("slots_busy", "Slots that had a job when they told.", sum(one.busy for one in told)),
    ):
        yield GaugeMetricFamily(f"headrace_{name}", says, value)
    for key, (name, says) in _GAUGES.items():
        gauge = GaugeMetricFamily(f"headrace_redis_{name}", says, labels=_NODE)
        for node, infos in vitals.infos.items():
            if infos.get(key, "").isdigit():
                gauge.add_metric([node], int(infos[key]))
        yield gauge
    written = GaugeMetricFamily(
        "headrace_redis_aof_last_write_ok",
        "1: the append-only file was written; 0: it was not; absent: there is none.",
        labels=_NODE,
    )
    rejected = CounterMetricFamily(
        "headrace_redis_rejected_connections",
        "Connections that Redis did not let in, for it had too many.",
        labels=_NODE,
    )
    for node, infos in vitals.infos.items():
        if infos.get("aof_enabled") == "1":
            written.add_metric([node], infos.get("aof_last_write_status") == "ok")
        if infos.get("rejected_connections", "").isdigit():
            rejected.add_metric([node], int(infos["rejected_connections"]))
    yield from (written, rejected)
