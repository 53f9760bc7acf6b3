"""What Prometheus may see for an hour, and which alerts fire then: cases for ``promtool test rules``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

HEALTHY: dict[str, str] = {
    "headrace_redis_up": "1x60",
    "headrace_queues_read": "1x60",
    "headrace_maintenance_led": "1x60",
    "headrace_consumers": "2x60",
    "headrace_slots": "10x60",
    "headrace_slots_busy": "3x60",
    'headrace_jobs{queue="q",place="pending"}': "5x60",
    'headrace_jobs{queue="q",place="processing"}': "3x60",
    'headrace_queue_paused{queue="q"}': "0x60",
    'headrace_jobs_done_total{queue="q"}': "0+60x60",
    'headrace_jobs_dead_total{queue="q"}': "3+0x60",
    'headrace_jobs_dropped_total{queue="q"}': "0x60",
    'headrace_leases_expired_total{queue="q"}': "2+0x60",
    'headrace_oldest_job_age_seconds{queue="q"}': "2x60",
    'headrace_delayed_overdue_seconds{queue="q"}': "0x60",
    'headrace_redis_memory_used_bytes{node=""}': "500x60",
    'headrace_redis_memory_max_bytes{node=""}': "0x60",
    'headrace_redis_aof_last_write_ok{node=""}': "1x60",
    'headrace_redis_rejected_connections_total{node=""}': "0x60",
}
CASES: list[tuple[str, dict[str, str | None], list[str]]] = [
    ("in order", {}, []),
    ("no server is scraped", dict.fromkeys(HEALTHY), ["HeadraceNotScraped"]),
    (
        "Redis is away",
        {
            **{k: None for k in HEALTHY if k != "headrace_redis_up"},
            "headrace_redis_up": "0x60",
            "headrace_queues_read": "0x60",
        },
        ["HeadraceRedisDown"],
    ),
    ("Redis is slow", {"headrace_queues_read": "0x60"}, ["HeadraceQueuesNotRead"]),
    ("nobody leads", {"headrace_maintenance_led": "0x60"}, ["HeadraceNoLeader"]),
    (
        "no consumer is there",
        {
            "headrace_consumers": "0x60",
            "headrace_slots": "0x60",
            "headrace_slots_busy": "0x60",
            'headrace_jobs{queue="q",place="processing"}': "0x60",
            'headrace_jobs_done_total{queue="q"}': "7+0x60",
        },
        ["HeadraceNoConsumers", "HeadraceNothingDone"],
    ),
    (
        "a queue that nobody serves",
        {
            'headrace_jobs{queue="q",place="processing"}': "0x60",
            'headrace_jobs_done_total{queue="q"}': "7+0x60",
        },
        ["HeadraceNothingDone"],
    ),
    (
        "a paused one stands still on purpose",
        {
            'headrace_jobs{queue="q",place="processing"}': "0x60",
            'headrace_jobs_done_total{queue="q"}': "7+0x60",
            'headrace_queue_paused{queue="q"}': "1x60",
        },
        [],
    ),
    ("one long job is no standstill", {'headrace_jobs_done_total{queue="q"}': "7+0x60"}, []),
    ("a short backlog", {'headrace_oldest_job_age_seconds{queue="q"}': "0+60x12 0x47"}, []),
    (
        "a long one",
        {'headrace_oldest_job_age_seconds{queue="q"}': "900x60"},
        ["HeadraceOldestJobAge"],
    ),
    (
        "a long one of a queue that is paused on purpose",
        {
            'headrace_oldest_job_age_seconds{queue="q"}': "900x60",
            'headrace_queue_paused{queue="q"}': "1x60",
            "headrace_slots_busy": "10x60",
        },
        [],
    ),
    (
        "of a paused queue and another the other's counts",
        {
            'headrace_oldest_job_age_seconds{queue="q"}': "900x60",
            'headrace_queue_paused{queue="q"}': "1x60",
            'headrace_oldest_job_age_seconds{queue="r"}': "900x60",
            'headrace_queue_paused{queue="r"}': "0x60",
        },
        ["HeadraceOldestJobAge"],
    ),
    (
        "all slots are busy, and jobs wait",
        {"headrace_slots_busy": "10x60", 'headrace_oldest_job_age_seconds{queue="q"}': "90x60"},
        ["HeadraceSaturated"],
    ),
    ("all slots are busy, and no job waits", {"headrace_slots_busy": "10x60"}, []),
    ("jobs die", {'headrace_jobs_dead_total{queue="q"}': "0+1x60"}, ["HeadraceDeadLetters"]),
    (
        "jobs are dropped",
        {'headrace_jobs_dropped_total{queue="q"}': "0+1x60"},
        ["HeadraceDeadLetters"],
    ),
    (
        "consumers are lost",
        {'headrace_leases_expired_total{queue="q"}': "0x44 3x15"},
        ["HeadraceConsumersLost"],
    ),
    (
        "delayed jobs are late",
        {'headrace_delayed_overdue_seconds{queue="q"}': "60x60"},
        ["HeadraceDelayedOverdue"],
    ),
    (
        "Redis is almost full",
        {'headrace_redis_memory_max_bytes{node=""}': "520x60"},
        ["HeadraceRedisMemory"],
    ),
    (
        "its file is not written",
        {'headrace_redis_aof_last_write_ok{node=""}': "0x60"},
        ["HeadraceRedisNotWritten"],
    ),
    (
        "connections are refused",
        {'headrace_redis_rejected_connections_total{node=""}': "0+2x60"},
        ["HeadraceRedisRejectsConnections"],
    ),
]
"""What is seen, beside or in place of what is healthy (None: it is not), and what fires after 50 minutes."""


def written(alerts: Path) -> dict[str, Any]:
    """Return the cases as promtool reads them."""
    firing = 'sum by (alertname) (ALERTS{alertstate="firing"})'
    tests = []
    for name, seen, fired in CASES:
        series = {key: value for key, value in (HEALTHY | seen).items() if value is not None}
        found = [{"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in fired]
        tests.append(
            {
                "name": name,
                "interval": "1m",
                "input_series": [{"series": k, "values": v} for k, v in series.items()],
                "promql_expr_test": [{"expr": firing, "eval_time": "50m", "exp_samples": found}],
            }
        )
    return {"rule_files": [str(alerts)], "evaluation_interval": "1m", "tests": tests}
