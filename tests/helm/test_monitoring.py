"""The chart's objects for Prometheus and Grafana."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from tests.helm.charts import OPERATOR, only, template

FILES = OPERATOR / "files"


def test_the_charts_objects_carry_the_files_unchanged(tmp_path: Path) -> None:
    on: dict[str, Any] = {"enabled": True}
    values = {"metrics": {"prometheusRule": on, "dashboard": on, "serviceMonitor": on}}
    objects = template(OPERATOR, tmp_path, values)
    assert only(objects, "PrometheusRule")["spec"] == yaml.safe_load((FILES / "alerts.yaml").read_text())
    (text,) = only(objects, "ConfigMap", "lora-operator-dashboard")["data"].values()
    assert json.loads(text) == json.loads((FILES / "dashboard.json").read_text())
    for name in ("lora-operator", "lora-operator-router"):
        service, monitor = only(objects, "Service", name), only(objects, "ServiceMonitor", name)
        assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
        assert monitor["spec"]["endpoints"][0]["port"] in {port["name"] for port in service["spec"]["ports"]}


def test_alerts_lead_to_the_runbook_where_it_is_served(tmp_path: Path) -> None:
    values = {"metrics": {"prometheusRule": {"enabled": True, "docsUrl": "https://git.example.com/docs/"}}}
    (group,) = only(template(OPERATOR, tmp_path, values), "PrometheusRule")["spec"]["groups"]
    links = {rule["annotations"]["runbook_url"] for rule in group["rules"]}
    assert "https://git.example.com/docs/runbook.md#loraoperatorgone" in links
    assert all(link.startswith("https://git.example.com/docs/runbook.md#") for link in links)
