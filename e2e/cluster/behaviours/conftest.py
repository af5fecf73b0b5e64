"""One cluster for all behaviours, with the charts installed: the one that runs, one that is started, or the user's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.cluster.behaviours.asking import Outcome
from e2e.cluster.behaviours.installation import Installation
from e2e.cluster.behaviours.kube import Kube
from e2e.cluster.behaviours.page import ROOT, commands, run
from e2e.cluster.cluster import Cluster
from e2e.cluster.errors import UnfitMachineError
from e2e.cluster.preflight import check_machine
from e2e.cluster.sample import ADAPTER, write_sample
from e2e.controlplane.existing import existing_kubeconfig

DIRECTORY = Path(__file__).parents[3] / ".run" / "cluster"


@pytest.fixture(scope="session")
def kube(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kube]:
    """The cluster. One that runs already (`make cluster`) is taken, and left running."""
    if kubeconfig := existing_kubeconfig(os.environ):
        yield Kube.existing(kubeconfig, tmp_path_factory.mktemp("existing"))
        return
    running = Cluster.there(DIRECTORY)
    parts = running.parts()
    if len(parts) > 4 and all(parts.values()):
        yield Kube.of(running)
        return
    try:
        check_machine()
    except UnfitMachineError as error:
        pytest.skip(str(error))
    with Cluster.start(DIRECTORY) as cluster:
        yield Kube.of(cluster)


@pytest.fixture(scope="session")
def images(kube: Kube) -> Iterator[Kube]:
    """The cluster, with the operator's and the simulator's images on its nodes, and one node that users ask from."""
    kube.load_own()
    node = min(node["metadata"]["name"] for node in kube.rest.get("/api/v1/nodes")["items"])
    kube.run("label", "--overwrite", "node", node, "lora-operator.dev/asking=true")
    yield kube
    kube.run("label", "node", node, "lora-operator.dev/asking-")


@pytest.fixture(scope="session")
def empty(images: Kube, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """Nothing of ours is installed."""
    made = Installation(images, tmp_path_factory.mktemp("charts"))
    if images.cluster is None and (there := made.there()):
        pytest.exit(f"namespace {' and '.join(there)} would be removed by these tests: use another cluster")
    made.uninstall()  # what a run left that was killed
    return made


@pytest.fixture(scope="session")
def page(empty: Installation) -> str:
    """What the commands of docs/one-machine.md print, which install both charts. (A Service has no address for others
    on kind, where this machine has no route to it.)"""
    if empty.kube.cluster is None:
        pytest.skip("this machine has no route to the Services of that cluster")
    write_sample(ROOT / ".run" / "sample")
    return run(empty.kube, commands("docs/one-machine.md", "try"))


@pytest.fixture(scope="session")
def installed(empty: Installation) -> Iterator[Installation]:
    """Both charts, and one adapter that is Ready on both pods."""
    made = empty
    made.install()
    made.declare(ADAPTER, replicas=2)
    made.wait_adapter(ADAPTER)
    yield made
    made.uninstall()


@pytest.fixture(scope="session")
def table() -> Iterator[dict[str, dict[str, Outcome]]]:
    """What became of users' requests, by behaviour and way; printed at the end."""
    rows: dict[str, dict[str, Outcome]] = {}
    yield rows
    for behaviour, outcomes in rows.items():
        for way, outcome in outcomes.items():
            print(f"\n{behaviour:<45} {way:<8} {outcome}", end="")
    print()
