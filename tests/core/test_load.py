"""What is shown of demand and of how even it lies on the pods."""

from __future__ import annotations

from types import MappingProxyType

import pytest
from prometheus_client.parser import text_string_to_metric_families

from lora_operator.planning.expected_load import MODELS_MAX, OTHERS, model_loads
from lora_operator.telemetry.metrics import Metrics, ModelLoad
from lora_scheduler import Adapter, Plan, Pod, Snapshot


def an_adapter(name: str, demand: float | None, base: str = "llama") -> Adapter:
    return Adapter(name, name, base, "v1", 1, 1, demand=demand)


def a_pod(key: str, base: str = "llama", *, ready: bool = True) -> Pod:
    return Pod(key, base, host_slots=4, max_rank=8, ready=ready)


def loads(adapters: list[Adapter], pods: list[Pod], **assigned: tuple[str, ...]) -> dict[str, ModelLoad]:
    plan = Plan(MappingProxyType(assigned), (), (), MappingProxyType({}), MappingProxyType({}))
    return dict(model_loads(Snapshot(tuple(adapters), tuple(pods)), plan))


def test_demand_is_added_up_and_divided_among_replicas() -> None:
    made = loads(
        [an_adapter("a", 4.0), an_adapter("b", 2.0), an_adapter("x", 7.0, "qwen")],
        [a_pod("p"), a_pod("q"), a_pod("z", "qwen")],
        a=("p", "q"),
        b=("p",),
        x=("z",),
    )
    assert made == {"llama": ModelLoad(6.0, pytest.approx(4 / 3)), "qwen": ModelLoad(7.0, 1.0)}


def test_unknown_demand_counts_as_even_load_and_as_no_demand() -> None:
    made = loads([an_adapter("a", None), an_adapter("b", None)], [a_pod("p"), a_pod("q")], a=("p",), b=("p",))
    assert made == {"llama": ModelLoad(0.0, 2.0)}


def test_without_load_or_without_pods_all_is_even() -> None:
    assert loads([an_adapter("a", 0.0)], [a_pod("p"), a_pod("q")], a=("p",)) == {"llama": ModelLoad(0.0, 1.0)}
    assert loads([an_adapter("a", 3.0)], [a_pod("p", ready=False)], a=("p",)) == {"llama": ModelLoad(3.0, 1.0)}
    assert loads([], []) == {}


def test_so_many_base_models_as_nobody_has_are_shown_as_one() -> None:
    adapters = [an_adapter(f"a{number}", float(number), f"m{number}") for number in range(MODELS_MAX + 3)]
    made = loads(adapters, [a_pod("p", "m0"), a_pod("q", "m0")], a0=("p",))
    assert len(made) == MODELS_MAX + 1
    assert made[OTHERS] == ModelLoad(0.0 + 1.0 + 2.0, 1.0)


def test_scrapers_get_the_loads_of_the_moment() -> None:
    metrics, now = Metrics(), {"llama": ModelLoad(1.5, 1.25)}
    metrics.watch_loads(lambda: now)
    assert _shown(metrics) == {
        ("demand_requests_per_second", "llama"): 1.5,
        ("pod_load_imbalance_ratio", "llama"): 1.25,
    }
    now["llama"] = ModelLoad(0.0, 1.0)
    assert _shown(metrics)["demand_requests_per_second", "llama"] == 0.0


def _shown(metrics: Metrics) -> dict[tuple[str, str], float]:
    return {
        (sample.name.removeprefix("lora_operator_"), sample.labels["base_model"]): sample.value
        for family in text_string_to_metric_families(metrics.exposition().decode())
        for sample in family.samples
        if "base_model" in sample.labels
    }
