"""The control plane that all tests of one session share, and a namespace of its own for each test that wants one."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from e2e.controlplane import ControlPlane


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Started for the first test that asks; an existing cluster with KUBECONFIG and USE_EXISTING_CLUSTER=1."""
    with ControlPlane.start(tmp_path_factory.mktemp("controlplane")) as plane:
        yield plane


@pytest.fixture
def namespace(control_plane: ControlPlane) -> Iterator[str]:
    """A fresh namespace that pods can be created in at once; deleted after the test, without waiting for it."""
    name = f"test-{secrets.token_hex(4)}"
    control_plane.create_namespace(name)
    yield name
    control_plane.kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")
