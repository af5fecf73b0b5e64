"""The page of metrics is what the registries give, and no series can become another one for each adapter or pod."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.exposition import generate_latest

from lora_operator.artifacts import RefusedReason
from lora_operator.cache.metrics import FilesMetrics
from lora_operator.telemetry.metrics import Metrics
from lora_operator.telemetry.reasons import KNOWN, OF_ENGINES, OTHER, counted
from lora_operator.tools import metrics_page
from lora_operator.tools.metrics_page import UntoldLabel, main, programs, rows_of
from tests.delivery.reasons_in_code import OF_THE_API, reasons
from tests.observability.promtool import needs_promtool

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
OWN = {"ApiServerUnavailable", "AgentTokenMissing", "Cancelled"}
OF_CONTENT = {each.value for each in RefusedReason}


def test_the_page_is_what_the_registries_give(tmp_path: Path) -> None:
    assert main(["--check", str(PAGE)]) == 0
    assert main([str(tmp_path / "written.md")]) == 0
    assert (tmp_path / "written.md").read_text() == PAGE.read_text()


def test_a_page_that_differs_is_refused_with_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "metrics.md"
    other.write_text(PAGE.read_text().replace("lora_operator_drift_total", "lora_operator_drifts_total"))
    assert main(["--check", str(other)]) == 1
    said = capsys.readouterr().err
    assert "-| `lora_operator_drifts_total`" in said and "run make metrics" in said


def test_a_label_of_which_nobody_tells_the_values_is_refused() -> None:
    registry = CollectorRegistry()
    Counter("lora_operator_loads", "Loads.", ["result", "adapter"], registry=registry)
    with pytest.raises(UntoldLabel, match=r"lora_operator_loads_total has a label 'adapter' .* leave the label out"):
        rows_of(registry, metrics_page.labels())


def test_every_metric_has_help_and_a_name_with_its_unit() -> None:
    for title, rows in programs().items():
        assert len(rows) >= 4, title
        for row in rows:
            assert row.name.startswith("lora_operator_") and row.text.endswith("."), row
            assert (row.kind == "counter") == row.name.endswith("_total"), row
            assert row.kind != "histogram" or row.name.endswith(("_seconds", "_score")), row  # a score has no unit


def test_every_reason_that_the_code_can_give_is_known() -> None:
    assert sorted((reasons() | OF_THE_API) - KNOWN) == []
    assert sorted(KNOWN - reasons() - OF_THE_API - OF_ENGINES - OF_CONTENT - OWN) == [], "nobody gives these any more"


def test_what_an_agent_invents_makes_no_series_of_its_own() -> None:
    metrics = Metrics()
    files = FilesMetrics(metrics.registry)
    for number in range(50):
        word = f"Invented{number}"
        metrics.load(word, None)
        metrics.unload("Surplus", word)
        files.retried(word)
        files.finished(word, 0, 1.0)
    text = metrics.exposition().decode()
    assert "Invented" not in text
    for name in ("loads_total", "fetch_retries_total", "fetches_total"):
        (line,) = [one for one in text.splitlines() if one.startswith(f"lora_operator_{name}") and OTHER in one]
        assert line.endswith(" 50.0")
    assert counted("CacheFull") == "CacheFull"


@needs_promtool
def test_promtool_finds_nothing_wrong_with_names_and_help() -> None:
    for title, registry in metrics_page.registries().items():
        text = generate_latest(registry)
        checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True)
        assert (checked.returncode, checked.stderr) == (0, b""), title
