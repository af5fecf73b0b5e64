"""The command lines of the control plane for real nodes: it listens on the bridge that the nodes are plugged into."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.authority import Certificate
from e2e.cluster.layout import DOMAIN, Layout

NODE_GRACE_SECONDS = 20
CONTROLLERS_USER = "system:kube-controller-manager"
SCHEDULER_USER = "system:kube-scheduler"
PROXY_USER = "system:kube-proxy"


@dataclass(frozen=True, slots=True)
class Identity:
    """What the API server shows to others, and knows them by."""

    authority: Path
    server: Certificate
    kubelet_client: Certificate
    signing_key: Path
    tokens: Path


def etcd_command(layout: Layout, client_port: int, peer_port: int) -> list[str]:
    client, peer = f"http://127.0.0.1:{client_port}", f"http://127.0.0.1:{peer_port}"
    return [
        str(layout.programs / "etcd"),
        "--name=local",
        f"--data-dir={layout.etcd_data}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=local={peer}",
        "--unsafe-no-fsync",  # nothing outlives `down`
        "--log-level=warn",
    ]


def api_server_command(layout: Layout, etcd_port: int, identity: Identity) -> list[str]:
    return [
        str(layout.programs / "kube-apiserver"),
        f"--etcd-servers=http://127.0.0.1:{etcd_port}",
        f"--bind-address={layout.place.host}",
        f"--advertise-address={layout.place.host}",
        f"--secure-port={layout.api_port}",
        f"--tls-cert-file={identity.server.certificate}",
        f"--tls-private-key-file={identity.server.key}",
        f"--token-auth-file={identity.tokens}",
        f"--client-ca-file={identity.authority}",
        f"--kubelet-certificate-authority={identity.authority}",
        f"--kubelet-client-certificate={identity.kubelet_client.certificate}",
        f"--kubelet-client-key={identity.kubelet_client.key}",
        "--kubelet-preferred-address-types=InternalIP",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        f"--service-account-issuer=https://kubernetes.default.svc.{DOMAIN}",
        f"--service-account-key-file={identity.signing_key}",
        f"--service-account-signing-key-file={identity.signing_key}",
        f"--service-cluster-ip-range={layout.place.services}",
        # no kube-proxy runs beside it: it calls webhooks' and aggregated APIs' pods, to which this machine has routes
        "--enable-aggregator-routing=true",
        f"--requestheader-client-ca-file={identity.authority}",
        "--requestheader-allowed-names=front-proxy",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={identity.kubelet_client.certificate.with_name('front-proxy.crt')}",
        f"--proxy-client-key-file={identity.kubelet_client.certificate.with_name('front-proxy.key')}",
        "--allow-privileged=true",
        "--profiling=false",
        "--v=1",
    ]


def controller_manager_command(layout: Layout, identity: Identity) -> list[str]:
    return [
        str(layout.programs / "kube-controller-manager"),
        f"--kubeconfig={layout.user_kubeconfig(CONTROLLERS_USER)}",
        f"--service-account-private-key-file={identity.signing_key}",
        f"--root-ca-file={identity.authority}",
        "--use-service-account-credentials=true",
        f"--cluster-cidr={layout.place.pods}",
        "--leader-elect=false",
        "--secure-port=0",
        "--kube-api-qps=200",
        "--kube-api-burst=200",
        "--node-monitor-period=2s",
        f"--node-monitor-grace-period={NODE_GRACE_SECONDS}s",
        "--profiling=false",
        "--v=1",
    ]


def scheduler_command(layout: Layout) -> list[str]:
    return [
        str(layout.programs / "kube-scheduler"),
        f"--kubeconfig={layout.user_kubeconfig(SCHEDULER_USER)}",
        "--leader-elect=false",
        "--secure-port=0",
        "--v=1",
    ]
