"""One control plane per session with the operator's CRD and rights installed, and worlds on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.behaviours.worlds import Worlds, operator_kubeconfig
from e2e.controlplane import ControlPlane
from e2e.demo.uploads import WebUpload
from e2e.world import World


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane where an administrator has installed the operator's CRD, service account and rights."""
    with ControlPlane.start(tmp_path_factory.mktemp("controlplane")) as plane:
        World.install(plane)
        yield plane


@pytest.fixture(scope="session")
def kubeconfig(plane: ControlPlane) -> Path:
    """The credentials that operators run with."""
    return operator_kubeconfig(plane)


@pytest.fixture
def worlds(plane: ControlPlane, kubeconfig: Path, tmp_path: Path) -> Iterator[Worlds]:
    """Makes worlds that end with the test."""
    made = Worlds(plane, tmp_path, kubeconfig)
    yield made
    made.close()


@pytest.fixture(scope="module")
def store() -> Iterator[WebUpload]:
    """A web server that adapters are offered on."""
    made = WebUpload()
    yield made
    made.close()


@pytest.fixture(scope="module")
def shared_fleet(plane: ControlPlane, kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Three pods and an operator for all tests of a file that leave pods and operator as they are."""
    made = Worlds(plane, tmp_path_factory.mktemp("fleet"), kubeconfig)
    yield made(3)
    made.close()


@pytest.fixture
def fleet(shared_fleet: World) -> Iterator[World]:
    """`shared_fleet`, empty before and after."""
    yield shared_fleet
    shared_fleet.clear()
