"""The configuration of one node: files that kubelet, containerd and kube-proxy read, and how its namespaces begin.

In the node, paths are those of any node (/var/lib/kubelet, /run/containerd): folders of its own are mounted there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from e2e.cluster.layout import DOMAIN, NodeLayout

PAUSE_IMAGE = "localhost/node-tools:1"
# where the node's folder and the programs are mounted in the node
INSIDE = Path("/run/node")
PROGRAMS_INSIDE = Path("/run/programs")
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
PROXY_USER_FILE = "kube-proxy.kubeconfig"

# What the kubelet wants of the kernel. It would change the whole machine: it is shown files that say so already.
TUNABLES = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}

# The first argument is the node's folder, the second that of the programs, the third the node's name.
BEGIN = f"""
set -e
mount --make-rshared /
mkdir -p "$1/run" "$1/var-lib" "$1/var-log" "$1/tunables"
mount -t tmpfs -o mode=755 tmpfs "$1/run"
mkdir "$1/run/node" "$1/run/programs"
mount --bind "$1" "$1/run/node"
mount --bind "$2" "$1/run/programs"
mount --rbind "$1/run" /run
mount --bind {INSIDE}/var-lib /var/lib
mount --bind {INSIDE}/var-log /var/log
hostname "$3"
echo 1 >/proc/sys/net/ipv4/ip_forward
if [ -e /proc/sys/net/bridge/bridge-nf-call-iptables ]; then echo 1 >/proc/sys/net/bridge/bridge-nf-call-iptables; fi
for file in {" ".join(TUNABLES)}; do
  if [ -e "/proc/sys/$file" ]; then mount --bind "{INSIDE}/tunables/$(basename "$file")" "/proc/sys/$file"; fi
done
cd /
exec {PROGRAMS_INSIDE}/pause
"""


def write_node_files(node: NodeLayout, snapshotter: str) -> None:
    """Write them all into the node's folder."""
    node.directory.mkdir(parents=True, exist_ok=True)
    tunables = node.directory / "tunables"
    tunables.mkdir(exist_ok=True)
    for name, value in TUNABLES.items():
        (tunables / Path(name).name).write_text(f"{value}\n")
    (node.directory / "resolv.conf").write_text("")  # nothing to resolve outside of the cluster
    cni = node.directory / "cni"
    cni.mkdir(exist_ok=True)
    (cni / "10-bridge.conflist").write_text(json.dumps(cni_configuration(node), indent=1))
    (node.directory / "kubelet.json").write_text(json.dumps(kubelet_configuration(node), indent=1))
    (node.directory / "kube-proxy.json").write_text(json.dumps(proxy_configuration(node), indent=1))
    (node.directory / "containerd.toml").write_text(containerd_configuration(snapshotter))


def kubelet_configuration(node: NodeLayout) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(INSIDE / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(INSIDE / "kubelet.crt"),
        "tlsPrivateKeyFile": str(INSIDE / "kubelet.key"),
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": node.cgroup,  # nodes of one machine must not take each other's pods for their own
        "enforceNodeAllocatable": [],
        "failCgroupV1": False,
        "failSwapOn": False,
        "clusterDomain": DOMAIN,
        "clusterDNS": [str(node.place.dns)],
        "resolvConf": str(INSIDE / "resolv.conf"),
        # the disk is this machine's, and mostly not filled by pods
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "500Mi", "imagefs.available": "500Mi"},
        "imageGCHighThresholdPercent": 100,
        "imageMinimumGCAge": "24h",
        "nodeStatusUpdateFrequency": "5s",
        "nodeLeaseDurationSeconds": 10,
        "serializeImagePulls": False,
    }


def proxy_configuration(node: NodeLayout) -> dict[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(INSIDE / PROXY_USER_FILE)},
        "hostnameOverride": node.name,
        "clusterCIDR": str(node.place.pods),
        "mode": "iptables",
        # these belong to the whole machine
        "conntrack": {
            "maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s",
        },
        "iptables": {"minSyncPeriod": "100ms"},
    }  # fmt: skip


def containerd_configuration(snapshotter: str) -> str:
    return f"""version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
address = "{CONTAINERD_SOCKET}"
[plugins.'io.containerd.cri.v1.images']
snapshotter = "{snapshotter}"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "{PAUSE_IMAGE}"
[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true  # root of a container or small virtual machine may not lower it, and no pod would start
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
SystemdCgroup = false
BinaryName = "{PROGRAMS_INSIDE}/runc"
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ["{PROGRAMS_INSIDE}"]
conf_dir = "{INSIDE}/cni"
"""


def cni_configuration(node: NodeLayout) -> dict[str, Any]:
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": False,  # nodes and this machine have routes to each other's pods, so that sources stay what they are
        "hairpinMode": True,
        "ipam": {"type": "host-local", "ranges": [[{"subnet": str(node.pods)}]], "routes": [{"dst": "0.0.0.0/0"}]},
    }
    return {
        "cniVersion": "1.0.0",
        "name": "cluster",
        "plugins": [bridge, {"type": "portmap", "capabilities": {"portMappings": True}}],
    }
