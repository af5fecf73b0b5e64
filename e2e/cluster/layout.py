"""Where a cluster has its files and addresses. There is one cluster to a machine, so names and addresses are fixed."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

BRIDGE = "lora0"
CGROUP = "lora-operator-cluster"
NODES_NETWORK = IPv4Network("10.211.0.0/24")
PODS_NETWORK = IPv4Network("10.212.0.0/16")
SERVICES_NETWORK = IPv4Network("10.213.0.0/16")
HOST_ADDRESS = NODES_NETWORK[1]
API_PORT = 6443
API_SERVICE_ADDRESS = SERVICES_NETWORK[1]
DNS_ADDRESS = SERVICES_NETWORK[10]
DOMAIN = "cluster.local"
MAX_NODES = 9
# every process that is started has these in its environment, and children inherit them: so all are found again,
# whoever was killed in between
CLUSTER_MARK = "LORA_OPERATOR_CLUSTER"
PART_MARK = "LORA_OPERATOR_CLUSTER_PART"


@dataclass(frozen=True, slots=True)
class NodeLayout:
    """One node: the folder that holds its disk, and its addresses."""

    number: int  # from 1
    directory: Path

    @property
    def name(self) -> str:
        return f"node{self.number}"

    @property
    def address(self) -> IPv4Address:
        return NODES_NETWORK[10 + self.number]

    @property
    def pods(self) -> IPv4Network:
        return list(PODS_NETWORK.subnets(new_prefix=24))[self.number]

    @property
    def interface(self) -> str:
        """This machine's end of the cable to the node."""
        return f"{BRIDGE}n{self.number}"

    @property
    def cgroup(self) -> str:
        return f"/{CGROUP}/{self.name}"


@dataclass(frozen=True, slots=True)
class Layout:
    """One cluster's files."""

    directory: Path
    api_port: int = API_PORT

    @property
    def url(self) -> str:
        return f"https://{HOST_ADDRESS}:{self.api_port}"

    @property
    def kubeconfig(self) -> Path:
        return self.directory / "kubeconfig"

    @property
    def programs(self) -> Path:
        return self.directory / "bin"

    @property
    def images(self) -> Path:
        """Archives of the images that the cluster itself needs."""
        return self.directory / "images"

    @property
    def secrets(self) -> Path:
        return self.directory / "pki"

    @property
    def etcd_data(self) -> Path:
        return self.directory / "etcd"

    @property
    def nodes(self) -> Path:
        return self.directory / "nodes"

    def node(self, number: int) -> NodeLayout:
        return NodeLayout(number, self.nodes / f"node{number}")

    def log(self, part: str) -> Path:
        return self.directory / f"{part}.log"

    def user_kubeconfig(self, user: str) -> Path:
        return self.secrets / f"{user}.kubeconfig"
