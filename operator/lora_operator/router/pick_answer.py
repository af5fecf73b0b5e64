"""Answers of POST /v1/pick, in the words of the wire."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lora_operator.router.deciding import Chosen, Loading
from lora_operator.router.several import Together
from lora_scheduler.routing import Candidate

Json = dict[str, Any]


def picked_json(outcome: Chosen, version: str) -> Json:
    """The model PickAnswer, for one adapter."""
    entry, endpoint = outcome.entry, outcome.endpoint
    return {
        "namespace": entry.namespace,
        "adapter": entry.name,
        "baseModel": entry.base_model,
        "pod": endpoint.pod,
        "address": endpoint.address,
        "engineName": endpoint.engine_name,
        "policy": outcome.policy,
        "version": version,
    }


def together_json(outcome: Together, policy: str, version: str) -> Json:
    """The model PickAnswer, for several. `adapter` and `engineName` are of the first."""
    first, picked = outcome.entries[0], outcome.picked
    names = {
        entry.name: picked.names[f"{entry.namespace}/{entry.name}"]
        for entry in outcome.entries
        if f"{entry.namespace}/{entry.name}" in picked.names
    }
    return {
        "namespace": first.namespace,
        "adapter": first.name,
        "baseModel": first.base_model,
        "pod": picked.endpoint.pod.partition("/")[2],
        "address": picked.endpoint.address,
        "engineName": names.get(first.name, ""),
        "engineNames": names,
        "missing": [name.partition("/")[2] for name in picked.missing],
        "policy": policy,
        "version": version,
    }


def loading_json(outcome: Loading, version: str) -> Json:
    """The model LoadingAnswer."""
    return {
        "state": "loading",
        "namespace": outcome.entry.namespace,
        "adapter": outcome.entry.name,
        "baseModel": outcome.entry.base_model,
        "reason": outcome.reason,
        "message": outcome.message,
        "version": version,
    }


def candidates_json(candidates: Iterable[Candidate]) -> list[Json]:
    """Each the model CandidatePod."""
    return [
        {
            "pod": one.endpoint.pod.partition("/")[2],
            "address": one.endpoint.address,
            "score": round(one.score.total, 3),
            "own": one.score.own_resident,
            "shared": one.score.shared_resident,
            "freeSlot": one.score.free_slot,
            "prefix": round(one.score.prefix, 3),
            "queueDepth": round(one.score.queue_depth, 3) + 0.0,  # no -0
            "requests": round(one.load, 3),
            "missing": [name.partition("/")[2] for name in one.missing],
        }
        for one in candidates
    ]
