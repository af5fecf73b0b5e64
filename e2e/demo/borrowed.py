"""A cluster that the user had before: what the demo has put there is taken away again."""

from __future__ import annotations

from collections.abc import Callable

from e2e.controlplane.errors import KubectlError
from e2e.demo.samples import NAMESPACE
from e2e.world.world import INSTALLED

UNINSTALL = f"kubectl delete -f=manifests/install/{{{','.join(INSTALLED[1:])}}}.yaml -f crds/"

Kubectl = Callable[..., str]


def remove_adapters(kubectl: Kubectl) -> None:
    """Delete all LoraAdapters of the demo while the operator is there to let go of them; without it, by force."""
    try:
        kubectl("delete", "loraadapters", "--all", "--timeout=20s")
    except KubectlError:
        names = kubectl("get", "loraadapters", "-o", "name", "--ignore-not-found").split()
        for name in names:
            kubectl("patch", name, "--type=merge", "-p", '{"metadata":{"finalizers":null}}')


def remove_namespace(kubectl: Kubectl) -> None:
    """While somebody is there to end its pods."""
    kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=60s")


def remove_nodes(kubectl: Kubectl) -> None:
    """Those that were made for test pods, once nobody keeps them alive."""
    kubectl("delete", "nodes", "-l", "lora-operator.dev/test-node=true")
