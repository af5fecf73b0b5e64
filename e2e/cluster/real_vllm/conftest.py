"""The charts with real vLLM in the pods, on the cluster of the behaviours."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from e2e.cluster.behaviours import s3 as store
from e2e.cluster.behaviours.conftest import images, kube, table
from e2e.cluster.behaviours.installation import Installation
from e2e.cluster.behaviours.kube import Kube
from e2e.cluster.own_images import DIRECTORY
from e2e.cluster.real_vllm import engines
from e2e.cluster.sample import ADAPTER, TEAM
from e2e.contract.target import ADAPTERS
from e2e.vllm_cpu.install import install

__all__ = ["images", "kube", "table"]
START_SECONDS = 1200


@pytest.fixture(scope="session")
def installed(images: Kube, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """The operator, two pods of real vLLM, and an adapter from S3 that is Ready on both."""
    if images.cluster is None:
        pytest.skip("vLLM's environment is mounted from this machine: a cluster of our own is needed")
    release = os.environ.get("LORA_OPERATOR_VLLM_RELEASE", "0.32.0")
    install(release)
    for archive in (engines.write_image(DIRECTORY / "vllm.tar"), store.write_image(DIRECTORY / "s3.tar")):
        images.load(archive)
        archive.archive.unlink()
    made = Installation(images, tmp_path_factory.mktemp("charts"))
    made.uninstall()
    made.install_operator("privileged", credentialSecrets=[{"namespace": TEAM, "name": store.SECRET}])
    images.apply(*store.objects())
    images.run("wait", "--for=condition=Ready", f"pod/{store.NAME}", "--timeout=120s", namespace=TEAM)
    store.upload(images, {ADAPTER: ADAPTERS / "lora"})
    made.install_pods(engines.values(release))
    made.declare(ADAPTER, replicas=2, source=store.source(ADAPTER))
    made.wait_pods(2, timeout=START_SECONDS)
    made.wait_adapter(ADAPTER, timeout=300)
    yield made
    made.uninstall()
