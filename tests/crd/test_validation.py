"""The API server admits what is right and says what is wrong, field by field, before the operator sees anything."""

from __future__ import annotations

import pytest
from kubernetes.client import ApiException, CustomObjectsApi

from e2e.controlplane import ControlPlane
from tests.crd.cases import CASES, Case, an_adapter
from tests.crd.conftest import Resources, causes

pytestmark = pytest.mark.cluster


# What Kubernetes itself says where a bound of the schema is broken; the rules are not looked at then.
_BOUNDS = ("chars long", "bytes", "should be greater than or equal to 1", "must be of type string", "too long")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_accepts_and_refuses(case: Case, api: CustomObjectsApi) -> None:
    resources = Resources(api, "default")
    body = an_adapter(change=case.change)
    if case.accepted:
        resources.create(body, dry_run=True)
        return
    with pytest.raises(ApiException) as caught:
        resources.create(body, dry_run=True)
    assert caught.value.status in (400, 422)
    found = causes(caught.value)
    matching = [message for field, message in found if _same_field(field, case.field or "")]
    assert matching, found
    assert any(case.says in message or message.endswith(_BOUNDS) for message in matching), matching


def _same_field(seen: str, expected: str) -> bool:
    return seen.replace("[", ".").replace("]", "") == expected.replace("[", ".").replace("]", "")


def test_unknown_fields_are_refused_at_kubectl_apply(crd: ControlPlane, namespace: str) -> None:
    body = an_adapter(change={"adapterSource": {"repositry": "/a"}})
    out = crd.kubectl("apply", "-f", "-", namespace=namespace, input=str(body).replace("'", '"'), check=False)
    assert 'unknown field "spec.adapterSource.repositry"' in out


def test_base_model_cannot_change(crd: ControlPlane, namespace: str, resources: Resources) -> None:
    resources.create(an_adapter())
    out = crd.kubectl(
        "patch", "la", "a", "--type=merge", "-p", '{"spec":{"baseModel":"other"}}', namespace=namespace, check=False
    )
    assert "spec.baseModel: Invalid value" in out
    assert "baseModel is immutable" in out


def test_everything_else_can_change(crd: ControlPlane, namespace: str, resources: Resources) -> None:
    resources.create(an_adapter())
    patch = '{"spec":{"adapterSource":{"repository":"/adapters/other"},"schedulingConfig":{"priority":5}}}'
    crd.kubectl("patch", "la", "a", "--type=merge", "-p", patch, namespace=namespace)
