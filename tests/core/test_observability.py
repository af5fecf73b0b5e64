"""What probes, scrapers and log collectors get."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from lora_operator.telemetry.logs import JsonFormatter, OncePerMinute
from lora_operator.telemetry.metrics import Metrics
from lora_operator.telemetry.server import ServeError, serve_health, serve_metrics


class Vitals:
    """What the health server asks the loop."""

    age: float | None = None
    why: str = "no plan has been made yet"
    standing_by: bool = False


async def ask(port: int, path: str) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}{path}") as answer,
    ):
        return answer.status, await answer.text()


async def test_healthz_says_no_when_plans_stop_and_readyz_also_before_the_first() -> None:
    vitals = Vitals()
    runner = await serve_health(
        "127.0.0.1", 0, plan_age=lambda: vitals.age, unready=lambda: vitals.why,
        standing_by=lambda: vitals.standing_by, max_age=60.0,
    )  # fmt: skip
    port = runner.addresses[0][1]
    try:
        assert (await ask(port, "/healthz"))[0] == 200  # an API server that is away is no reason to restart
        assert await ask(port, "/readyz") == (503, "no plan has been made yet\n")
        vitals.age, vitals.why = 1.0, ""
        assert await ask(port, "/healthz") == (200, "ok, last plan 1.0 s ago\n")
        assert (await ask(port, "/readyz"))[0] == 200
        vitals.age = 61.0
        assert await ask(port, "/healthz") == (503, "the last plan is 61 s old; the planning loop is stuck\n")
        assert (await ask(port, "/readyz"))[0] == 503
        vitals.standing_by = True
        assert await ask(port, "/readyz") == (200, "ok, standing by\n")
        assert (await ask(port, "/metrics"))[0] == 404
    finally:
        await runner.cleanup()


async def test_a_port_that_is_taken_is_named() -> None:
    metrics = Metrics()
    runner = await serve_metrics("127.0.0.1", 0, metrics)
    port = runner.addresses[0][1]
    try:
        with pytest.raises(ServeError, match=f"127.0.0.1:{port}.*choose another port"):
            await serve_metrics("127.0.0.1", port, metrics)
        status, text = await ask(port, "/metrics")
        assert status == 200 and "lora_operator_plan_seconds_bucket" in text
    finally:
        await runner.cleanup()


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.exposition().decode())
        for sample in family.samples
        if sample.name.startswith("lora_operator_")
    }


def round_of(metrics: Metrics, **states: Any) -> None:
    given = {"engine_states": (), "adapter_states": (), "refused": (), "in_flight": 0} | states
    metrics.round(now=1000.0, seconds=0.002, **given)


def test_a_state_that_nobody_is_in_any_more_is_zero_and_not_the_last_value() -> None:
    metrics = Metrics()
    round_of(metrics, engine_states=["Up", "Up", "Down"], adapter_states=["complete"], refused=["RankTooHigh"])
    before = samples(metrics)
    assert before["lora_operator_unplaced_copies", (("reason", "RankTooHigh"),)] == 1.0
    round_of(metrics, engine_states=["Up"])
    now = samples(metrics)
    assert now["lora_operator_pods", (("state", "Up"),)] == 1.0
    assert now["lora_operator_pods", (("state", "Down"),)] == 0.0
    assert now["lora_operator_unplaced_copies", (("reason", "RankTooHigh"),)] == 0.0
    assert now["lora_operator_last_plan_timestamp_seconds", ()] == 1000.0


def test_names_follow_the_rules_and_no_label_is_a_users_name() -> None:
    metrics = Metrics()
    metrics.load("ok", 0.1)
    metrics.load("LoadRefused", None)
    metrics.unload("Surplus", "ok")
    metrics.status_write("ok")
    metrics.drift(2)
    round_of(metrics, engine_states=["Up"], adapter_states=["complete"], refused=["NoFreeSlot"], in_flight=3)
    seen = samples(metrics)
    assert seen["lora_operator_loads_total", (("result", "ok"),)] == 1.0
    assert seen["lora_operator_load_seconds_count", ()] == 1.0
    assert seen["lora_operator_drift_total", ()] == 2.0
    labels = {name for _, pairs in seen for name, _ in pairs}
    assert labels <= {"result", "cause", "state", "reason", "le"}


def record(message: str, *args: object, name: str = "lora_operator.x", **extra: Any) -> logging.LogRecord:
    return logging.getLogger(name).makeRecord(name, logging.WARNING, "f", 1, message, args, None, extra=extra)


def test_a_log_line_is_one_json_object_with_its_fields() -> None:
    line = JsonFormatter().format(record('said "%s"\nand more', "ü", pod="ns/p0", version=None, other="not ours"))
    assert "\n" not in line
    body = json.loads(line)
    assert body["message"] == 'said "ü"\nand more'
    assert (body["level"], body["logger"], body["pod"]) == ("warning", "lora_operator.x", "ns/p0")
    assert "version" not in body and "other" not in body


def test_an_exception_is_part_of_its_line() -> None:
    try:
        raise ValueError("why")
    except ValueError:
        made = record("failed")
        made.exc_info = sys.exc_info()
    assert "ValueError: why" in json.loads(JsonFormatter().format(made))["exception"]


def test_what_repeats_itself_is_let_through_once_a_minute() -> None:
    once = OncePerMinute()
    first, again, other = (
        record(text, name="opentelemetry") for text in ("retry 1 of 9", "retry 2 of 9", "something else")
    )
    again.created = first.created + 1
    assert once.filter(first) and not once.filter(again) and once.filter(other)
    again.created = first.created + 61
    assert once.filter(again)
