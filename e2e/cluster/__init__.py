"""A real Kubernetes cluster on this machine, as root and without Docker: nodes with kubelet, containerd and kube-proxy.

Each node is a set of namespaces (processes, mounts, network), as those of kind are; `Cluster.start(directory)` from
Python, `python -m e2e.cluster up` by hand.
"""

from e2e.cluster.cluster import Cluster
from e2e.cluster.errors import ClusterError

__all__ = ["Cluster", "ClusterError"]
