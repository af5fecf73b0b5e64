"""Both charts installed as docs/install.md says, with simulated engines in place of vLLM, and a web server."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.behaviours.kube import Kube, is_ready
from e2e.cluster.own_images import OPERATOR_IMAGE
from e2e.cluster.sample import BASE_MODEL, STORE, TEAM, a_lora_adapter, pods_values, store_objects
from e2e.world.rest import GROUP, Json

ROOT = Path(__file__).parents[3]
SYSTEM = "lora-operator-system"
OPERATOR_RELEASE = "lora-operator"
PODS_RELEASE = "vllm"
PODS = f"app.kubernetes.io/name=vllm,app.kubernetes.io/instance={PODS_RELEASE}"
STATEFULSET = f"{PODS_RELEASE}-{BASE_MODEL}"
ENGINES = f"{STATEFULSET}.{TEAM}.svc.cluster.local:8000"
ROUTER = f"{OPERATOR_RELEASE}-router.{SYSTEM}.svc.cluster.local:8082"
GATEWAY = f"{OPERATOR_RELEASE}-gateway.{SYSTEM}.svc.cluster.local:80"
# how users ask: through the pods' Service, a router that they ask first, or the gateway
WAYS = {"service": ENGINES, "router": ROUTER, "gateway": GATEWAY}


@dataclass(frozen=True, slots=True)
class Installation:
    """The operator, its routers and two simulated vLLM pods with agents, in the cluster of `kube`."""

    kube: Kube
    directory: Path
    charts: Path = ROOT / "helm"
    image: str = OPERATOR_IMAGE  # of the operator and its agents

    def install(self) -> None:
        """The commands of docs/install.md."""
        self.install_operator()
        self._offer_adapters()
        self.upgrade_pods("--wait", "--timeout", "300s")

    def install_operator(self, pod_security: str = "baseline", **more: object) -> None:
        """The namespaces, that of the pods under this Pod Security, and the operator with `more` values."""
        self.kube.apply(namespace(SYSTEM, "restricted"), namespace(TEAM, pod_security))
        self.upgrade_operator("--create-namespace", "--wait", "--timeout", "300s", **more)

    def upgrade_operator(self, *flags: str, **more: object) -> None:
        """The operator's chart."""
        self.kube.helm(
            "upgrade", "--install", OPERATOR_RELEASE, str(self.charts / "lora-operator"), "-n", SYSTEM,
            "--values", str(self._values("operator", self.operator_values() | more)), *flags,
        )  # fmt: skip

    def upgrade_pods(self, *flags: str, args: Sequence[str] = ()) -> None:
        """The pods' chart, with these further flags of their engines."""
        values = pods_values(self.image)
        values["modelDefaults"]["args"] = list(args)
        if "gpus:" not in (self.charts / "vllm-lora" / "values.yaml").read_text():  # charts from before 0.1.0
            del values["modelDefaults"]["gpus"]
            values["modelDefaults"]["resources"]["limits"]["nvidia.com/gpu"] = None
        self.install_pods(values, *flags)

    def install_pods(self, values: Json, *flags: str) -> None:
        """The pods' chart with these values."""
        self.kube.helm(
            "upgrade", "--install", PODS_RELEASE, str(self.charts / "vllm-lora"), "-n", TEAM,
            "--values", str(self._values("pods", values)), *flags,
        )  # fmt: skip

    def operator_values(self) -> Json:
        repository, _, tag = self.image.partition(":")
        values: Json = {"image": {"repository": repository, "tag": tag}, "agentToken": {"namespaces": [TEAM]}}
        if "\ngateway:" in (self.charts / "lora-operator" / "values.yaml").read_text():
            # users here have a connection for each request: what ends needs only to leave the Service first
            return values | {"gateway": {"enabled": True, "preStopSeconds": 10}}
        return values | {"adapterVolume": {"enabled": False}}  # as charts from before 0.1.0 have to be told

    def there(self) -> list[str]:
        """Which of the namespaces that this installs into are there already."""
        return [name for name in (TEAM, SYSTEM) if self.kube.rest.get(f"/api/v1/namespaces/{name}")]

    def uninstall(self) -> None:
        """Leave the cluster as it was."""
        for release, namespace in ((PODS_RELEASE, TEAM), (OPERATOR_RELEASE, SYSTEM)):
            self.kube.helm("uninstall", release, "-n", namespace, "--ignore-not-found", "--wait", "--timeout", "300s")
        self.kube.run("delete", "namespace", TEAM, SYSTEM, "--ignore-not-found", "--timeout=180s")

    def declare(
        self, name: str, replicas: int, namespace: str = TEAM, source: Json | None = None, **deployment: object
    ) -> None:
        """A LoraAdapter for what the store has under this name, or for what `source` says of where it is.

        `deployment` is more of its deploymentConfig.
        """
        self.kube.apply(a_lora_adapter(name, replicas, namespace, source, **deployment))

    def wait_adapter(self, name: str, condition: str = "Ready", timeout: int = 180, namespace: str = TEAM) -> None:
        self.kube.run(
            "wait", f"--for=condition={condition}", f"loraadapter/{name}", f"--timeout={timeout}s", namespace=namespace
        )

    def status(self, name: str) -> Json:
        return dict(self.kube.rest.get(f"{GROUP}/namespaces/{TEAM}/loraadapters/{name}").get("status") or {})

    def pods(self) -> list[Json]:
        return sorted(self.kube.pods(TEAM, PODS), key=lambda pod: str(pod["metadata"]["name"]))

    def wait_pods(self, count: int, timeout: float = 300.0) -> list[Json]:
        """The pods, once that many are Ready and none is on its way out."""
        deadline = time.monotonic() + timeout
        for name in (f"{STATEFULSET}-{number}" for number in range(count)):
            self.kube.wait(TEAM, name, lambda pod: bool(pod) and is_ready(pod), max(1.0, deadline - time.monotonic()))
        return self.pods()

    def spread(self) -> None:
        """Roll the vLLM pods, so that they are on different nodes again after a drain."""
        self.kube.run("rollout", "restart", f"statefulset/{STATEFULSET}", namespace=TEAM)
        self.wait_rolled()

    def wait_rolled(self) -> None:
        self.kube.run("rollout", "status", f"statefulset/{STATEFULSET}", "--timeout=280s", namespace=TEAM)

    def scale_operator(self, replicas: int) -> None:
        self.kube.run("scale", f"deployment/{OPERATOR_RELEASE}", f"--replicas={replicas}", namespace=SYSTEM)
        self.kube.run("rollout", "status", f"deployment/{OPERATOR_RELEASE}", "--timeout=180s", namespace=SYSTEM)

    def wait_no_operator(self) -> None:
        """None of its pods is left."""
        selector = "app.kubernetes.io/name=lora-operator,app.kubernetes.io/component=operator"
        self.kube.run("wait", "--for=delete", "pod", "-l", selector, "--timeout=180s", namespace=SYSTEM)

    def _offer_adapters(self) -> None:
        self.kube.run("delete", f"pod/{STORE}", "--ignore-not-found", "--grace-period=0", "--force", namespace=TEAM)
        self.kube.apply(*store_objects(self.directory / "adapters", {"lora-operator.dev/asking": "true"}))
        self.kube.run("wait", "--for=condition=Ready", f"pod/{STORE}", "--timeout=120s", namespace=TEAM)

    def _values(self, name: str, values: Json) -> Path:
        file = self.directory / f"{name}.json"
        file.write_text(json.dumps(values, indent=1))
        return file


def namespace(name: str, pod_security: str) -> dict[str, object]:
    """As strict as the page says that the pods of each chart can bear."""
    labels = {"pod-security.kubernetes.io/enforce": pod_security}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
