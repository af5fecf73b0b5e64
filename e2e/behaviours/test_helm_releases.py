"""What README and pages say of installing, word for word, on a cluster without storage classes; also twice, and from
older charts.

Nothing runs containers here: it is looked at that all is admitted, and that no pod waits for what is not there.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.behaviours.charts import CHART, PODS_CHART, ROOT
from e2e.controlplane import ControlPlane
from e2e.controlplane.errors import HelmError
from e2e.controlplane.helm import find_helm, may_have_helm, run_helm
from e2e.world.world import eventually

SYSTEM = "lora-operator-system"
IMAGE = ("--set", "image.repository=registry.example.com/lora-operator")
AGENT_IMAGE = ("--set", "delivery.agent.image=registry.example.com/lora-operator:0.1.0")
# others need a registry, containers that run, or a person
RUN_HERE = re.compile(r"(helm|kubectl) (?!.*(rollout status| wait | port-forward | -w$|token=hf_))")


@dataclass
class Cluster:
    plane: ControlPlane
    directory: Path

    def helm(self, *arguments: str) -> str:
        return run_helm(*arguments, kubeconfig=self.plane.kubeconfig)

    def get(self, *arguments: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.plane.kubectl("get", *arguments, "-o", "json"))["items"]
        return found

    def shell(self, text: str, directory: Path = ROOT) -> None:
        """Run commands as they stand on a page."""
        programs = [str(program.parent) for program in (self.plane.kubectl_path, find_helm())]
        environment = {**os.environ, "KUBECONFIG": str(self.plane.kubeconfig)}
        environment["PATH"] = ":".join([*programs, os.environ["PATH"]])
        done = subprocess.run(
            ["bash", "-euxc", text], cwd=directory, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    def forget(self) -> None:
        """Remove what was installed, the fast way."""
        for release in json.loads(self.helm("list", "-A", "-o", "json")):
            self.helm("uninstall", release["name"], "-n", release["namespace"], "--no-hooks")
        self.plane.kubectl("delete", "crd", "--all", "--timeout=60s", check=False)
        # the API server's clean-up of a CRD that it has hardly begun to serve may back off for many minutes
        for left in self.plane.kubectl("get", "crd", "-o", "name").split():
            self.plane.kubectl("patch", left, "--type=merge", "-p", '{"metadata":{"finalizers":null}}', check=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if why := may_have_helm():
        pytest.skip(why)
    directory = tmp_path_factory.mktemp("releases")
    with ControlPlane.start(directory / "plane") as plane:
        if plane.existing:
            pytest.skip("the charts are installed and removed here, which is not done to a cluster of yours")
        yield Cluster(plane, directory)


@pytest.fixture
def cluster(made: Cluster) -> Iterator[Cluster]:
    yield made
    made.forget()


def blocks(page: str, pattern: str) -> list[str]:
    """The fences of a page that this pattern leads to, without their indentation."""
    text = (ROOT / page).read_text()
    return [re.sub(rf"^{indent}", "", code, flags=re.M) for indent, code in re.findall(pattern, text, re.M | re.S)]


def can_be_run(commands: str) -> str:
    lines = re.sub(r"\\\n\s*", " ", commands).splitlines()
    return "\n".join(line for line in lines if RUN_HERE.match(line))


README = blocks("README.md", r"<!-- install -->\n()```bash\n(.*?)```")
INSTALL = blocks("docs/install.md", r"<!-- install -->\n()```bash\n(.*?)```")
QUICK_START = blocks("docs/quick-start.md", r"^( +)```bash\n(.*?)^ +```")


@pytest.mark.parametrize(
    ("page", "commands"), [("README", README), ("install", INSTALL), ("quick start", QUICK_START)], ids=lambda it: it
)
def test_the_commands_of_the_pages_install_what_waits_for_nothing(
    cluster: Cluster, page: str, commands: list[str], tmp_path: Path
) -> None:
    text = can_be_run("\n".join(commands))
    assert text.count("helm upgrade --install") == 2
    if page == "install":
        for name in ("helm", "crds"):
            (tmp_path / name).symlink_to(ROOT / name)
        (values,) = blocks("docs/install.md", r"<!-- my-models.yaml -->\n()```yaml\n(.*?)```")
        (tmp_path / "my-models.yaml").write_text(values)
    cluster.plane.kubectl("delete", "namespace", "team-a", "--ignore-not-found", "--timeout=60s")
    cluster.shell(text, tmp_path if page == "install" else ROOT)

    def pods() -> list[dict[str, Any]]:
        return [*cluster.get("pods", "-n", SYSTEM), *cluster.get("pods", "-n", "team-a")]

    workloads = [*cluster.get("deploy", "-A"), *cluster.get("statefulset", "-A")]
    wanted = sum(one["spec"]["replicas"] for one in workloads)
    eventually(lambda: len(pods()) == wanted, what=("all pods are admitted",))
    assert cluster.get("pvc", "-A") == []
    for pod in pods():
        namespace = pod["metadata"]["namespace"]
        secrets = [one["secret"] for one in pod["spec"]["volumes"] if "secret" in one]
        there = {one["metadata"]["name"] for one in cluster.get("secret", "-n", namespace)}
        assert {one["secretName"] for one in secrets if not one.get("optional")} <= there
        images = {one["image"] for one in pod["spec"]["containers"]}
        ours = {one for one in images if not one.startswith(("vllm/", "envoyproxy/"))}
        assert ours <= {"registry.example.com/lora-operator:0.1.0"}
    if page != "install":
        assert [one["metadata"]["name"] for one in cluster.get("loraadapters", "-n", "team-a")] == ["alice"]
    name = f"flowschema/lora-operator.{SYSTEM}"
    cluster.plane.kubectl("wait", "--for=condition=Dangling=False", name, "--timeout=60s")


def test_the_lease_is_asked_for_with_the_priority_of_leader_elections(cluster: Cluster) -> None:
    cluster.helm("install", "lora-operator", str(CHART), "-n", SYSTEM, "--create-namespace", *IMAGE)
    (schema,) = [one for one in cluster.get("flowschema") if one["metadata"]["name"] == f"lora-operator.{SYSTEM}"]
    account = cluster.plane.service_account_kubeconfig(SYSTEM, "lora-operator")
    command = [str(cluster.plane.kubectl_path), "--kubeconfig", str(account), "-n", SYSTEM, "-v=8", "get"]

    def chosen(what: str) -> bool:
        """Whether the API server's answer names this FlowSchema."""
        said = subprocess.run([*command, *what.split()], capture_output=True, text=True, check=False).stderr
        return f"Flowschema-Uid: {schema['metadata']['uid']}" in said

    eventually(lambda: chosen("lease lora-operator"), what=("leases go by it",))
    assert not chosen("pods")


def test_a_release_for_each_tenant_may_have_the_same_name(cluster: Cluster) -> None:
    for tenant in ("one", "two"):
        for name in (tenant, f"{tenant}-system"):
            cluster.plane.create_namespace(name)
        values = f"watchNamespaces={{{tenant}}},agentToken.namespaces={{{tenant}}}"
        crds = f"crds.install={'true' if tenant == 'one' else 'false'}"
        where = ("-n", f"{tenant}-system")
        cluster.helm("install", "lora-operator", str(CHART), *where, *IMAGE, "--set", values, "--set", crds)
    guards = [one["metadata"]["name"] for one in cluster.get("validatingadmissionpolicy")]
    assert guards == ["lora-operator.one-system-pods", "lora-operator.two-system-pods"]


def test_an_older_charts_values_are_taken_over_as_the_page_says(cluster: Cluster, tmp_path: Path) -> None:
    older = tmp_path / "lora-operator"
    shutil.copytree(CHART, older)
    for name in ("templates/flow-schema.yaml", "templates/needed/values/check.yaml", "values.schema.json"):
        (older / name).unlink()
    values = yaml.safe_load((older / "values.yaml").read_text())
    (older / "values.yaml").write_text(yaml.safe_dump({k: v for k, v in values.items() if k != "flowSchema"}))
    where = ("lora-operator", "-n", SYSTEM)
    cluster.helm("install", *where, "--create-namespace", str(older), *IMAGE, "--set", "replicas=3")
    with pytest.raises(HelmError, match=r"the values lack flowSchema, .* use --reset-then-reuse-values instead"):
        cluster.helm("upgrade", *where, str(CHART), "--reuse-values")
    (command,) = re.findall(r"^helm upgrade lora-operator .*$", (ROOT / "docs" / "install.md").read_text(), re.M)
    cluster.shell(command)
    (operator,) = [one for one in cluster.get("deploy", "-n", SYSTEM) if one["metadata"]["name"] == "lora-operator"]
    assert operator["spec"]["replicas"] == 3, "what was chosen stays"
    assert [one for one in cluster.get("flowschema") if one["metadata"]["name"] == f"lora-operator.{SYSTEM}"]


def test_a_tenant_that_comes_later_needs_no_upgrade_and_upgrades_leave_its_token_alone(cluster: Cluster) -> None:
    cluster.plane.create_namespace("team-b")
    where = ("lora-operator", str(CHART), "-n", SYSTEM, *IMAGE)
    cluster.helm("install", *where, "--create-namespace")
    (commands,) = blocks("docs/install.md", r"<!-- one-more -->\n()```bash\n(.*?)```")
    cluster.shell(commands)
    cluster.plane.create_namespace("team-c")
    cluster.helm("upgrade", *where, "--set", "agentToken.namespaces={team-c}")
    theirs, operators = (
        one["data"]
        for namespace in ("team-b", SYSTEM)
        for one in cluster.get("secret", "-n", namespace)
        if one["metadata"]["name"] == "lora-agent-token"
    )
    assert operators["team-b"] == theirs["token"] and set(operators) == {"team-b", "team-c"}


def test_statefulsets_of_earlier_builds_are_taken_over_as_the_page_says(cluster: Cluster, tmp_path: Path) -> None:
    cluster.plane.create_namespace("team-d")
    older = tmp_path / "vllm-lora"
    shutil.copytree(PODS_CHART, older)
    template = older / "templates" / "workload.yaml"
    template.write_text(template.read_text().replace("{{ $name }}-headless", "{{ $name }}"))
    models = ("--values", str(ROOT / "helm" / "examples" / "models.yaml"), *AGENT_IMAGE)
    cluster.helm("install", "vllm", str(older), "-n", "team-d", *models)
    eventually(lambda: len(cluster.get("pods", "-n", "team-d")) == 2, what=("the pods are there",))
    with pytest.raises(HelmError, match="updates to statefulset spec for fields other than"):
        cluster.helm("upgrade", "vllm", str(PODS_CHART), "-n", "team-d", *models)
    (command,) = re.findall(r"^ +(kubectl .* --cascade=orphan)$", (ROOT / "docs" / "upgrade.md").read_text(), re.M)
    cluster.shell(command.replace("team-a", "team-d"))
    assert len(cluster.get("pods", "-n", "team-d")) == 2
    cluster.helm("upgrade", "vllm", str(PODS_CHART), "-n", "team-d", *models)
    (made,) = cluster.get("statefulset", "-n", "team-d")
    assert made["spec"]["serviceName"] == "vllm-qwen3-headless"


def test_each_pod_gets_a_claim_where_that_is_chosen_and_a_deployment_none(cluster: Cluster) -> None:
    cluster.plane.create_namespace("team-e")
    file = cluster.directory / "models.json"
    stateful = {"name": "a", "model": "m", "replicas": 2, "modelCache": {"size": "1Gi"}}
    models = [stateful, {"name": "b", "model": "m", "workload": "Deployment", "gpus": 0}]
    file.write_text(json.dumps({"models": models}))
    cluster.helm("install", "vllm", str(PODS_CHART), "-n", "team-e", "--values", str(file), *AGENT_IMAGE)
    eventually(lambda: len(cluster.get("pods", "-n", "team-e")) == 3, what=("the pods are there",))
    claims = {one["metadata"]["name"] for one in cluster.get("pvc", "-n", "team-e")}
    assert claims == {"model-cache-vllm-a-0", "model-cache-vllm-a-1"}
