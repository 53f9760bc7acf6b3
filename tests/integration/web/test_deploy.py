"""The dashboard and the alerts that come with it: they load, and speak of metrics and sections that there are."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from headrace.store import AsyncStore
from headrace.timings import requests, tally
from tests.integration.web import alert_cases
from tests.integration.web.client import K
from tests.support.wait import WAIT_S

ROOT = Path(__file__).resolve().parents[3]
ALERTS = ROOT / "deploy/prometheus/headrace-alerts.yaml"
DASHBOARD = ROOT / "deploy/grafana/headrace.json"

_HISTOGRAM = ("_bucket", "_sum", "_count")
_SUFFIXES = {"counter": ("_total",), "histogram": _HISTOGRAM}


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return found


def expressions() -> Iterator[str]:
    yield from (rule["expr"] for rule in rules())
    yield from (target["expr"] for panel in panels() for target in panel.get("targets", ()))
    variables = json.loads(DASHBOARD.read_text())["templating"]["list"]
    yield from (one["definition"] for one in variables if "definition" in one)


def sections(document: Path) -> set[str]:
    """Return the anchors of a document, as they are made of its headings."""
    heads = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


async def exported(api: httpx.AsyncClient, store: AsyncStore) -> set[str]:
    """Return the names of all series that a server has."""
    await store.run(requests.add(K, {"pay": tally.empty()}))
    families = list(text_string_to_metric_families((await api.get("/metrics")).text))
    return {f.name + suffix for f in families for suffix in _SUFFIXES.get(f.type, ("",))}


async def test_dashboard_and_alerts_ask_for_metrics_that_there_are(
    api: httpx.AsyncClient, store: AsyncStore
) -> None:
    known = await exported(api, store)
    asked = {name for expr in expressions() for name in re.findall(r"\bheadrace_\w+", expr)}
    assert len(asked) > 20
    assert asked <= known, f"no such metrics: {sorted(asked - known)}"


async def test_labels_in_expressions_are_those_of_their_metrics(
    api: httpx.AsyncClient, store: AsyncStore
) -> None:
    await store.run(requests.add(K, {"pay": tally.empty()}))
    families = text_string_to_metric_families((await api.get("/metrics")).text)
    labels = {sample.name: {*sample.labels} for f in families for sample in f.samples}
    for expr in expressions():
        for name, matchers in re.findall(r"\b(headrace_\w+)\{([^}]*)\}", expr):
            used = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
            assert used <= labels.get(name, used), f"{name} has no labels {used - labels[name]}"


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_says_what_is_wrong_and_where_it_stands_what_to_do(rule: dict[str, Any]) -> None:
    notes = rule["annotations"]
    assert {"summary", "description", "runbook_url"} == notes.keys()
    assert rule["labels"]["severity"] in ("critical", "warning")
    path, _, section = notes["runbook_url"].partition("#")
    assert section == rule["alert"].lower()
    assert section in sections(ROOT / path)
    assert rule["alert"] in (ROOT / "docs/monitoring.md").read_text()


def test_each_panel_says_what_it_shows_and_none_covers_another() -> None:
    taken: set[tuple[int, int]] = set()
    ids = [panel["id"] for panel in panels()]
    assert len(ids) == len(set(ids))
    for panel in panels():
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
        if panel["type"] != "row":
            assert panel["description"].endswith(".")
            assert panel["targets"]


def promtool(*args: str, stdin: str = "") -> str:
    """Run promtool; skip the test where there is none."""
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("promtool is not on the PATH: it comes with Debian's package prometheus")
    done = subprocess.run(
        [tool, *args], input=stdin, capture_output=True, text=True, check=False, timeout=WAIT_S
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


async def test_promtool_finds_no_fault_with_the_metrics(
    api: httpx.AsyncClient, store: AsyncStore
) -> None:
    await store.run(requests.add(K, {"pay": tally.empty()}))
    await store.run(requests.tell("web-1", 4, 1))
    said = promtool("check", "metrics", stdin=(await api.get("/metrics")).text)
    assert said == ""


def test_promtool_reads_the_alerts() -> None:
    assert f"{len(rules())} rules found" in promtool("check", "rules", str(ALERTS))


def test_alerts_fire_when_they_should_and_not_otherwise(tmp_path: Path) -> None:
    cases = tmp_path / "cases.yaml"
    cases.write_text(yaml.safe_dump(alert_cases.written(ALERTS)))
    assert "SUCCESS" in promtool("test", "rules", str(cases))


def test_each_alert_has_a_case_in_which_it_fires() -> None:
    fired = {alert for _, _, alerts in alert_cases.CASES for alert in alerts}
    assert fired == {rule["alert"] for rule in rules()}
