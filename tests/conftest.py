"""The control plane that all tests of one session share, and a namespace of its own for each test that wants one."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

# failed assertions in the contract's cases show their values, as those in tests do; before anything imports them
pytest.register_assert_rewrite("e2e.contract")

from e2e.controlplane import ControlPlane  # noqa: E402
from e2e.pods import PodRunnerThread  # noqa: E402
from lora_operator.kube import client  # noqa: E402


@pytest.fixture(autouse=True)
def patience_with_the_api_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where client and stand-in share one event loop on a busy machine, an answer may take many seconds."""
    for name in ("REQUEST_SECONDS", "RECORD_SECONDS", "LOOK_SECONDS"):
        monkeypatch.setattr(client, name, 60.0)


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
    control_plane.delete_namespace(name)


@pytest.fixture
def pods(control_plane: ControlPlane, namespace: str, tmp_path: Path) -> Iterator[PodRunnerThread]:
    """Plays the test pods of this test's namespace, each engine as a process of its own, until the test ends."""
    with PodRunnerThread(control_plane.kubeconfig, tmp_path / "kubelet", namespaces=(namespace,)) as runner:
        yield runner
