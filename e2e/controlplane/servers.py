"""The command lines of the three servers, for a plane that is quick, small and loses everything when it ends."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from e2e.controlplane.binaries import Binaries
from e2e.controlplane.credentials import CONTROLLERS_USER, Credentials

# what users' objects need; the rest would only cost start-up time and idle wake-ups
CONTROLLERS = (
    "clusterrole-aggregation-controller",
    "cronjob-controller",
    "daemonset-controller",
    "deployment-controller",
    "disruption-controller",
    "endpoints-controller",
    "endpointslice-controller",
    "garbage-collector-controller",
    "job-controller",
    "namespace-controller",
    "node-lifecycle-controller",
    "pod-garbage-collector-controller",
    "replicaset-controller",
    "resourcequota-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
    "statefulset-controller",
    "taint-eviction-controller",
    "ttl-after-finished-controller",
)

# one line per finished request; what the control plane asks itself is left out, or it would be most of the log
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "None", "users": ["system:apiserver"]},
        {"level": "None", "users": [CONTROLLERS_USER], "verbs": ["get", "list", "watch"]},
        {"level": "None", "nonResourceURLs": ["/healthz*", "/livez*", "/readyz*"]},
        {"level": "None", "resources": [{"group": "coordination.k8s.io", "resources": ["leases"]}], "users": ["admin"]},
        {"level": "Metadata"},
    ],
}


@dataclass(frozen=True, slots=True)
class Layout:
    """Where one plane has its files, and its three ports on 127.0.0.1."""

    directory: Path
    api_port: int
    etcd_port: int
    peer_port: int

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.api_port}"

    @property
    def kubeconfig(self) -> Path:
        return self.directory / "kubeconfig"

    @property
    def controllers_kubeconfig(self) -> Path:
        return self.directory / "kubeconfig-controllers"

    @property
    def audit_log(self) -> Path:
        return self.directory / "audit.log"

    @property
    def etcd_data(self) -> Path:
        return self.directory / "etcd"

    @property
    def certificates(self) -> Path:
        return self.directory / "certificates"

    @property
    def authority(self) -> Path:
        """The API server's own chain: it signs itself at its first start."""
        return self.certificates / "apiserver.crt"

    def log(self, name: str) -> Path:
        return self.directory / f"{name}.log"


def etcd_command(binaries: Binaries, layout: Layout) -> list[str]:
    client, peer = f"http://127.0.0.1:{layout.etcd_port}", f"http://127.0.0.1:{layout.peer_port}"
    return [
        str(binaries.etcd),
        "--name=local",
        f"--data-dir={layout.etcd_data}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=local={peer}",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def api_server_command(binaries: Binaries, layout: Layout, credentials: Credentials) -> list[str]:
    policy = layout.directory / "audit-policy.json"
    policy.write_text(json.dumps(AUDIT_POLICY))
    return [
        str(binaries.kube_apiserver),
        f"--etcd-servers=http://127.0.0.1:{layout.etcd_port}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        # the API server refuses loopback addresses in EndpointSlices, its own included
        "--endpoint-reconciler-type=none",
        f"--secure-port={layout.api_port}",
        f"--cert-dir={layout.certificates}",
        "--authorization-mode=Node,RBAC",
        f"--token-auth-file={credentials.tokens_file}",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={credentials.signing_key}",
        f"--service-account-signing-key-file={credentials.signing_key}",
        "--service-cluster-ip-range=10.96.0.0/16",
        "--allow-privileged=true",
        f"--audit-policy-file={policy}",
        f"--audit-log-path={layout.audit_log}",
        "--audit-log-maxsize=4096",
        "--profiling=false",
        "--v=1",
    ]


def controller_manager_command(binaries: Binaries, layout: Layout, node_grace_seconds: float) -> list[str]:
    """`node_grace_seconds`: how long after its last Lease renewal a Node counts as lost."""
    return [
        str(binaries.kube_controller_manager),
        f"--kubeconfig={layout.controllers_kubeconfig}",
        f"--controllers={','.join(CONTROLLERS)}",
        f"--root-ca-file={layout.authority}",
        "--leader-elect=false",
        "--secure-port=0",
        "--kube-api-qps=500",
        "--kube-api-burst=500",
        "--node-monitor-period=1s",
        f"--node-monitor-grace-period={node_grace_seconds:g}s",
        "--profiling=false",
        "--v=1",
    ]
