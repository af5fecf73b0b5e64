"""Starts, holds and ends one cluster: the control plane on this machine, and nodes in namespaces of their own."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from e2e.cluster.archive import write_program_image
from e2e.cluster.authority import ADMINISTRATORS, Authority, Users, make_users
from e2e.cluster.errors import ClusterError, StartError
from e2e.cluster.layout import API_PORT, DOMAIN, MAX_NODES, Layout, Place
from e2e.cluster.leftovers import Traces, remove
from e2e.cluster.marks import marked_processes
from e2e.cluster.network import make_bridge
from e2e.cluster.node import DAEMONS, NODE_GROUP, Node, node_user
from e2e.cluster.node_files import PAUSE_IMAGE
from e2e.cluster.parts import Parts
from e2e.cluster.preflight import check_machine, find_room
from e2e.cluster.programs import find_programs
from e2e.cluster.servers import (
    CONTROLLERS_USER,
    PROXY_USER,
    SCHEDULER_USER,
    Identity,
    api_server_command,
    controller_manager_command,
    etcd_command,
    scheduler_command,
)
from e2e.controlplane.credentials import ec_private_key_pem, write_kubeconfig
from e2e.controlplane.helm import find_helm
from e2e.controlplane.plane import run_kubectl
from e2e.controlplane.processes import free_ports, tail

MANIFESTS = Path(__file__).parent / "manifests"
SERVERS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
ADMIN = "admin"
START_SECONDS = 120.0
# metrics come a while later, and nobody waits for them
AWAITED = {"kube-system": "coredns", "local-path-storage": "local-path-provisioner"}
POLL_SECONDS = 0.05
# programs that run in pods, each in an image of its own
ADDONS = {name: f"localhost/{name}:1" for name in ("coredns", "local-path-provisioner", "metrics-server")}


class Cluster:
    """The cluster in a folder, started here or by another process. As a context manager it is ended at the end."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._parts: Parts | None = None  # those that were started here

    @classmethod
    def there(cls, directory: Path) -> Self:
        """The one that was started in this folder, if any of it still runs."""
        directory = directory.absolute()
        number = next((one.number for one in marked_processes(directory)), 0)
        return cls(Layout(directory, Place(number)))

    @classmethod
    def start(cls, directory: Path, *, nodes: int = 2, api_port: int = API_PORT, detached: bool = False) -> Self:
        """Start a fresh one: nodes Ready, DNS, a default StorageClass. It ends with this process unless `detached`.

        Raises:
            UnfitMachineError: this machine cannot run it.
            LeftoverError: there is one already.
            BinariesError: some program could not be had.
            StartError: a part of it did not start; what was started is ended.
        """
        if not 1 <= nodes <= MAX_NODES:
            raise ClusterError(f"{nodes} nodes: choose between 1 and {MAX_NODES}")
        directory = directory.absolute()
        check_machine()
        find_room(directory, api_port)  # before minutes are spent on programs
        programs = find_programs() | {"helm": find_helm()}  # that for whoever uses it
        cluster = cls(Layout(directory, find_room(directory, api_port), api_port))
        remove(directory)  # data of an old one that nothing holds any more
        try:
            cluster._parts = Parts(cluster.layout, detached=detached)
            cluster._start(programs, nodes, cluster._parts)
        except BaseException:
            cluster.stop()
            raise
        return cluster

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> Traces:
        """End everything and remove what it left; logs stay. Returns what was there."""
        found = remove(self.layout.directory)
        if self._parts:
            self._parts.close()
        return found

    @property
    def kubeconfig(self) -> Path:
        return self.layout.kubeconfig

    @property
    def kubectl_path(self) -> Path:
        return self.layout.programs / "kubectl"

    def kubectl(
        self, *arguments: str, input: str | None = None, check: bool = True, namespace: str | None = None
    ) -> str:
        """Run kubectl as the administrator and return what it prints.

        Raises:
            KubectlError: it failed and `check` is true. Without `check`, stderr is appended to what is returned.
        """
        return run_kubectl(
            self.kubectl_path, self.kubeconfig, *arguments, input=input, check=check, namespace=namespace
        )

    def nodes(self) -> list[Node]:
        """Those that were started, whether they run or not."""
        numbers = sorted(int(path.name.removeprefix("node")) for path in self.layout.nodes.glob("node*"))
        return [Node(self.layout, self.layout.node(number)) for number in numbers]

    def load(self, archive: Path, name: str = "") -> None:
        """Import the images of a docker-archive or OCI archive into every node, but those that have an image `name`.

        Raises:
            ImageError: containerd refuses.
        """
        nodes = [node for node in self.nodes() if not name or not node.has_image(name)]
        with ThreadPoolExecutor() as threads:
            list(threads.map(lambda node: node.load(archive), nodes))

    def parts(self) -> dict[str, int | None]:
        """The process number of each part, or None where it has ended."""
        processes = marked_processes(self.layout.directory)
        names = {name: name for name in SERVERS}
        for node in self.nodes():
            names[node.layout.name] = "pause"
            names |= {f"{daemon}@{node.layout.name}": daemon for daemon in DAEMONS}
        found = {(one.part, one.program): one.pid for one in processes}
        return {part: found.get((part, program)) for part, program in names.items()}

    def _start(self, programs: dict[str, Path], count: int, parts: Parts) -> None:
        layout = self.layout
        layout.directory.mkdir(parents=True, exist_ok=True)
        for log in layout.directory.glob("*.log"):
            log.unlink()
        _put_together(programs, layout.programs)
        self._make_images()
        make_bridge(layout.place)
        nodes = [Node(layout, layout.node(number)) for number in range(1, count + 1)]
        authority = Authority(layout.secrets)
        groups = {ADMIN: ADMINISTRATORS, CONTROLLERS_USER: "", SCHEDULER_USER: "", PROXY_USER: ""}
        users = make_users(layout.secrets, groups | {node_user(node.layout): NODE_GROUP for node in nodes})
        self._start_servers(parts, authority, users)
        for node in nodes:
            node.give_credentials(authority, users)
            node.start(parts, [other.layout for other in nodes if other is not node])
        for name in ADDONS:
            self.load(layout.images / f"{name}.tar")
        for manifest in sorted(MANIFESTS.glob("*.yaml")):
            text = manifest.read_text().replace("$DNS_ADDRESS", str(layout.place.dns))
            self.kubectl("apply", "--filename", "-", input=text)
        self._wait_for_nodes(nodes)

    def _make_images(self) -> None:
        bin_, directory = self.layout.programs, self.layout.images
        directory.mkdir(exist_ok=True)
        tools = {name: bin_ / name for name in ("pause", "volume")}
        write_program_image(PAUSE_IMAGE, tools, directory / "node-tools.tar")
        for name, image in ADDONS.items():
            write_program_image(image, {name: bin_ / name}, directory / f"{name}.tar")

    def _start_servers(self, parts: Parts, authority: Authority, users: Users) -> None:
        layout = self.layout
        signing_key = layout.secrets / "service-account.key"
        signing_key.touch(mode=0o600)
        signing_key.write_text(ec_private_key_pem())
        names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", f"kubernetes.default.svc.{DOMAIN}"]
        authority.issue("front-proxy")
        identity = Identity(
            authority=authority.certificate,
            server=authority.issue(
                "kube-apiserver", names=names, addresses=[layout.place.host, layout.place.api_service]
            ),
            kubelet_client=authority.issue("kube-apiserver-kubelet-client", group=ADMINISTRATORS),
            signing_key=signing_key,
            tokens=users.file,
        )
        for user in (CONTROLLERS_USER, SCHEDULER_USER, ADMIN):
            kubeconfig = layout.kubeconfig if user == ADMIN else layout.user_kubeconfig(user)
            write_kubeconfig(
                kubeconfig,
                url=layout.url,
                authority=authority.certificate.read_bytes(),
                token=users.tokens[user],
                user=user,
            )
        client_port, peer_port = free_ports(2)
        started = {
            "etcd": self._launch(parts, "etcd", etcd_command(layout, client_port, peer_port)),
            "kube-apiserver": self._launch(parts, "kube-apiserver", api_server_command(layout, client_port, identity)),
        }
        self._wait_for("/readyz", started, users.tokens[ADMIN], authority.certificate)
        controllers = controller_manager_command(layout, identity)
        started["kube-controller-manager"] = self._launch(parts, "kube-controller-manager", controllers)
        started["kube-scheduler"] = self._launch(parts, "kube-scheduler", scheduler_command(layout))
        account = "/api/v1/namespaces/default/serviceaccounts/default"
        self._wait_for(account, started, users.tokens[ADMIN], authority.certificate)

    def _launch(self, parts: Parts, name: str, command: list[str]) -> subprocess.Popen[bytes]:
        return parts.start(name, command, self.layout.log(name))

    def _wait_for(self, path: str, servers: dict[str, subprocess.Popen[bytes]], token: str, authority: Path) -> None:
        """Ask the API server for `path` until it answers 200, or one of the servers has ended."""
        deadline = time.monotonic() + START_SECONDS
        context = ssl.create_default_context(cafile=str(authority))
        request = urllib.request.Request(self.layout.url + path, headers={"Authorization": f"Bearer {token}"})
        while True:
            try:
                with urllib.request.urlopen(request, timeout=5, context=context):
                    return
            except (OSError, urllib.error.URLError) as error:
                last = str(error)
            ended = [name for name, process in servers.items() if process.poll() is not None]
            if ended or time.monotonic() > deadline:
                name = ended[0] if ended else "kube-apiserver"
                log = self.layout.log(name)
                raise StartError(f"{name} did not start ({last}); the end of {log}:\n{tail(log)}")
            time.sleep(POLL_SECONDS)

    def _wait_for_nodes(self, nodes: list[Node]) -> None:
        timeout = f"--timeout={START_SECONDS:g}s"
        try:
            for node in nodes:
                self.kubectl("wait", "--for=create", f"node/{node.layout.name}", timeout)
                self.kubectl("wait", "--for=condition=Ready", f"node/{node.layout.name}", timeout)
            for namespace, name in AWAITED.items():
                self.kubectl("wait", "--for=condition=Available", f"deployment/{name}", timeout, namespace=namespace)
        except ClusterError:
            raise
        except Exception as error:
            logs = "\n".join(f"{node.log('kubelet')}:\n{tail(node.log('kubelet'), 8)}" for node in nodes)
            raise StartError(f"nodes or their services were not ready: {error}\n{logs}") from error


def _put_together(programs: dict[str, Path], folder: Path) -> None:
    """All programs in one folder, which can be mounted in nodes: links where they are on the same disk."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, path in programs.items():
        target = folder / name
        target.unlink(missing_ok=True)
        try:
            os.link(path.resolve(), target)
        except OSError:
            shutil.copy2(path, target)
