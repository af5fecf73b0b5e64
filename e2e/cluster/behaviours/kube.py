"""The cluster that the behaviours run on: kubectl and Helm as its administrator, whoever made it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.cluster.cluster import Cluster
from e2e.cluster.envoy_image import load_envoy
from e2e.cluster.existing import load_into_existing
from e2e.cluster.own_images import OwnImages, build_own_images
from e2e.controlplane.existing import existing_kubectl
from e2e.controlplane.helm import run_helm
from e2e.controlplane.plane import run_kubectl
from e2e.world.rest import Json, Rest


@dataclass(frozen=True, slots=True)
class Kube:
    """kubectl and Helm on one cluster; `cluster` is None where the user has it from elsewhere."""

    kubeconfig: Path
    kubectl: Path
    rest: Rest
    cluster: Cluster | None

    @classmethod
    def of(cls, cluster: Cluster) -> Kube:
        return cls(cluster.kubeconfig, cluster.kubectl_path, Rest(cluster.kubeconfig), cluster)

    @classmethod
    def existing(cls, kubeconfig: Path, directory: Path) -> Kube:
        """The user's; a copy of the kubeconfig without references to files is written to `directory`."""
        kubectl = existing_kubectl(os.environ)
        flat = run_kubectl(kubectl, kubeconfig, "config", "view", "--raw", "--minify", "--flatten", "-o", "json")
        copy = directory / "kubeconfig"
        copy.touch(mode=0o600)
        copy.write_text(flat)
        return cls(copy, kubectl, Rest(copy), None)

    def run(self, *arguments: str, input: str | None = None, check: bool = True, namespace: str | None = None) -> str:
        """Run kubectl and return what it prints; see `ControlPlane.kubectl`."""
        return run_kubectl(self.kubectl, self.kubeconfig, *arguments, input=input, check=check, namespace=namespace)

    def apply(self, *objects: Mapping[str, object]) -> None:
        listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.run("apply", "--filename", "-", input=json.dumps(listed))

    def helm(self, *arguments: str) -> str:
        return run_helm(*arguments, kubeconfig=self.kubeconfig)

    def load(self, images: OwnImages) -> None:
        """Put them on every node."""
        if self.cluster is None:
            load_into_existing(images.archive)
        else:
            self.cluster.load(images.archive, images.name)

    def load_own(self) -> None:
        """Put the operator's and the simulator's images on every node, and Envoy's where no registry gives it."""
        own = build_own_images()
        self.load(own)
        if self.cluster is not None:
            load_envoy(self.cluster, own)

    def pods(self, namespace: str, selector: str) -> list[Json]:
        listed = self.rest.get(f"/api/v1/namespaces/{namespace}/pods", labelSelector=selector)
        return list(listed["items"])

    def wait(self, namespace: str, pod: str, done: Callable[[Json], bool], timeout: float = 180.0) -> Json:
        """The pod, once `done(pod)`; an empty object stands for one that is gone."""
        return self.rest.wait(f"/api/v1/namespaces/{namespace}/pods", pod, done, timeout)


def condition(body: Mapping[str, Any], kind: str) -> str:
    """Status of a condition of any object: True, False, Unknown, or nothing."""
    conditions = (body.get("status") or {}).get("conditions") or ()
    return next((str(one["status"]) for one in conditions if one["type"] == kind), "")


def is_ready(pod: Mapping[str, Any]) -> bool:
    return condition(pod, "Ready") == "True" and "deletionTimestamp" not in pod["metadata"]
