"""The charts on a control plane of their own: install, use, upgrade, uninstall in any order, and no right too much."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from e2e.behaviours.asking import RECORD, pick, pick_at
from e2e.behaviours.charts import (
    ACCOUNT,
    CHART,
    CRD,
    CRD_NAME,
    DEPLOYMENTS,
    EDGE,
    RELEASE,
    ROOT,
    TEAM,
    Cluster,
    Json,
)
from e2e.behaviours.routers import a_router, ready
from e2e.behaviours.seen import AuditLog
from e2e.behaviours.traffic import engine_is_ready, is_ready, pod_once
from e2e.controlplane import ControlPlane
from e2e.controlplane.errors import HelmError
from e2e.controlplane.helm import may_have_helm
from e2e.demo.uploads import WebUpload
from e2e.world import World
from e2e.world.adapters import write_adapter
from e2e.world.world import SYSTEM_NAMESPACE, assigned, condition, eventually
from lora_operator.api.usage_record import entry_of

DOCUMENT = ROOT / "docs" / "install.md"
NARROW: dict[str, Any] = {"watchNamespaces": [TEAM, "gone"], "rbac": {"nodes": False}, "crds": {"keep": False}}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One that nobody has installed anything into: the session's has the plain manifests."""
    if why := may_have_helm():
        pytest.skip(why)
    directory = tmp_path_factory.mktemp("helm")
    with ControlPlane.start(directory / "plane") as plane:
        if plane.existing:
            pytest.skip("the charts are installed and removed here, which is not done to a cluster of yours")
        plane.create_namespace(TEAM)
        with World(plane, directory, TEAM, in_process=True) as world:
            yield Cluster(plane, world.rest, world)


def test_installed_from_the_chart_the_operator_loads_adapters_on_pods_of_the_other_chart(
    cluster: Cluster, store: WebUpload
) -> None:
    world = cluster.world
    notes = cluster.install()
    assert [line[:2] for line in notes.splitlines() if line[:2] in ("1.", "2.", "3.")] == ["1.", "2.", "3."]
    agents, operators = cluster.tokens()
    assert agents == operators and len(agents) == 48
    cluster.install_pods(
        "vllm", {"kind": "sharedVolume", "root": str(world.volume)}, servedModelName="tiny", replicas=2,
        readinessGate=True,
    )  # fmt: skip
    disk = str(world.disk)
    cluster.install_pods("edge", {"kind": "nodeDisk", "root": disk, "hostPath": disk}, servedModelName=EDGE)
    cluster.run_operator()
    world.adapter("sql")
    world.apply("sql", "sql", deployment={"replicas": 2})
    _publish(world, store, seed=0)
    far = world.manifest("far", "", source=store.source("far"))
    world.kubectl("apply", "-f", "-", input=json.dumps(far | {"spec": far["spec"] | {"baseModel": EDGE}}))
    assert assigned(world.wait_ready("sql")["status"]) == {"vllm-tiny-0": ["sql"], "vllm-tiny-1": ["sql"]}
    assert assigned(world.wait_ready("far")["status"]) == {"edge-tiny-0": ["far"]}
    assert list((world.disk / "far").glob("*/adapter_model.safetensors")), "the agent has brought it"
    # the readiness gate, and the agent's probe, open once that is so
    world.pods.wait_ready(TEAM, 2, "vllm-tiny-")
    world.pods.wait_ready(TEAM, 1, "edge-tiny-")


def test_helm_test_asks_the_operator_for_its_metrics(cluster: Cluster) -> None:
    played = cluster.play("test")
    assert "Phase:          Succeeded" in cluster.helm("test", RELEASE, "-n", SYSTEM_NAMESPACE, "--timeout", "60s")
    played.join(60)


def test_an_upgrade_keeps_the_token_and_the_adapters_and_brings_the_new_definition(
    cluster: Cluster, store: WebUpload, tmp_path: Path
) -> None:
    before, tokens = cluster.world.get("sql"), cluster.tokens()
    record = cluster.rest.patch(RECORD, {"data": dict([entry_of(TEAM, "another", datetime.now(UTC))])})["data"]
    newer = tmp_path / "lora-operator"
    shutil.copytree(CHART, newer)
    definition = newer / "files" / f"{CRD_NAME}.yaml"
    definition.write_text(definition.read_text().replace("Loaded and wanted adapters", "From a newer chart"))
    cluster.install(chart=newer, replicas=3)
    assert "From a newer chart" in json.dumps(cluster.rest.get(f"{CRD}/{CRD_NAME}"))
    assert cluster.tokens() == tokens
    assert cluster.rest.get(RECORD)["data"] == record, "a request that was accepted is not lost by an upgrade"
    after = cluster.world.get("sql")
    assert (after["metadata"]["uid"], after["status"]) == (before["metadata"]["uid"], before["status"])
    cluster.install()
    cluster.world.stop_operator()
    cluster.run_operator()
    # agents have read their token at their start, and know the new operator by it
    first = cluster.world.get("far")["status"]["adapters"][0]["fingerprint"]
    _publish(cluster.world, store, seed=1)
    cluster.world.wait("far", lambda status: status["adapters"][0]["fingerprint"] != first and _ready(status))


def test_the_operator_was_refused_nothing_and_every_right_was_used_or_is_explained(cluster: Cluster) -> None:
    world = cluster.world
    # what has not happened so far: a private source, a new version, a deletion, an adapter on demand
    _private_source(world)
    _on_demand(world)
    world.adapter("sql", seed=1)
    pod = f"/api/v1/namespaces/{TEAM}/pods/vllm-tiny-0"
    noted = "production-stack.vllm-project/served-versions"
    eventually(lambda: noted in cluster.rest.get(pod)["metadata"]["annotations"], what=("the pod is annotated",))
    world.kubectl("delete", "la", "private", "lazy", "lazier", "--timeout=60s")
    for account, heading in ((ACCOUNT, "the operator"), (f"{ACCOUNT}-router", "routers")):
        requests = [item for item in _all_requests(cluster) if item["user"]["username"] == account]
        refused = [
            f"{item['verb']} {item['requestURI']}" for item in requests if item["responseStatus"]["code"] in (401, 403)
        ]
        assert refused == []
        used = {_right(item["verb"], item["objectRef"]) for item in requests if "resource" in item.get("objectRef", {})}
        used -= {"create selfsubjectaccessreviews"}  # what it may do, everybody may ask
        explained = _documented(heading)
        granted = _granted(cluster, account)
        assert used <= granted, "allowed by something that the chart does not give"
        assert granted - used == {right for right, seen in explained.items() if not seen}
        assert set(explained) == granted


def test_uninstalled_with_adapters_there_it_leaves_them_free_to_be_deleted(cluster: Cluster) -> None:
    world = cluster.world
    assert cluster.finalizers("sql") == ["production-stack.vllm-project/unload"]
    # the pods' chart may go before the operator's, and what was on its pods is let go of
    cluster.helm("uninstall", "edge", "-n", TEAM)
    world.kubectl("delete", "la", "far", "--timeout=60s")
    world.stop_operator()
    _a_pod_that_waits(cluster, 3)
    said = cluster.uninstall()
    assert "1 LoraAdapters can be deleted without it" in said
    assert "opened the readiness gates of 1 pods" in said
    world.pods.wait_ready(TEAM, 3, "vllm-tiny-")
    assert cluster.finalizers("sql") == []
    assert len(world.engine("vllm-tiny-0").models()) == 1, "what served goes on serving"
    assert cluster.rest.get(f"{DEPLOYMENTS}/{RELEASE}") == {}
    left = cluster.plane.kubectl("get", "role,rolebinding,job,secret", "-n", SYSTEM_NAMESPACE, "-o", "name")
    assert left == ""
    world.kubectl("delete", "la", "sql", "--timeout=60s")


def test_installed_again_it_takes_over_the_definition_that_stayed(cluster: Cluster) -> None:
    world = cluster.world
    cluster.install()
    cluster.run_operator()
    world.apply("sql", "sql")
    world.wait_ready("sql")


def test_when_the_operators_namespace_is_deleted_first_a_documented_command_frees_the_adapters(
    cluster: Cluster,
) -> None:
    world = cluster.world
    world.stop_operator()
    claim = f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/persistentvolumeclaims/lora-adapters"
    cluster.rest.patch(claim, {"metadata": {"finalizers": None}})  # whose controller does not run here
    cluster.plane.kubectl("delete", "namespace", SYSTEM_NAMESPACE, "--timeout=60s")
    world.kubectl("delete", "la", "sql", "--wait=false")
    assert cluster.finalizers("sql"), "it waits for an operator that is gone"
    _run_documented(cluster, "let-go")
    world.wait_gone("sql")
    _a_pod_that_waits(cluster, 4)
    _run_documented(cluster, "open-gates")
    world.pods.wait_ready(TEAM, 4, "vllm-tiny-")
    _run_documented(cluster, "remove-rest")
    ours = ("-o", "name", "-l", "app.kubernetes.io/name=lora-operator")
    kinds = "clusterrole,crd,flowschema,validatingadmissionpolicy,mutatingadmissionpolicy"
    assert cluster.plane.kubectl("get", kinds, *ours) == ""


def test_held_to_one_namespace_it_works_with_rights_there_alone(cluster: Cluster) -> None:
    world = cluster.world
    cluster.plane.create_namespace("gone")
    # a Job that gets no pod to run in is given up after this time
    cluster.install("--skip-schema-validation", **NARROW, letGo={"deadlineSeconds": 2})
    log = AuditLog(cluster.plane.audit_log)
    cluster.run_operator()
    world.apply("sql", "sql")
    world.wait_ready("sql")
    mine = [item for item in log.requests() if item["user"]["username"] == ACCOUNT]
    refused = {_right(item["verb"], item["objectRef"]) for item in mine if item["responseStatus"]["code"] == 403}
    assert refused <= {"get nodes"}


def test_an_uninstall_whose_job_cannot_run_ends_and_leaves_everything_at_work(cluster: Cluster) -> None:
    cluster.plane.kubectl("delete", "namespace", "gone", "--wait=false")
    with pytest.raises(HelmError, match=r"Job/lora-operator-system/lora-operator-let-go not ready. status: Failed"):
        cluster.helm("uninstall", RELEASE, "-n", SYSTEM_NAMESPACE, "--timeout", "60s")
    assert cluster.rest.get(f"{DEPLOYMENTS}/{RELEASE}")["spec"]["replicas"] == 2
    assert cluster.finalizers("sql")


def test_uninstalled_without_the_job_the_documented_command_is_what_remains(cluster: Cluster) -> None:
    world = cluster.world
    cluster.rest.wait("/api/v1/namespaces", "gone", lambda body: not body)
    world.adapter("late", seed=9)
    world.apply("late", "late")
    world.wait_ready("late")  # one of the watched namespaces is gone, with the rights there
    world.stop_operator()
    cluster.helm("uninstall", RELEASE, "-n", SYSTEM_NAMESPACE, "--no-hooks")
    # the definition was to go along, and waits for the finalizer of an adapter
    assert cluster.finalizers("sql")
    _run_documented(cluster, "let-go")
    cluster.rest.wait(CRD, CRD_NAME, lambda body: not body)


def _ready(status: Json) -> bool:
    return condition(status, "Ready") == "True"


def _a_pod_that_waits(cluster: Cluster, replicas: int) -> None:
    """One more pod with the gate, which no operator opens."""
    cluster.world.kubectl("scale", "statefulset/vllm-tiny", f"--replicas={replicas}")
    assert not is_ready(pod_once(cluster.world, f"vllm-tiny-{replicas - 1}", engine_is_ready))


def _publish(world: World, store: WebUpload, seed: int) -> None:
    """A version of the adapter that the pods with agents are to have."""
    folder = write_adapter(world.source / "far", base_model=EDGE, seed=seed)
    store.put("far", {file.name: file.read_bytes() for file in folder.iterdir()})


def _private_source(world: World) -> None:
    """A LoraAdapter whose Secret the operator may read, of a source that is not there."""
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "source-credentials"}}
    world.kubectl("apply", "-f", "-", input=json.dumps(secret | {"stringData": {"token": "x"}}))
    body = world.manifest("private", "", source={"type": "http", "repository": "http://127.0.0.1:9/private.tar"})
    body["spec"]["credentialsSecretRef"] = {"name": "source-credentials"}
    world.kubectl("apply", "-f", "-", input=json.dumps(body))
    world.wait("private", lambda status: condition(status, "SourceReady") == "False")


def _on_demand(world: World) -> None:
    """An adapter that the operator's own router is asked for, and one that a router with the chart's account is."""
    for seed, name in enumerate(("lazy", "lazier"), 5):
        world.adapter(name, seed=seed)
        world.apply(name, name, deployment={"loadOnStartup": False})
    for name in ("lazy", "lazier"):
        world.wait(name, lambda status: condition(status, "SourceReady") == "True")
    assert pick(world, world.operator, "lazy", 20.0)[0] == 200
    kubeconfig = world.plane.service_account_kubeconfig(SYSTEM_NAMESPACE, f"{RELEASE}-router")
    with a_router(world, kubeconfig) as url:
        eventually(lambda: ready(url), what=("the router is ready",))
        assert pick_at(url, world, "lazier", 20.0)[0] == 200


def _all_requests(cluster: Cluster) -> list[Json]:
    return [json.loads(line) for line in cluster.plane.audit_log.read_text().splitlines()]


def _right(verb: str, ref: Json) -> str:
    return f"{verb} {ref['resource']}" + (f"/{ref['subresource']}" if ref.get("subresource") else "")


def _granted(cluster: Cluster, account: str) -> set[str]:
    """`verb resource` of all roles that are bound to this account."""
    name = account.rpartition(":")[2]
    found: set[str] = set()
    for kind in ("clusterrolebindings", "rolebindings"):
        for binding in json.loads(cluster.plane.kubectl("get", kind, "-A", "-o", "json"))["items"]:
            subjects = binding.get("subjects") or []
            if not any(one["kind"] == "ServiceAccount" and one["name"] == name for one in subjects):
                continue
            where = ["-n", binding["metadata"]["namespace"]] if kind == "rolebindings" else []
            role = cluster.plane.kubectl(
                "get", binding["roleRef"]["kind"], binding["roleRef"]["name"], *where, "-o", "json"
            )
            for rule in json.loads(role)["rules"]:
                found |= {f"{verb} {resource}" for verb in rule["verbs"] for resource in rule["resources"]}
    return found


def _documented(whose: str) -> dict[str, bool]:
    """A table of rights in docs/install.md: right -> whether it was seen in use."""
    (section,) = re.findall(rf"^#+ What {whose} may do\n(.*?)(?=^#|\Z)", DOCUMENT.read_text(), re.M | re.S)
    rows = re.findall(r"^\| `(\w+ [\w/]+)` \|.*\| (yes|no) \|$", section, re.M)
    return {right: seen == "yes" for right, seen in rows}


def _run_documented(cluster: Cluster, name: str) -> None:
    """Run the shell commands that docs/install.md gives under this mark."""
    text = DOCUMENT.read_text()
    (command,) = re.findall(rf"<!-- {name} -->\n```bash\n(.*?)```", text, re.S)
    path = f"{cluster.plane.kubectl_path.parent}:{os.environ['PATH']}"
    environment = {**os.environ, "KUBECONFIG": str(cluster.plane.kubeconfig), "PATH": path}
    subprocess.run(["bash", "-euc", command], env=environment, check=True, capture_output=True)
