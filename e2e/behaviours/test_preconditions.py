"""What operator and router cannot do without is missing: they say so once, are not ready, and heal by themselves."""

from __future__ import annotations

import copy
import json
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator

import pytest
import yaml

from e2e.behaviours.routers import a_router
from e2e.behaviours.seen import log_of
from e2e.behaviours.worlds import Worlds, operator_kubeconfig
from e2e.controlplane import ControlPlane
from e2e.world import World
from e2e.world.world import ROOT, SERVICE_ACCOUNT, SYSTEM_NAMESPACE, eventually

INSTALL = ROOT / "manifests" / "install"
DEFINITION = "crd/loraadapters.production-stack.vllm-project"
NOT_DEFINED = "the CustomResourceDefinition loraadapters.production-stack.vllm-project is missing: apply crds/"
NO_RIGHTS = "the service account may not list/watch"


@pytest.fixture(scope="module")
def bare_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane with the operator's account, and without its rights and the definition."""
    with ControlPlane.start(tmp_path_factory.mktemp("bare-plane")) as plane:
        if plane.existing:
            pytest.skip("the definition of an existing cluster is not ours to remove")
        plane.kubectl("apply", "-f", str(INSTALL / "namespace.yaml"))
        plane.kubectl("create", "serviceaccount", SERVICE_ACCOUNT, namespace=SYSTEM_NAMESPACE)
        yield plane


@pytest.fixture(scope="module")
def bare_worlds(bare_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worlds]:
    made = Worlds(bare_plane, tmp_path_factory.mktemp("bare-worlds"), operator_kubeconfig(bare_plane))
    yield made
    made.close()


def test_rights_and_definition_may_come_late_grow_and_go_without_a_new_start(bare_worlds: Worlds) -> None:
    world = bare_worlds(1, operator=None)
    plane = world.plane
    operator = world.start_operator(wait=False)
    ready = f"http://127.0.0.1:{operator.health_port}/readyz"
    with a_router(world, operator_kubeconfig(plane), "--namespace", world.namespace) as url:
        router = f"{url}/readyz"
        for url in (ready, router):
            until_said(url, NOT_DEFINED)
            until_said(url, NO_RIGHTS)
        assert "and 2 more: give it the chart's Roles, or manifests/install/rbac.yaml" in unready(ready)
        for name in ("rbac", "requests"):
            plane.kubectl("apply", "-f", str(INSTALL / f"{name}.yaml"))
        (shipped,) = [yaml.safe_load(path.read_text()) for path in (ROOT / "crds").glob("loraadapters.*")]
        older = copy.deepcopy(shipped)
        del older["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["selection"]
        define(world, older)
        for url in (ready, router):
            until_said(url, "older version, without spec.selection: apply")
            assert NO_RIGHTS not in said(url)
        # it is not ready, so that a roll-out stops; what is there is looked after with what the old one can say
        world.adapter("early")
        world.apply("early", "early")
        world.wait_ready("early")
        world.kubectl("delete", "la", "early", "--timeout=60s")
        define(world, shipped)
        of_pods = "the CustomResourceDefinition loraendpoints.production-stack.vllm-project is missing"
        until_said(ready, of_pods)
        (endpoints,) = [yaml.safe_load(path.read_text()) for path in (ROOT / "crds").glob("loraendpoints.*")]
        define(world, endpoints)
        operator.wait_ready()
        eventually(lambda: unready(router) == "", what=("the router is ready",))
        world.adapter("sql")
        world.apply("sql", "sql")
        world.wait_ready("sql")

        world.kubectl("delete", DEFINITION, "--timeout=60s")
        eventually(lambda: NOT_DEFINED in unready(ready), what=("the operator says that it is gone",))
        assert unready(router) == "", "the router goes on with the table that it has"
        time.sleep(8)  # longer than a watch is tried again before its resource counts as gone
        assert unready(router) == ""
        define(world, shipped)
        operator.wait_ready()
        world.apply("sql", "sql")
        world.wait_ready("sql")
        assert operator.process.poll() is None
    for log in (log_of(world), (world.directory / "router.log").read_text()):
        complaints = [line for line in log.splitlines() if " ERROR " in line or " WARNING " in line]
        # the rights come in pieces, of which each may be seen; nothing is said again but that the CRD is gone, again
        told = Counter(line.split(maxsplit=1)[1].partition(" has not been fresh")[0] for line in complaints)
        again = {text: times for text, times in told.items() if times > 1}
        assert len(complaints) <= 10 and all(NOT_DEFINED in text for text in again), complaints
        assert all(times == 2 for times in again.values()), complaints
        assert "Traceback" not in log


def test_a_crd_deleted_while_no_operator_runs_waits_for_one_and_may_be_created_again(bare_worlds: Worlds) -> None:
    world = bare_worlds(1, operator=None)
    plane = world.plane
    plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "crds"))
    plane.wait_established(*(f"{kind}.production-stack.vllm-project" for kind in ("loraadapters", "loraendpoints")))
    for name in ("rbac", "requests"):
        plane.kubectl("apply", "-f", str(INSTALL / f"{name}.yaml"))
    operator = world.start_operator()
    world.adapter("sql")
    world.apply("sql", "sql")
    world.wait_ready("sql")
    assert operator.stop() == 0

    world.kubectl("delete", DEFINITION, "--wait=false")
    eventually(lambda: "InstanceDeletionInProgress" in why_it_stays(world), what=("it deletes what is left",))
    world.rest.wait(world.collection, "sql", lambda body: "deletionTimestamp" in body["metadata"])
    refused = world.kubectl("apply", "-f", "-", input=json.dumps(world.manifest("late", "sql")), check=False)
    assert "created" not in refused
    assert world.engine("vllm-0").models().keys() == {"sql"}, "nobody is there to unload it"

    operator = world.start_operator(wait=False)
    eventually(lambda: world.engine("vllm-0").models() == {}, what=("it is unloaded",))
    world.kubectl("wait", "--for=delete", DEFINITION, "--timeout=120s")
    until_said(f"http://127.0.0.1:{operator.health_port}/readyz", NOT_DEFINED)
    plane.kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
    operator.wait_ready()
    world.apply("sql", "sql")
    world.wait_ready("sql")
    assert "Traceback" not in log_of(world)


def why_it_stays(world: World) -> str:
    """The CRD's conditions."""
    return world.kubectl("get", DEFINITION, "-o", "jsonpath={.status.conditions}")


def until_said(url: str, text: str) -> None:
    eventually(lambda: text in said(url), what=(url, text))


def define(world: World, body: object) -> None:
    world.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(body))


def unready(url: str) -> str:
    """What it says while it is not ready."""
    try:
        with urllib.request.urlopen(url, timeout=5):
            return ""
    except urllib.error.HTTPError as error:
        with error:
            return error.read().decode()
    except OSError:
        return "(no answer yet)"


def said(url: str) -> str:
    """What it says, ready or not."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return str(answer.read().decode())
    except OSError:
        return unready(url)
