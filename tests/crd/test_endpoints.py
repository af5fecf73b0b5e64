"""LoraEndpoints on a real API server: one apply makes one, it goes with its pod, and it stays small."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from e2e.controlplane import ControlPlane
from lora_operator.api.fit import fit
from lora_operator.api.status import (
    AdapterStatus,
    Condition,
    ConditionStatus,
    ConditionType,
    LoraAdapterStatus,
    PodAssignment,
)
from lora_operator.informers.endpoints import Contents, HeldAdapter, Shared, body_of, contents_of
from lora_operator.kube.client import Kube, KubeError
from tests.crd.cases import an_adapter
from tests.crd.conftest import Resources

pytestmark = pytest.mark.cluster

MOST_BYTES = 100_000
POD = {"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"name": "vllm", "image": "vllm"}]}}


@pytest.fixture
async def kube(crd: ControlPlane) -> AsyncIterator[Kube]:
    kube = await Kube.connect(str(crd.kubeconfig))
    yield kube
    await kube.close()


@pytest.fixture
def uid(crd: ControlPlane, namespace: str) -> str:
    """Of a pod vllm-0: what has no owner is soon deleted."""
    crd.kubectl("apply", "-f", "-", namespace=namespace, input=json.dumps(POD | {"metadata": {"name": "vllm-0"}}))
    return crd.kubectl("get", "pod", "vllm-0", "-o", "jsonpath={.metadata.uid}", namespace=namespace)


def holding(count: int, pod_uid: str) -> Contents:
    entries = (
        HeldAdapter(f"adapter-{number:04}", f"adapter-{number:04}", f"{number:016x}", f"la-{number:04}")
        for number in range(count)
    )
    return Contents(pod_uid, "10.0.0.1:8000", "0123456789ab", ("meta-llama/Llama-3.1-8B",), tuple(entries))


async def apply(kube: Kube, namespace: str, said: Contents, pod: str = "vllm-0") -> dict[str, Any]:
    return await kube.apply_endpoint(namespace, pod, body_of(f"{namespace}/{pod}", said))


def bytes_of(body: dict[str, Any]) -> int:
    return len(json.dumps(body, separators=(",", ":")).encode())


async def test_one_apply_makes_it_and_the_same_again_changes_nothing(kube: Kube, namespace: str, uid: str) -> None:
    first = await apply(kube, namespace, holding(3, uid))
    again = await apply(kube, namespace, holding(3, uid))
    assert first["metadata"]["resourceVersion"] == again["metadata"]["resourceVersion"]
    assert contents_of(again, Shared()) == holding(3, uid)


async def test_what_is_read_back_is_what_was_written_also_when_it_shrinks_to_nothing(
    kube: Kube, namespace: str, uid: str
) -> None:
    for count in (2, 5, 1, 0, 3):
        assert contents_of(await apply(kube, namespace, holding(count, uid)), Shared()) == holding(count, uid)
    (listed,), _ = await kube.list_endpoints((namespace,))
    assert contents_of(listed, Shared()) == holding(3, uid)


async def test_it_goes_with_its_pod(crd: ControlPlane, kube: Kube, namespace: str, uid: str) -> None:
    await apply(kube, namespace, holding(1, uid))
    assert "vllm-0" in crd.kubectl("get", "le", namespace=namespace)
    crd.kubectl("delete", "pod", "vllm-0", "--force", "--grace-period=0", namespace=namespace)
    crd.kubectl("wait", "--for=delete", "le/vllm-0", "--timeout=60s", namespace=namespace)


async def test_a_thousand_adapters_of_one_pod_take_less_than_a_hundred_kilobytes(
    kube: Kube, namespace: str, uid: str
) -> None:
    body = await apply(kube, namespace, holding(1000, uid))
    assert len(body["adapters"]) == 1000
    assert bytes_of(body) < MOST_BYTES


async def test_what_is_no_text_is_refused(kube: Kube, namespace: str, uid: str) -> None:
    body = body_of(f"{namespace}/vllm-0", holding(1, uid)) | {"adapters": {"sql": 7}}
    with pytest.raises(KubeError, match=r"adapters\.sql: (Invalid value|expected string)"):
        await kube.apply_endpoint(namespace, "vllm-0", body)


@pytest.mark.parametrize(("adapters", "pods"), [(1, 100), (100, 100), (1000, 4), (1000, 100)])
def test_no_status_of_whatever_fleet_makes_a_loraadapter_pass_a_hundred_kilobytes(
    resources: Resources, adapters: int, pods: int
) -> None:
    names = tuple(f"adapter-{number:04}" for number in range(adapters))
    conditions = (
        Condition(
            type=kind, status=ConditionStatus.TRUE, reason="Ready", message="all answer", observed_generation=1,
            last_transition_time=datetime(2026, 1, 1, tzinfo=UTC),
        )
        for kind in ConditionType
    )  # fmt: skip
    status = LoraAdapterStatus(
        observed_generation=1,
        summary=f"{adapters}/{adapters}",
        conditions=tuple(conditions),
        loaded_adapters=names,
        pod_assignments=tuple(
            PodAssignment(pod=f"vllm-{number:04}", address="10.0.0.1:8000", container="0123456789ab", adapters=names)
            for number in range(pods)
        ),
        pods=pods,
        adapters=tuple(
            AdapterStatus(name=name, fingerprint="a" * 16, bytes=1 << 26, rank=16, replicas=pods, loaded=pods)
            for name in names
        ),
    )
    body = an_adapter()
    body["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": json.dumps(body)}
    resources.create(body)
    written = resources.apply_status("a", fit(status).to_dict(), "lora-operator")
    assert bytes_of(written) < MOST_BYTES
    assert written["status"]["pods"] == pods
    assert written["status"]["truncated"] is True
    ready = next(one for one in written["status"]["conditions"] if one["type"] == "Ready")
    assert "lists of this status are cut" in ready["message"]
