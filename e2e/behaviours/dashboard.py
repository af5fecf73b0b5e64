"""What the dashboard and the alerts ask Prometheus."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

FILES = Path(__file__).parents[2] / "helm" / "lora-operator" / "files"
ALERTS = FILES / "alerts.yaml"
DASHBOARD = FILES / "dashboard.json"
OF_HISTOGRAMS = ("_bucket", "_sum", "_count")


def rules() -> list[dict[str, Any]]:
    """The alerts, in their order."""
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    """Rows included."""
    return list(json.loads(DASHBOARD.read_text())["panels"])


def dashboard_queries(interval: str = "$__rate_interval") -> dict[str, str]:
    """Title (id) and letter of the query -> PromQL, over this interval."""
    return {
        f"{panel['title']} ({panel['id']}{target['refId']})": target["expr"].replace("$__rate_interval", interval)
        for panel in panels()
        for target in panel.get("targets", [])
    }


def queries() -> dict[str, str]:
    """All of them."""
    return {rule["alert"]: rule["expr"] for rule in rules()} | dashboard_queries("5m")


def series_in(query: str) -> set[str]:
    """The names of ours."""
    return set(re.findall(r"\blora_operator_\w+", query))
