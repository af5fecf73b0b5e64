"""The resource behaves as kubectl's users expect: the promised example, defaults, columns, scale, wait and status."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from kubernetes.client import ApiException

from e2e.controlplane import ControlPlane
from e2e.world.promised import PROMISED_EXAMPLE
from lora_operator.api.fit import fit
from lora_operator.api.v1alpha1 import (
    AdapterStatus,
    Condition,
    ConditionStatus,
    ConditionType,
    EngineName,
    FailedAdapter,
    LoraAdapterStatus,
    Phase,
    PodAssignment,
    PodFailure,
    parse,
)
from tests.crd.cases import an_adapter
from tests.crd.conftest import Resources

pytestmark = pytest.mark.cluster

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def a_status(ready: ConditionStatus = ConditionStatus.TRUE) -> LoraAdapterStatus:
    return LoraAdapterStatus(
        observed_generation=1,
        phase=Phase.PARTIAL,
        summary="1/2",
        conditions=(
            Condition(
                type=ConditionType.READY,
                status=ready,
                reason="SomeFailed",
                message="1 of 2 adapters is loaded",
                last_transition_time=NOW,
                observed_generation=1,
            ),
        ),
        loaded_adapters=("sql",),
        failed_adapters=(
            FailedAdapter(
                name="chat",
                reason="Not enough memory",
                code="NotEnoughMemory",
                message="chat takes 2 GiB and no pod has more than 1 GiB left",
                pods=(PodFailure(pod="vllm-0", reason="NotEnoughMemory", message="1 GiB is left"),),
            ),
        ),
        pod_assignments=(
            PodAssignment(
                pod="vllm-0",
                address="10.0.0.1:8000",
                adapters=("sql",),
                engine_names=(EngineName(name="sql", engine_name="sql--0a1b2c3d"),),
            ),
        ),
        adapters=(AdapterStatus(name="sql", fingerprint="0a1b2c3d", bytes=2**31, rank=8, replicas=1, loaded=1),),
        replicas=1,
        selector="lora-enabled=true",
    )


def test_the_promised_example_applies_verbatim(crd: ControlPlane, namespace: str) -> None:
    crd.kubectl("apply", "-f", "-", namespace=namespace, input=PROMISED_EXAMPLE)
    crd.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", namespace=namespace, input=PROMISED_EXAMPLE)
    crd.kubectl("delete", "la", "example-adapter", namespace=namespace)


def test_the_promised_status_can_be_written(crd: ControlPlane, namespace: str) -> None:
    crd.kubectl("apply", "-f", "-", namespace=namespace, input=PROMISED_EXAMPLE)
    crd.kubectl(
        "apply", "--server-side", "--subresource=status", "-f", "-", namespace=namespace, input=PROMISED_EXAMPLE
    )
    written = json.loads(crd.kubectl("get", "la", "example-adapter", "-o", "json", namespace=namespace))
    assert written["status"]["failedAdapters"] == [{"name": "alpaca-lora-13b", "reason": "Not enough memory"}]
    assert parse(written).status.pod_assignments[0].adapters == ("alpaca-lora-7b",)


def test_defaults_appear(resources: Resources) -> None:
    spec = resources.create(an_adapter())["spec"]
    assert spec["deploymentConfig"] == {
        "replicas": 1,
        "replicaPolicy": "Fixed",
        "maxSurge": 1,
        "loadOnStartup": True,
        "podSelector": {},
    }
    assert spec["schedulingConfig"] == {
        "priority": 0,
        "preemptionPolicy": "LowerPriority",
        "topologyKey": "kubernetes.io/hostname",
        "resourceRequirements": {},
    }
    assert spec["adapterSource"]["maxAdapters"] == 100
    assert spec["baseModelCheck"] == "Name"


def test_kubectl_get_shows_the_columns(crd: ControlPlane, namespace: str, resources: Resources) -> None:
    resources.create(an_adapter())
    resources.apply_status("a", a_status(ConditionStatus.FALSE).to_dict(), "lora-operator")
    header, row = crd.kubectl("get", "la", namespace=namespace).splitlines()
    assert header.split() == ["NAME", "PHASE", "READY", "BASE", "MODEL", "SOURCE", "ADAPTERS", "REPLICAS", "AGE"]
    assert row.split()[:-1] == ["a", "Partial", "False", "tiny", "local", "1/2", "1"]
    wide = crd.kubectl("get", "lora", "-o", "wide", namespace=namespace)
    assert "1 of 2 adapters is loaded" in wide


def test_kubectl_scale_sets_the_replicas(crd: ControlPlane, namespace: str, resources: Resources) -> None:
    resources.create(an_adapter())
    resources.apply_status("a", a_status().to_dict(), "lora-operator")
    crd.kubectl("scale", "la", "a", "--replicas=3", "--current-replicas=1", namespace=namespace)
    path = f"/apis/production-stack.vllm-project/v1alpha1/namespaces/{namespace}/loraadapters/a/scale"
    scale = json.loads(crd.kubectl("get", "--raw", path))
    assert scale["spec"] == {"replicas": 3}
    assert scale["status"] == {"replicas": 1, "selector": "lora-enabled=true"}


def test_kubectl_scale_is_held_to_the_bounds(crd: ControlPlane, namespace: str, resources: Resources) -> None:
    resources.create(an_adapter(change={"deploymentConfig": {"replicaPolicy": "Auto", "maxReplicas": 2}}))
    assert "may not be more than maxReplicas" in crd.kubectl(
        "scale", "la", "a", "--replicas=3", namespace=namespace, check=False
    )


def test_kubectl_wait_follows_the_ready_condition(crd: ControlPlane, namespace: str, resources: Resources) -> None:
    resources.create(an_adapter())
    resources.apply_status("a", a_status(ConditionStatus.FALSE).to_dict(), "lora-operator")
    assert "condition not met" in crd.kubectl(
        "wait", "la/a", "--for=condition=Ready", "--timeout=0s", namespace=namespace, check=False
    )
    resources.apply_status("a", a_status().to_dict(), "lora-operator")
    crd.kubectl("wait", "la/a", "--for=condition=Ready", "--timeout=10s", namespace=namespace)


def test_status_is_merged_by_key_for_each_field_manager(resources: Resources) -> None:
    resources.create(an_adapter())
    resources.apply_status("a", a_status().to_dict(), "lora-operator")
    other = {"type": "Audited", "status": "True", "reason": "Looked", "lastTransitionTime": "2026-01-02T03:04:05Z"}
    seen = resources.apply_status("a", {"conditions": [other]}, "someone-else")
    assert {one["type"] for one in seen["status"]["conditions"]} == {"Ready", "Audited"}
    again = resources.apply_status("a", a_status().to_dict(), "lora-operator")
    assert {one["type"] for one in again["status"]["conditions"]} == {"Ready", "Audited"}
    assert again["status"]["phase"] == "Partial"
    gone = resources.apply_status("a", LoraAdapterStatus(phase=Phase.PENDING).to_dict(), "lora-operator")
    assert "podAssignments" not in gone["status"]


def test_writing_the_same_status_again_changes_nothing(resources: Resources) -> None:
    resources.create(an_adapter())
    first = resources.apply_status("a", a_status().to_dict(), "lora-operator")
    second = resources.apply_status("a", a_status().to_dict(), "lora-operator")
    assert first["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"]


def test_the_server_keeps_exactly_what_was_written_last(resources: Resources) -> None:
    """Whoever compares the status that is there with the one to be there must not see a difference for ever."""
    resources.create(an_adapter())
    resources.apply_status("a", a_status().to_dict(), "lora-operator")
    for status in (a_status(), LoraAdapterStatus(phase=Phase.PENDING), a_status()):
        written = resources.apply_status("a", status.to_dict(), "lora-operator")
        assert written["status"] == status.to_dict()


def test_writing_the_status_does_not_change_the_generation(resources: Resources) -> None:
    resources.create(an_adapter())
    assert resources.apply_status("a", a_status().to_dict(), "lora-operator")["metadata"]["generation"] == 1


def test_what_is_read_back_is_what_was_written(resources: Resources) -> None:
    resources.create(an_adapter())
    assert parse(resources.apply_status("a", a_status().to_dict(), "lora-operator")).status == a_status()


def the_largest_status() -> LoraAdapterStatus:
    """Every list full, every text long."""
    names = tuple(f"adapter-{number:04}-{'x' * 100}" for number in range(1000))
    pods = tuple(f"pod-{number:04}-{'y' * 200}" for number in range(2000))
    failures = tuple(PodFailure(pod=pod, reason="NotEnoughMemory", message="m" * 512) for pod in pods[:16])
    return LoraAdapterStatus(
        conditions=a_status().conditions,
        loaded_adapters=names,
        failed_adapters=tuple(
            FailedAdapter(name=name, reason="r" * 128, code="NotEnoughMemory", message="m" * 1024, pods=failures)
            for name in names
        ),
        pod_assignments=tuple(PodAssignment(pod=pod, address="10.0.0.1:8000", adapters=names) for pod in pods[:200]),
        adapters=tuple(AdapterStatus(name=name, fingerprint="f" * 64, bytes=2**31) for name in names),
    )


def test_the_largest_object_fits_into_the_store(resources: Resources) -> None:
    names = [f"adapter-{number:04}-{'x' * 115}" for number in range(1000)]
    body = an_adapter(change={"adapterSource": {"adapters": names}})
    body["metadata"]["annotations"] = {"last-applied": json.dumps(body)}
    resources.create(body)
    written = resources.apply_status("a", fit(the_largest_status()).to_dict(), "lora-operator")
    assert written["status"]["truncated"] is True
    assert written["status"]["conditions"]


@pytest.mark.parametrize("status", [{"phase": "Sleeping"}, {"conditions": [{"type": "Ready"}]}, {"replicas": -1}])
def test_a_status_that_breaks_the_schema_is_refused(resources: Resources, status: dict[str, Any]) -> None:
    resources.create(an_adapter())
    with pytest.raises(ApiException):
        resources.apply_status("a", status, "lora-operator")
