"""Plays the kubelet: pods with the label `lora-operator.dev/test-pod: "true"` run as local processes on 127.x.y.z.

`PodRunner` (asyncio), `PodRunnerThread` (from synchronous code), `python -m e2e.pods run` (as a process); the manifests
of pods that it runs are made by `e2e.pods.manifests`.
"""

from e2e.pods.addresses import AddressError
from e2e.pods.container import ContainerError
from e2e.pods.runner import PodRunner, PodRunnerError
from e2e.pods.thread import PodRunnerThread

__all__ = ["AddressError", "ContainerError", "PodRunner", "PodRunnerError", "PodRunnerThread"]
