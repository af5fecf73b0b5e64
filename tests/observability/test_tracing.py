"""Traces: one for what a plan begins, in operator and agent; without secrets; at no cost where nobody wants them."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.world.collector import Collector, Span
from lora_operator.cli.main import main
from lora_operator.delivery.agent_client import AgentClient
from lora_operator.execution.concurrency import FETCHES_BESIDE
from lora_operator.settings.options import SettingsError
from lora_operator.tracing import OFF, reconciling, without_secrets
from lora_operator.tracing.collector import tracing_to
from lora_operator.tracing.otel import OtelTracing
from lora_operator.vllm.answers import Endpoint
from lora_scheduler import Plan
from tests.agent.running import POD, TOKEN, an_agent
from tests.core.fleet import a_fleet
from tests.fetch.conftest import case
from tests.fetch.ordered import SECRET, Case

__all__ = ["case"]


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as running:
        yield running


def named(collector: Collector, name: str) -> list[Span]:
    return [span for span in collector.spans if span.name == name]


async def test_what_a_plan_begins_is_one_trace(tmp_path: Path, collector: Collector) -> None:
    async with a_fleet(tmp_path, pods=1, otlp_endpoint=collector.url) as fleet:
        fleet.write("sql")
        fleet.apply("la", "sql")
        await fleet.until(lambda: fleet.ready("la"))
        version = fleet.status("la")["adapters"][0]["fingerprint"]
        fleet.delete("la")
        await fleet.until(lambda: not fleet.exists("la"))
        await fleet.settle()
        await asyncio.to_thread(fleet.operator._tracing.close)
    assert collector.paths() >= {
        "reconcile",
        "reconcile / plan",
        "reconcile / load adapter",
        "reconcile / load adapter / fetch",
        "reconcile / load adapter / load",
        "reconcile / unload adapter",
    }
    (load,) = named(collector, "load adapter")
    parts = sum(span.seconds for name in ("fetch", "load") for span in named(collector, name))
    assert 0 < parts <= load.seconds
    for name in ("load adapter", "fetch", "load"):
        (span,) = named(collector, name)
        told = {"lora.pod": "ns/p0", "lora.adapter": "ns/la/sql", "lora.version": version}
        assert span.attributes.items() >= told.items()
    assert {span.service for span in collector.spans} == {"lora-operator"}


async def test_a_load_that_had_to_wait_belongs_to_the_plan_that_it_was_begun_by(
    tmp_path: Path, collector: Collector
) -> None:
    async with a_fleet(tmp_path, pods=1, otlp_endpoint=collector.url) as fleet:
        fleet.write("first")
        fleet.apply("first", "first")
        await fleet.until(lambda: fleet.ready("first"))
        await fleet.rounds()  # from now on the engine serves, and loads one at a time
        late = fleet.engines["p0"].faults.add("late", "load")
        for number in range(FETCHES_BESIDE + 1):
            fleet.write(f"many/{number}")
        fleet.apply("many", "many")
        await fleet.until(lambda: len(fleet.ledger) == FETCHES_BESIDE and late.hits)
        await fleet.rounds()
        fleet.engines["p0"].faults.clear()
        await fleet.until(lambda: fleet.ready("many"))
        await asyncio.to_thread(fleet.operator._tracing.close)
    assert {" / ".join(collector.above(span)) for span in named(collector, "load adapter")} == {
        "reconcile / load adapter"
    }
    traces = {span.trace for span in named(collector, "load adapter")}
    assert len(traces) == 3
    # of the rounds in between, which began nothing, nobody hears
    assert {span.trace for span in collector.spans} == traces


async def test_a_load_that_fails_says_for_what_reason_and_no_more(tmp_path: Path, collector: Collector) -> None:
    async with a_fleet(tmp_path, pods=1, otlp_endpoint=collector.url) as fleet:
        fleet.engines["p0"].faults.add("status", "load")
        fleet.write("sql")
        fleet.apply("la", "sql")
        await fleet.until(lambda: bool(fleet.failed("la")))
        await asyncio.to_thread(fleet.operator._tracing.close)
    failed = {span.name: span.attributes["error.type"] for span in collector.spans if span.failed}
    assert failed == {"load": "LoadRefused", "load adapter": "LoadRefused"}


async def test_the_agent_goes_on_with_the_operators_trace(tmp_path: Path, case: Case, collector: Collector) -> None:
    operator = OtelTracing.over_http(f"{collector.url}/v1/traces", "lora-operator")
    async with an_agent(tmp_path, otlp_endpoint=collector.url) as agent:
        client = AgentClient(agent.session, lambda: TOKEN, operator)
        with operator.span("fetch"):
            await client.fetch(Endpoint("127.0.0.1", agent.port), case.order)
            await client.loaded(Endpoint("127.0.0.1", agent.port), [(case.order.name, case.order.fingerprint)])
    await asyncio.to_thread(operator.close)
    assert collector.paths() == {
        "fetch",
        "fetch / agent fetch",
        "fetch / agent fetch / download",
        "fetch / agent hold",
    }
    assert {span.service for span in named(collector, "agent fetch")} == {"lora-agent"}
    (download, *_) = named(collector, "download")
    assert download.attributes["url.full"].startswith("http") and "?" not in download.attributes["url.full"]
    assert named(collector, "agent hold")[0].attributes["lora.pod"] == POD
    assert not any(secret.encode() in body for body in collector.bodies for secret in (SECRET, TOKEN))


async def test_a_trace_that_is_none_does_not_keep_an_agent_from_fetching(
    tmp_path: Path, case: Case, collector: Collector
) -> None:
    async with an_agent(tmp_path, otlp_endpoint=collector.url) as agent:
        agent.session.headers["traceparent"] = "00-" + "g" * 5000
        assert (await agent.fetch(case.order)).body["state"] == "Present"
    assert "agent fetch / download" in collector.paths()


def test_rounds_that_want_nothing_leave_no_trace(collector: Collector) -> None:
    tracing = OtelTracing.over_http(f"{collector.url}/v1/traces", "lora-operator")
    with reconciling(tracing, Plan({}, (), (), {}, {}), 0.1):
        assert tracing.here() is None
    tracing.close()
    assert collector.spans == []


@pytest.mark.parametrize(
    "url", ["https://u:p4ss@host/a/b.safetensors?X-Sig=p4ss#p4ss", "http://host/a", "http://[x", ""]
)
def test_of_a_url_only_host_and_path_are_told(url: str) -> None:
    assert "p4ss" not in without_secrets(url) and "?" not in without_secrets(url)


def test_without_a_collector_nothing_is_traced_and_no_library_is_loaded() -> None:
    assert tracing_to("", "x", {}) is OFF
    assert OFF.span("a", pod="b") is OFF.span("c")
    modules = "lora_operator.manager.operator, lora_operator.agent.app"
    code = f"import sys, {modules}; sys.exit('opentelemetry.sdk' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("variable", ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"])
def test_the_usual_variables_turn_it_on_and_off(
    variable: str, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = collector.url + ("/v1/traces" if "TRACES" in variable else "")
    monkeypatch.setenv(variable, url)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
    tracing = tracing_to("", "lora-operator")
    with tracing.span("a"):
        pass
    tracing.close()
    assert [span.service for span in collector.spans] == ["mine"]
    for off in ({"OTEL_TRACES_EXPORTER": "none"}, {"OTEL_SDK_DISABLED": "true"}):
        assert tracing_to("", "x", {variable: url} | off) is OFF


@pytest.mark.parametrize("flag", ["collector:4318", "ftp://collector", "http://"])
def test_what_is_no_url_is_refused(flag: str) -> None:
    with pytest.raises(SettingsError, match="no URL of a collector such as http://collector:4318"):
        tracing_to(flag, "x", {})


def test_without_the_extra_the_flag_is_refused_and_the_variable_is_passed_over(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setitem(sys.modules, "lora_operator.tracing.otel", None)
    (tmp_path / "token").write_text("t" * 16)
    agent = ["agent", "--root", str(tmp_path), "--token-file", str(tmp_path / "token"), "--pod", "ns/p"]
    logging_before = logging.getLogger().handlers[:]
    try:
        assert main([*agent, "--otlp-endpoint", "http://127.0.0.1:1"]) == 2
    finally:
        logging.getLogger().handlers[:] = logging_before
    assert "pip install 'lora-operator[otel]'" in capsys.readouterr().err
    assert tracing_to("", "x", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}) is OFF
    assert "nothing is traced" in caplog.text


def test_a_collector_that_is_away_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lora_operator.tracing.otel.CLOSE_SECONDS", 0.0)
    tracing = tracing_to("http://127.0.0.1:1", "x", {})
    with tracing.span("a"):
        pass
    tracing.close()  # returns though nothing could be sent
