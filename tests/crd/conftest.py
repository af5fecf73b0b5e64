"""The CRD in the control plane, and a client that shows the API server's answers field by field."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config

from e2e.controlplane import ControlPlane
from lora_operator.api.crd import PLURALS
from lora_operator.api.v1alpha1 import GROUP, PLURAL, VERSION

CRDS = Path(__file__).parents[2] / "crds"


@pytest.fixture(scope="session")
def crd(control_plane: ControlPlane) -> ControlPlane:
    """The control plane with the CRD."""
    control_plane.kubectl("apply", "--server-side", "-f", str(CRDS))
    control_plane.wait_established(*(f"{plural}.{GROUP}" for plural in PLURALS))
    return control_plane


class Resources:
    """LoraAdapters of one namespace, through the API."""

    def __init__(self, api: client.CustomObjectsApi, namespace: str) -> None:
        self._api = api
        self._at = (GROUP, VERSION, namespace, PLURAL)

    def create(self, body: dict[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        created: dict[str, Any] = self._api.create_namespaced_custom_object(
            *self._at, body, field_validation="Strict", **({"dry_run": "All"} if dry_run else {})
        )
        return created

    def apply_status(self, name: str, status: dict[str, Any], manager: str) -> dict[str, Any]:
        """Server-side apply of the status by a field manager."""
        body = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": "LoraAdapter",
            "metadata": {"name": name},
            "status": status,
        }
        applied: dict[str, Any] = self._api.patch_namespaced_custom_object_status(
            *self._at, name, body, field_manager=manager, force=True, _content_type="application/apply-patch+yaml"
        )
        return applied


@pytest.fixture(scope="session")
def api(crd: ControlPlane) -> Iterator[client.CustomObjectsApi]:
    """The API of custom objects."""
    with config.new_client_from_config(config_file=str(crd.kubeconfig)) as connection:
        yield client.CustomObjectsApi(connection)


@pytest.fixture
def resources(api: client.CustomObjectsApi, namespace: str) -> Resources:
    """LoraAdapters of this test's namespace."""
    return Resources(api, namespace)


def causes(error: client.ApiException) -> list[tuple[str, str]]:
    """The fields that the API server refuses, each with what it says about it."""
    details = json.loads(error.body).get("details", {})
    return [(cause.get("field", ""), cause.get("message", "")) for cause in details.get("causes", [])]
