"""Where a pod stands: the domains over which the replicas of one adapter are spread."""

from __future__ import annotations

from lora_scheduler.model import Pod

HOSTNAME = "kubernetes.io/hostname"
ZONE = "topology.kubernetes.io/zone"


def domain_of(pod: Pod, topology_key: str) -> str:
    """The pod's value of a node label. Without it: for the host name, the node or else the pod itself; for any other
    label one common domain, so that pods on unlabelled nodes are no preferred place to spread to."""
    value = pod.node_labels.get(topology_key)
    if value is not None:
        return value
    return node_of(pod) if topology_key == HOSTNAME else ""


def node_of(pod: Pod) -> str:
    """The pod's node; a pod that is on no known node stands for one of its own."""
    return pod.node or pod.key


def zone_of(pod: Pod) -> str:
    return pod.node_labels.get(ZONE, "")
