"""The chart's policy on a real API server: who names an owner in a LoraAdapter needs the right to that name."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from e2e.controlplane import ControlPlane
from e2e.controlplane.errors import KubectlError
from tests.helm.charts import OPERATOR, template

pytestmark = pytest.mark.cluster

NAMESPACE = "owner-guard"
CRD = OPERATOR.parents[1] / "crds" / "loraadapters.production-stack.vllm-project.yaml"
GROUP = "production-stack.vllm-project"


def rights() -> list[dict[str, Any]]:
    """May write LoraAdapters, and name alice."""
    rules = [
        {"apiGroups": [GROUP], "resources": ["loraadapters"], "verbs": ["create", "update", "patch", "get"]},
        {"apiGroups": [GROUP], "resources": ["owners"], "resourceNames": ["alice"], "verbs": ["use"]},
    ]
    kind = "rbac.authorization.k8s.io"
    about = {"name": "writer", "namespace": NAMESPACE}
    role = {"apiVersion": f"{kind}/v1", "kind": "Role", "metadata": about, "rules": rules}
    subjects = [{"kind": "User", "name": "writer", "apiGroup": kind}]
    to = {"apiGroup": kind, "kind": "Role", "name": "writer"}
    binding = {"apiVersion": f"{kind}/v1", "kind": "RoleBinding", "metadata": about, "subjects": subjects}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}, role, binding | {"roleRef": to}
    ]  # fmt: skip


def an_adapter(owner: str | None, **labels: str) -> str:
    spec: dict[str, Any] = {"baseModel": "llama", "adapterSource": {"type": "local", "repository": "/x"}}
    spec |= {} if owner is None else {"owner": owner}
    about = {"name": "sql", "namespace": NAMESPACE, "labels": labels}
    body = {"apiVersion": f"{GROUP}/v1alpha1", "kind": "LoraAdapter", "metadata": about, "spec": spec}
    return json.dumps(body)


def refused(write: Callable[[], object]) -> str:
    with pytest.raises(KubectlError) as error:
        write()
    return str(error.value)


def test_only_who_may_use_an_owner_names_it(control_plane: ControlPlane, tmp_path: Path) -> None:
    plane = control_plane
    plane.kubectl("apply", "--server-side", "-f", str(CRD))
    plane.wait_established("loraadapters.production-stack.vllm-project")
    policies = [one for one in template(OPERATOR, tmp_path, {"ownerGuard": {"enabled": True}}) if is_guard(one)]
    assert len(policies) == 2
    for one in (*rights(), *policies):
        plane.kubectl("apply", "-f", "-", input=json.dumps(one))

    def write(owner: str | None, user: str = "writer", **labels: str) -> str:
        return plane.kubectl("apply", "--as", user, "-f", "-", input=an_adapter(owner, **labels))

    try:
        deadline = time.monotonic() + 60
        while True:  # a policy counts a moment after it was made, and nothing tells when
            try:
                plane.kubectl("apply", "--as=writer", "--dry-run=server", "-f", "-", input=an_adapter("bob"))
            except KubectlError as error:
                assert "it takes the verb use on owners/bob" in str(error)
                break
            assert time.monotonic() < deadline
            time.sleep(0.05)
        for owner in (None, NAMESPACE, "alice"):
            assert "sql" in write(owner)
        assert "owners/bob" in refused(lambda: write("bob"))
        plane.kubectl("apply", "-f", "-", input=an_adapter("bob"))  # by an administrator, who may do anything
        assert "sql" in write("bob", changed="yes"), "what names him already may be changed otherwise"
    finally:
        plane.kubectl("delete", *(f"{one['kind']}/{one['metadata']['name']}" for one in policies))
        plane.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def is_guard(one: dict[str, Any]) -> bool:
    return one["kind"].startswith("ValidatingAdmission") and one["metadata"]["name"].endswith("-owners")
