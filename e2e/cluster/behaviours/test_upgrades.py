"""From the previous release of this repository to the present one and back, by docs/upgrade.md, while users ask."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from e2e.cluster.behaviours.installation import OPERATOR_RELEASE, PODS_RELEASE, SYSTEM, WAYS, Installation
from e2e.cluster.behaviours.users import Table, container, users
from e2e.cluster.own_images import DIRECTORY, OPERATOR_IMAGE, build_own_images
from e2e.cluster.previous import PREVIOUS_IMAGE, Previous
from e2e.cluster.sample import ADAPTER, TEAM


@pytest.fixture(scope="module")
def previous(installed: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """The previous release's charts in place of the present ones; afterwards these are there again."""
    if (release := Previous.find()) is None:
        pytest.skip("this clone's history does not reach to the previous release: git fetch --unshallow --tags")
    archive = DIRECTORY / "previous.tar"
    installed.kube.load(release.image(build_own_images(), archive))
    archive.unlink()
    directory: Path = tmp_path_factory.mktemp("previous")
    old = replace(installed, charts=release.charts(directory), image=PREVIOUS_IMAGE)
    installed.uninstall()
    old.install()
    old.declare(ADAPTER, replicas=2)
    old.wait_adapter(ADAPTER)
    yield old
    installed.uninstall()
    installed.install()
    installed.declare(ADAPTER, replicas=2)
    installed.wait_adapter(ADAPTER)


# a release may be older than the gateway
OLD_WAYS = {way: address for way, address in WAYS.items() if way != "gateway"}


def image_of_agents(installed: Installation) -> set[str]:
    return {container(pod, "agent")["image"].rpartition("/")[2] for pod in installed.wait_pods(2)}


def orphan_statefulset(installed: Installation) -> None:
    """Its name for a headless Service cannot change while it lives; its pods go on without it."""
    installed.kube.run("delete", "statefulset", "-l", "app.kubernetes.io/name=vllm", "--cascade=orphan", namespace=TEAM)


@pytest.mark.timeout(1800)
def test_upgrade_from_the_previous_release_and_rollback(
    previous: Installation, installed: Installation, table: Table
) -> None:
    kube = installed.kube
    assert image_of_agents(previous) == {PREVIOUS_IMAGE}
    with users(installed, table, "helm upgrade of the operator", OLD_WAYS):
        installed.upgrade_operator("--wait", "--timeout", "300s")
        installed.wait_adapter(ADAPTER)
    before = {pod["metadata"]["uid"] for pod in installed.pods()}
    with users(installed, table, "helm upgrade of the vLLM pods", OLD_WAYS):
        orphan_statefulset(installed)
        installed.upgrade_pods()
        installed.wait_rolled()
        installed.wait_adapter(ADAPTER)
    assert before.isdisjoint(pod["metadata"]["uid"] for pod in installed.pods())
    assert image_of_agents(installed) == {OPERATOR_IMAGE}
    with users(installed, table, "helm rollback of the operator", OLD_WAYS):
        kube.helm("rollback", OPERATOR_RELEASE, "-n", SYSTEM, "--wait", "--timeout", "300s")
        installed.wait_adapter(ADAPTER)
    with users(installed, table, "helm rollback of the vLLM pods", OLD_WAYS):
        orphan_statefulset(installed)
        kube.helm("rollback", PODS_RELEASE, "-n", TEAM)
        installed.wait_rolled()
        installed.wait_adapter(ADAPTER)
    assert image_of_agents(installed) == {PREVIOUS_IMAGE}
