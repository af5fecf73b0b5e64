"""Dashboard and alerts ask for series that exist, in PromQL that Prometheus reads; each alert fires when it should."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

from e2e.behaviours.dashboard import ALERTS, OF_HISTOGRAMS, dashboard_queries, panels, queries, rules, series_in
from lora_operator.tools.metrics_page import programs
from tests.observability.alert_cases import CASES, Case
from tests.observability.promtool import needs_promtool


def known_series() -> dict[str, set[str]]:
    """Every series that there is, with those that a histogram has, and its labels."""
    known: dict[str, set[str]] = {}
    for rows in programs().values():
        for row in rows:
            for ending in OF_HISTOGRAMS if row.kind == "histogram" else ("",):
                known.setdefault(row.name + ending, {"le"} if ending == "_bucket" else set()).update(row.labels)
    return known


def test_every_series_that_is_asked_for_exists() -> None:
    known = known_series()
    asked = {where: series_in(text) for where, text in queries().items()}
    assert {where: names - set(known) for where, names in asked.items() if not names or names - set(known)} == {}


def test_every_label_and_value_that_is_asked_for_exists() -> None:
    known = known_series()
    of_scrapes = {"namespace", "pod", "job", "instance"}
    told = {row.name: row.labels for rows in programs().values() for row in rows}
    for where, text in queries().items():
        for name, inside in re.findall(r"\b(lora_operator_\w+)\{([^}]*)\}", text):
            for label, how, value in re.findall(r'(\w+)(=~|!~|!=|=)"([^"]*)"', inside):
                assert label in known[name] | of_scrapes, (where, label)
                values = value.split("|") if "~" in how and re.fullmatch(r"[\w|]+", value) else [value]
                assert "~" in how or all(told[name][label].allow(one) for one in values), (where, label, value)


def test_dashboard_has_a_row_for_each_question() -> None:
    rows = [panel["title"] for panel in panels() if panel["type"] == "row"]
    assert rows == [
        "Overview", "Loads", "Failures by reason", "Latency", "Cache", "Balance", "Demand", "Routing and affinity",
        "User library",
    ]  # fmt: skip
    assert len({panel["id"] for panel in panels()}) == len(panels())
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels())
    assert len(dashboard_queries()) >= 25


def test_every_alert_says_what_to_do_and_where_more_is_written() -> None:
    for rule in rules():
        assert set(rule["annotations"]) == {"summary", "description", "runbook", "runbook_url"}, rule["alert"]
        assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in ("info", "warning", "critical")


@needs_promtool
def test_prometheus_reads_alerts_and_queries(tmp_path: Path) -> None:
    recorded = [{"record": f"query:{number}", "expr": text} for number, text in enumerate(queries().values())]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": recorded}]}))
    for checked in (ALERTS, file):
        ended = subprocess.run(["promtool", "check", "rules", str(checked)], capture_output=True, text=True)
        assert ended.returncode == 0, ended.stdout + ended.stderr


def test_every_alert_has_a_fleet_in_which_it_fires_and_one_in_which_it_is_silent() -> None:
    names = [rule["alert"] for rule in rules()]
    for silent in (False, True):
        assert sorted({case.alert for case in CASES if (case.labels is None) == silent}) == sorted(names)


@needs_promtool
def test_each_alert_fires_when_it_should_and_not_otherwise(tmp_path: Path) -> None:
    by_name = {rule["alert"]: rule for rule in rules()}
    file = tmp_path / "tests.yaml"
    document = {"rule_files": [str(ALERTS)], "tests": [as_promtool(case, by_name[case.alert]) for case in CASES]}
    file.write_text(yaml.safe_dump(document))
    ended = subprocess.run(["promtool", "test", "rules", str(file)], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def as_promtool(case: Case, rule: dict[str, Any]) -> dict[str, Any]:
    """One test of its own, on series of its own."""
    expected = [] if case.labels is None else [{
        "exp_labels": {"severity": case.severity} | case.labels,
        "exp_annotations": rule["annotations"] | {"summary": case.summary},
    }]  # fmt: skip
    asked = {"eval_time": f"{case.minutes}m", "alertname": case.alert, "exp_alerts": expected}
    given = [{"series": series, "values": values} for series, values in case.series.items()]
    return {"interval": "1m", "input_series": given, "alert_rule_test": [asked]}
