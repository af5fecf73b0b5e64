"""Dashboard and alerts ask for series that the operator and its agents have, and say what to do."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from lora_operator.agent.metrics import AgentMetrics
from lora_operator.load import ModelLoad
from lora_operator.metrics import Metrics
from tests.helm.charts import OPERATOR, only, template

FILES = OPERATOR / "files"


def known_series() -> set[str]:
    """Every name of a series that exists, with those that a histogram has beside its own."""
    metrics = Metrics()
    metrics.follow_loads(lambda: {"llama": ModelLoad(1.0, 1.0)})
    names = set()
    for text in (metrics.exposition(), AgentMetrics().exposition()):
        for family in text_string_to_metric_families(text.decode()):
            tail = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(family.type, [""])
            names |= {family.name + part for part in tail}
    return names


def expressions() -> dict[str, str]:
    """Where it stands -> PromQL."""
    rules = yaml.safe_load((FILES / "alerts.yaml").read_text())["groups"][0]["rules"]
    panels = json.loads((FILES / "dashboard.json").read_text())["panels"]
    return {rule["alert"]: rule["expr"] for rule in rules} | {
        f"{panel['title']} ({panel['id']})": target["expr"] for panel in panels for target in panel.get("targets", [])
    }


def test_every_series_that_is_asked_for_exists() -> None:
    known = known_series()
    asked = {where: set(re.findall(r"lora_operator_\w+", text)) for where, text in expressions().items()}
    assert {where: names - known for where, names in asked.items() if not names or names - known} == {}


def test_brackets_and_quotes_are_closed() -> None:
    for where, text in expressions().items():
        bare = re.sub(r'"[^"]*"', "", text)
        assert '"' not in bare, where
        for opening, closing in ("()", "[]", "{}"):
            assert bare.count(opening) == bare.count(closing), where


def test_prometheus_reads_alerts_and_queries(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not on the PATH; it comes with Prometheus (Debian, Ubuntu: apt install prometheus)")
    rules = [
        {"record": f"query:{number}", "expr": text.replace("$__rate_interval", "5m")}
        for number, text in enumerate(expressions().values())
    ]
    queries = tmp_path / "queries.yaml"
    queries.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    for file in (FILES / "alerts.yaml", queries):
        checked = subprocess.run([promtool, "check", "rules", str(file)], capture_output=True, text=True)
        assert checked.returncode == 0, checked.stdout + checked.stderr


def test_dashboard_has_a_row_for_each_question() -> None:
    panels = json.loads((FILES / "dashboard.json").read_text())["panels"]
    rows = [panel["title"] for panel in panels if panel["type"] == "row"]
    assert rows == ["Overview", "Loads", "Failures by reason", "Latency", "Cache", "Balance", "Demand"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)


def test_every_alert_says_what_to_do() -> None:
    for rule in yaml.safe_load((FILES / "alerts.yaml").read_text())["groups"][0]["rules"]:
        assert set(rule["annotations"]) == {"summary", "description", "runbook"}, rule["alert"]
        assert rule["labels"]["severity"] in ("info", "warning", "critical")


def test_the_charts_objects_carry_the_files_unchanged(tmp_path: Path) -> None:
    on: dict[str, Any] = {"enabled": True}
    values = {"metrics": {"prometheusRule": on, "dashboard": on, "serviceMonitor": on}}
    objects = template(OPERATOR, tmp_path, values)
    assert only(objects, "PrometheusRule")["spec"] == yaml.safe_load((FILES / "alerts.yaml").read_text())
    (text,) = only(objects, "ConfigMap")["data"].values()
    assert json.loads(text) == json.loads((FILES / "dashboard.json").read_text())
    service = only(objects, "Service", "lora-operator")
    selector = only(objects, "ServiceMonitor")["spec"]["selector"]["matchLabels"]
    assert selector.items() <= service["metadata"]["labels"].items()
