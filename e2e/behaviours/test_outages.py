"""The API server goes and comes back, a node is lost, a definition changes: on a control plane of their own."""

from __future__ import annotations

import copy
import json
import urllib.error
from collections.abc import Iterator

import pytest
import yaml

from e2e.behaviours.asking import pick
from e2e.behaviours.seen import AuditLog, listed, loads, log_of, unloads
from e2e.behaviours.worlds import Worlds, operator_kubeconfig
from e2e.controlplane import ControlPlane
from e2e.world import OperatorProcess, World
from e2e.world.rest import Json
from e2e.world.world import ROOT, assigned, condition, eventually

DEFINITION = "customresourcedefinition/loraadapters.production-stack.vllm-project"


@pytest.fixture(scope="module")
def own_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane that a test may take away."""
    with ControlPlane.start(tmp_path_factory.mktemp("own-plane")) as plane:
        if plane.existing:
            pytest.skip("an existing cluster's API server is not ours to stop")
        World.install(plane)
        yield plane


@pytest.fixture
def own_worlds(own_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worlds]:
    made = Worlds(own_plane, tmp_path_factory.mktemp("own-worlds"), operator_kubeconfig(own_plane))
    yield made
    made.close()


def test_when_a_node_is_lost_its_copies_are_placed_elsewhere(own_worlds: Worlds) -> None:
    world = own_worlds(3)
    world.adapter("sql")
    world.apply("sql", "sql", deployment={"replicas": 2})
    lost, other = sorted(assigned(world.wait_ready("sql")["status"]))
    node = world.kubectl("get", "pod", lost, "-o", "jsonpath={.spec.nodeName}")
    world.pods.lose_node(node)
    body = world.wait("sql", lambda status: lost not in assigned(status) and condition(status, "Ready") == "True")
    assert other in assigned(body["status"])

    # nobody tells the API server that the pod is gone, until an administrator does
    world.kubectl("delete", "pod", lost, "--force", "--grace-period=0")
    world.pods.wait_ready(world.namespace, 3)
    assert world.kubectl("get", "pod", lost, "-o", "jsonpath={.spec.nodeName}") != node
    after = world.wait_ready("sql")["status"]
    assert after["podAssignments"] == body["status"]["podAssignments"]
    assert set(loads(world).values()) == {1}
    world.pods.restore_node(node)


def test_a_resource_that_an_older_definition_let_in_is_reported_and_harms_no_other(own_worlds: Worlds) -> None:
    world = own_worlds(1)
    world.adapter("sql")
    world.apply("sql", "sql")
    world.wait_ready("sql")
    (shipped,) = [yaml.safe_load(path.read_text()) for path in (ROOT / "crds").glob("loraadapters.*")]
    loose = copy.deepcopy(shipped)
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    loose["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = anything
    world.kubectl("replace", "-f", "-", input=json.dumps(loose | _version_of(world)))
    old = world.manifest("old", "sql") | {"spec": {"baseModel": 7, "adapterSource": "everything"}}
    eventually(lambda: "created" in world.kubectl("apply", "-f", "-", input=json.dumps(old), check=False))
    world.kubectl("replace", "-f", "-", input=json.dumps(shipped | _version_of(world)))

    audit = AuditLog(world.plane.audit_log)
    world.adapter("sql", seed=1)
    world.wait("sql", lambda status: condition(status, "Ready") == "True" and status["adapters"][0]["loaded"] == 1)
    status = world.wait("old", lambda status: condition(status, "SourceReady") == "False")["status"]
    assert next(c["reason"] for c in status["conditions"] if c["type"] == "SourceReady") == "InvalidSpec"
    assert status["phase"] == "Failed"
    world.kubectl("delete", "la", "old", "--wait=false")
    world.wait_gone("old")
    assert len(audit.writes(world.namespace, "lora-operator")) < 20
    assert "Traceback" not in log_of(world)


def _version_of(world: World) -> Json:
    version = world.kubectl("get", DEFINITION, "-o", "jsonpath={.metadata.resourceVersion}")
    name = DEFINITION.partition("/")[2]
    return {"metadata": {"name": name, "resourceVersion": version}}


def test_without_an_api_server_the_operator_keeps_adapters_loaded_and_goes_on_when_it_is_back(
    own_worlds: Worlds,
) -> None:
    # who cannot renew its Lease ends, which is another test's business: here the API server may take long to come back
    world = own_worlds(2, operator=("--lease-seconds", "600"))
    for index, name in enumerate(("sql", "goes", "new", "lazy")):
        world.adapter(name, seed=index)
    world.apply("lazy", "lazy", deployment={"loadOnStartup": False})
    world.wait("lazy", lambda status: condition(status, "SourceReady") == "True")
    for name in ("sql", "goes"):
        world.apply(name, name, deployment={"replicas": 2})
        world.wait_ready(name)
    operator = world.operator
    assert operator is not None

    world.plane.stop_api_server()
    # what it knows of pods and resources is enough to repair what is taken away meanwhile
    engine = world.engine("vllm-0")
    assert engine.unload("sql") == 200
    eventually(lambda: "sql" in engine.models(), what=("it is loaded again",))
    assert operator.fetch("/healthz").startswith("ok")
    status, body = pick(world, operator, "lazy")
    assert (status, body["reason"]) == (503, "ApiServerAway"), "nobody is told that it is on its way"

    world.plane.start_api_server()
    world.apply("new", "new", deployment={"replicas": 2})
    world.kubectl("delete", "la", "goes", "--wait=false")
    world.wait_ready("new")
    world.wait_gone("goes")
    world.wait_ready("sql")
    assert listed(world) == {"vllm-0": ["new", "sql"], "vllm-1": ["new", "sql"]}
    assert operator.process.poll() is None, operator.tail()
    assert "Traceback" not in log_of(world)
    assert unloads(world) == {("vllm-0", "sql"): 1, ("vllm-0", "goes"): 1, ("vllm-1", "goes"): 1}
    eventually(lambda: pick(world, operator, "lazy", 20.0)[0] == 200, what=("lazy is loaded when it is asked for",))


def test_started_before_the_api_server_it_waits_for_it(own_worlds: Worlds) -> None:
    world = own_worlds(1, operator=None)
    world.adapter("sql")
    world.apply("sql", "sql")
    world.plane.stop_api_server()
    operator = world.start_operator(wait=False)
    eventually(lambda: "cannot list what to look after" in log_of(world), what=("it says what it waits for",))
    assert operator.fetch("/healthz") == "no plan yet\n"
    assert _status_of(operator, "/readyz") == 503
    world.plane.start_api_server()
    world.wait_ready("sql")
    operator.wait_ready()
    assert "Traceback" not in log_of(world)


def _status_of(operator: OperatorProcess, path: str) -> int:
    try:
        operator.fetch(path)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    return 200
