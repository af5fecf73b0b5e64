"""Users who ask for an adapter all the while: a pod for each way, be it a Service, a router or the gateway."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from e2e.cluster.behaviours.kube import Kube
from e2e.cluster.own_images import SIMULATOR_IMAGE

SCRIPT = Path(__file__).with_name("in_pod.py")
CONFIG = "asking"


@dataclass
class Outcome:
    """What came of the requests that went one way."""

    answered: Counter[str] = field(default_factory=Counter)  # by the weights that computed the answer
    failed: Counter[str] = field(default_factory=Counter)  # by what went wrong
    longest_gap_seconds: float = 0.0  # between two answers

    def __str__(self) -> str:
        why = ", ".join(f"{count} × {name}" for name, count in self.failed.most_common()) or "-"
        failed = self.failed.total()
        total = self.answered.total() + failed
        return f"{total:>6} requests, {failed:>4} failed, longest gap {self.longest_gap_seconds:5.2f} s: {why}"


@contextmanager
def asking(kube: Kube, namespace: str, adapter: str, ways: Mapping[str, str]) -> Iterator[dict[str, Outcome]]:
    """Ask until the block ends, each way at its address; the outcomes by way are complete after it."""
    outcomes = {way: Outcome() for way in ways}
    names = [f"pod/asking-{way}" for way in ways]
    _remove(kube, namespace, [*names, f"configmap/{CONFIG}"])
    kube.run("create", "configmap", CONFIG, f"--from-file=in_pod.py={SCRIPT}", namespace=namespace)
    for way, address in ways.items():
        kube.apply(client_pod(way, namespace, ["/asking/in_pod.py", way, adapter, address]))
    kube.run("wait", "--for=condition=Ready", *names, "--timeout=120s", namespace=namespace)
    try:
        yield outcomes
        for way in ways:
            _finish(kube, namespace, f"asking-{way}", outcomes[way])
    finally:
        _remove(kube, namespace, names)


def _remove(kube: Kube, namespace: str, names: list[str]) -> None:
    kube.run("delete", "--ignore-not-found", "--grace-period=0", "--force", *names, namespace=namespace)


def _finish(kube: Kube, namespace: str, pod: str, outcome: Outcome) -> None:
    end = "import os, signal; os.kill(1, signal.SIGTERM)"
    # the container may end before kubectl has heard of the end of this command
    kube.run("exec", pod, "--", "python3", "-c", end, namespace=namespace, check=False)
    kube.run("wait", "--for=jsonpath={.status.phase}=Succeeded", f"pod/{pod}", "--timeout=60s", namespace=namespace)
    said = json.loads(kube.run("logs", pod, namespace=namespace).splitlines()[-1])
    outcome.answered.update(said["answered"])
    outcome.failed.update(said["failed"])
    outcome.longest_gap_seconds = said["longest_gap_seconds"]


def client_pod(way: str, namespace: str, arguments: list[str]) -> dict[str, object]:
    """A pod that the charts' NetworkPolicies let through to engines, and that no drain takes away."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"asking-{way}",
            "namespace": namespace,
            "labels": {"app.kubernetes.io/component": "gateway", "app": "asking"},
        },
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "nodeSelector": {"lora-operator.dev/asking": "true"},
            "containers": [
                {
                    "name": "asking",
                    "image": SIMULATOR_IMAGE,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["python3", *arguments],
                    "volumeMounts": [{"name": "script", "mountPath": "/asking"}],
                }
            ],
            "volumes": [{"name": "script", "configMap": {"name": CONFIG}}],
        },
    }
