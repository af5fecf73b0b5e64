"""The load that a plan expects on the pods of each base model, for those who watch it. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from lora_operator.telemetry.metrics import ModelLoad
from lora_scheduler import Plan, Snapshot

MODELS_MAX = 50
OTHERS = "(others)"  # in place of the names of base models beyond that number


def model_loads(snapshot: Snapshot, plan: Plan) -> Mapping[str, ModelLoad]:
    """By base model, the 50 with the most demand by name and the rest as one, whose imbalance is the worst of them."""
    pods = {pod.key: pod.base_model for pod in snapshot.pods if pod.ready and not pod.draining and pod.base_model}
    loads = dict.fromkeys(pods, 0.0)
    demands: dict[str, float] = defaultdict(float)
    for adapter in snapshot.adapters:
        demands[adapter.base_model] += adapter.demand or 0.0
        places = plan.assignments.get(adapter.key, ())
        for pod in places:
            if pod in loads:
                loads[pod] += (1.0 if adapter.demand is None else adapter.demand) / len(places)
    by_model: dict[str, list[float]] = defaultdict(list)
    for pod, model in pods.items():
        by_model[model].append(loads[pod])
    made = {model: ModelLoad(demands[model], _imbalance(by_model[model])) for model in {*demands, *by_model}}
    ordered = sorted(made, key=lambda model: (-made[model].demand, model))
    named = {model: made[model] for model in ordered[:MODELS_MAX]}
    if rest := [made[model] for model in ordered[MODELS_MAX:]]:
        named[OTHERS] = ModelLoad(sum(load.demand for load in rest), max(load.imbalance for load in rest))
    return named


def _imbalance(loads: list[float]) -> float:
    total = sum(loads)
    return max(loads) * len(loads) / total if total > 0 else 1.0
