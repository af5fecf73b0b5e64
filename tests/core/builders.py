"""Small makers of what the operator's core works on; each fills in what a test does not care about."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from lora_operator.artifacts import AdapterFile, Inspection
from lora_operator.desired.adapters import Rejected, SourceState
from lora_operator.engines.prober import EngineView, instance_of
from lora_operator.informers.pod_description import PodDefaults
from lora_operator.informers.records import PodRecord, Resource, read_pod, read_resource
from lora_operator.informers.sources import SourceView, request_of
from lora_operator.planning.inflight import Failures, Ledger
from lora_operator.planning.snapshot import Observed
from lora_operator.sources import BrokenAdapter, FoundAdapter, Resolution, SourceError
from lora_operator.status.aggregate import AdapterState, Replica, StatusInput
from lora_operator.vllm.client import EngineModel
from lora_operator.vllm.engine_state import EngineState
from lora_scheduler import Refusal

V1, V2 = "aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb"
ROOT = "/adapters"


def a_resource(
    name: str = "la", *, created: str = "2026-01-01T00:00:00Z", spec: Any = None, **metadata: Any
) -> Resource:
    status = metadata.pop("status", {})
    body = {
        "metadata": {
            "name": name,
            "namespace": "ns",
            "uid": f"uid-{name}",
            "resourceVersion": "1",
            "generation": 1,
            "creationTimestamp": created,
        }
        | metadata,
        "spec": {"baseModel": "tiny", "adapterSource": {"type": "local", "repository": "/models/x"}} | (spec or {}),
        "status": status,
    }
    return read_resource(body)


def found(
    name: str,
    fingerprint: str = V1,
    *,
    rank: int = 8,
    size: int = 1000,
    features: Any = (),
    doubts: tuple[str, ...] = (),
) -> FoundAdapter:
    inspection = Inspection(
        rank=rank,
        bytes=size,
        peft_type="LORA",
        base_model="tiny",
        targets=("q_proj",),
        layers=2,
        dtype="F16",
        use_rslora=False,
        features=frozenset(features),
        shapes=(),
        files=(),
        doubts=doubts,
    )
    return FoundAdapter(name, fingerprint, (AdapterFile("adapter_config.json", 2, "0" * 64),), inspection, f"/m/{name}")


def a_source(resource: Resource, *adapters: FoundAdapter, broken: tuple[BrokenAdapter, ...] = ()) -> SourceView:
    assert resource.spec is not None
    return SourceView(request_of(resource.spec, {}), Resolution(tuple(adapters), broken), None, checked=True)


def a_failing_source(resource: Resource, error: SourceError) -> SourceView:
    assert resource.spec is not None
    return SourceView(request_of(resource.spec, {}), None, error, checked=True)


def a_pod(
    name: str = "p0",
    *,
    annotations: dict[str, str] | None = None,
    args: tuple[str, ...] = (),
    env: dict[str, str] | None = None,
    **extra: Any,
) -> PodRecord:
    prefix = "production-stack.vllm-project"
    body = {
        "metadata": {
            "name": name,
            "namespace": "ns",
            "uid": f"uid-{name}",
            "resourceVersion": "1",
            "labels": {f"{prefix}/lora": "enabled"},
            "annotations": {f"{prefix}/{key}": value for key, value in (annotations or {}).items()},
        }
        | extra,
        "spec": {
            "nodeName": "node-0",
            "containers": [
                {
                    "name": "vllm",
                    "args": ["--model", "tiny", "--enable-lora", "--max-loras", "4", "--max-cpu-loras", "8", *args],
                    "env": [
                        {"name": name, "value": value}
                        for name, value in {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1", **(env or {})}.items()
                    ],
                }
            ],
        },
        "status": {
            "phase": "Running",
            "podIP": "127.0.0.9",
            "containerStatuses": [
                {
                    "name": "vllm",
                    "containerID": f"c-{name}",
                    "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
                }
            ],
        },
    }
    return read_pod(body, PodDefaults())


def ours(name: str, fingerprint: str = V1, *, engine_name: str | None = None) -> EngineModel:
    return EngineModel(engine_name or name, f"{ROOT}/{name}/{fingerprint}", "tiny")


def foreign(name: str) -> EngineModel:
    return EngineModel(name, f"/somewhere/{name}", "tiny")


def an_engine(
    record: PodRecord, *models: EngineModel, state: EngineState = EngineState.UP, release: str = "0.32.0"
) -> EngineView:
    return EngineView(instance_of(record), state, release, tuple(models))


def observed(*pairs: tuple[PodRecord, EngineView], versioned_names: bool = True) -> Observed:
    return Observed(
        {record.key: record for record, _ in pairs},
        {record.key: view for record, view in pairs},
        MappingProxyType({}),
        lambda name, fingerprint: None,
        versioned_names,
    )


def nothing_under_way() -> tuple[Ledger, Failures]:
    return Ledger(), Failures(1.0, 300.0)


def a_state(
    name: str = "a",
    *,
    wanted: int = 1,
    replicas: int = 1,
    missing: int = 0,
    moving: bool = False,
    refusals: tuple[Refusal, ...] = (),
    current: bool = True,
    engine_name: str | None = None,
) -> AdapterState:
    made = tuple(Replica(f"ns/p{n}", f"10.0.0.{n}:8000", engine_name or name, current) for n in range(replicas))
    return AdapterState(name, V1, 1000, 8, wanted, missing, moving, made, refusals)


def given(
    *states: AdapterState, rejected: tuple[Rejected, ...] = (), source: SourceState | None = None, **extra: Any
) -> StatusInput:
    return StatusInput(
        generation=extra.get("generation", 1),
        source=source or SourceState(True, "Resolved", "found"),
        adapters=states,
        rejected=rejected,
        on_demand=extra.get("on_demand", False),
        selector=extra.get("selector", ""),
    )
