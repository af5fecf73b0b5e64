"""Where a cluster has its files and addresses. Clusters of one machine are numbered, and each number has its own."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

BRIDGES = "lora"
CGROUPS = "lora-operator-cluster"
FIRST_NETWORK = 211  # 10.211.0.0/16 and the two after it are those of cluster 0
MAX_CLUSTERS = 5
API_PORT = 6443
DOMAIN = "cluster.local"
MAX_NODES = 9
# every process that is started has these in its environment, and children inherit them: so all are found again,
# whoever was killed in between
CLUSTER_MARK = "LORA_OPERATOR_CLUSTER"
NUMBER_MARK = "LORA_OPERATOR_CLUSTER_NUMBER"
PART_MARK = "LORA_OPERATOR_CLUSTER_PART"


@dataclass(frozen=True, slots=True)
class Place:
    """What the cluster of this number has of the machine: networks, a bridge, a control group."""

    number: int  # from 0

    @property
    def bridge(self) -> str:
        return f"{BRIDGES}{self.number}"

    @property
    def cgroup(self) -> str:
        return f"{CGROUPS}{self.number}"

    @property
    def nodes(self) -> IPv4Network:
        return IPv4Network(f"10.{self._first}.0.0/24")

    @property
    def pods(self) -> IPv4Network:
        return IPv4Network(f"10.{self._first + 1}.0.0/16")

    @property
    def services(self) -> IPv4Network:
        return IPv4Network(f"10.{self._first + 2}.0.0/16")

    @property
    def host(self) -> IPv4Address:
        """This machine's address on the bridge."""
        return self.nodes[1]

    @property
    def api_service(self) -> IPv4Address:
        return self.services[1]

    @property
    def dns(self) -> IPv4Address:
        return self.services[10]

    @property
    def _first(self) -> int:
        return FIRST_NETWORK + 3 * self.number


@dataclass(frozen=True, slots=True)
class NodeLayout:
    """One node: the folder that holds its disk, and its addresses."""

    number: int  # from 1
    directory: Path
    place: Place

    @property
    def name(self) -> str:
        return f"node{self.number}"

    @property
    def address(self) -> IPv4Address:
        return self.place.nodes[10 + self.number]

    @property
    def pods(self) -> IPv4Network:
        return list(self.place.pods.subnets(new_prefix=24))[self.number]

    @property
    def interface(self) -> str:
        """This machine's end of the cable to the node."""
        return f"{self.place.bridge}n{self.number}"

    @property
    def cgroup(self) -> str:
        return f"/{self.place.cgroup}/{self.name}"


@dataclass(frozen=True, slots=True)
class Layout:
    """One cluster's files."""

    directory: Path
    place: Place = Place(0)
    api_port: int = API_PORT

    @property
    def url(self) -> str:
        return f"https://{self.place.host}:{self.api_port}"

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
        return NodeLayout(number, self.nodes / f"node{number}", self.place)

    def log(self, part: str) -> Path:
        return self.directory / f"{part}.log"

    def user_kubeconfig(self, user: str) -> Path:
        return self.secrets / f"{user}.kubeconfig"
