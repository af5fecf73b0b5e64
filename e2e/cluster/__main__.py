"""`python -m e2e.cluster up | down | load | sample | status | env | build`."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from e2e.cluster.cluster import Cluster
from e2e.cluster.envoy_image import ENVOY_IMAGE, load_envoy
from e2e.cluster.errors import ClusterError
from e2e.cluster.existing import load_into_existing
from e2e.cluster.layout import API_PORT
from e2e.cluster.leftovers import remove, traces
from e2e.cluster.own_images import OPERATOR_IMAGE, SIMULATOR_IMAGE, build_own_images
from e2e.cluster.programs import find_programs
from e2e.cluster.sample import write_sample
from e2e.controlplane.errors import ControlPlaneError
from e2e.controlplane.existing import existing_kubeconfig, existing_kubectl, existing_url
from e2e.controlplane.versions import KUBERNETES_VERSION, cache_root

DEFAULT_DIRECTORY = Path(".run/cluster")
SAMPLE_DIRECTORY = Path(".run/sample")


def main(arguments: Sequence[str] | None = None) -> int:
    chosen = _parser().parse_args(arguments)
    chosen.dir = chosen.dir.absolute()
    try:
        return int(chosen.run(chosen))
    except ControlPlaneError as error:
        sys.stderr.write(f"{error}\n")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m e2e.cluster",
        description=f"A Kubernetes {KUBERNETES_VERSION} cluster with real nodes on this machine, as root and without "
        "Docker: kubelet, containerd and kube-proxy in namespaces of their own, DNS, a default StorageClass.",
        epilog="The programs come from KUBEBUILDER_ASSETS, the cache, the official releases or a build with Go, "
        f"whichever works first, and are kept in {cache_root()} (LORA_OPERATOR_CACHE chooses another place). "
        "With USE_EXISTING_CLUSTER=1 the cluster of KUBECONFIG is used and nothing is started.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, run, text in (
        ("up", _up, "start it and leave it running"),
        ("down", _down, "end it, and remove whatever clusters have left that do not run any more; logs stay"),
        ("load", _load, "import images into every node"),
        ("sample", _sample, "write values and a manifest by which the charts can be tried on it"),
        ("status", _status, "say what is there; the exit code is 0 if all of it runs, else 3"),
        ("env", _env, 'print what the shell needs for kubectl and helm on it: eval "$(python -m e2e.cluster env)"'),
        ("build", _build, "only get the programs, and say where they are"),
    ):
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        command.add_argument(
            "--dir", type=Path, default=DEFAULT_DIRECTORY,
            help="where its kubeconfig, logs and nodes' disks are (default: %(default)s)",
        )  # fmt: skip
        command.set_defaults(run=run)
        if name == "up":
            command.add_argument("--nodes", type=int, default=2, help="how many (default: %(default)s)")
            command.add_argument("--port", type=int, default=API_PORT, help="of the API server (default: %(default)s)")
        if name == "sample":
            command.add_argument(
                "--to", type=Path, default=SAMPLE_DIRECTORY, help="the folder that they go into (default: %(default)s)"
            )
        if name == "down":
            command.add_argument("--all", action="store_true", help="end those of all other folders too")
        if name == "load":
            command.add_argument(
                "images", nargs="*", type=Path, metavar="FILE",
                help=f"as docker save writes it; default: {OPERATOR_IMAGE} and {SIMULATOR_IMAGE}, which are built "
                "here, and Envoy, which the gateway needs, where nodes reach no registry",
            )  # fmt: skip
    return parser


def _up(chosen: argparse.Namespace) -> int:
    if kubeconfig := existing_kubeconfig(os.environ):
        print(f"uses the existing cluster: {existing_url(existing_kubectl(os.environ), kubeconfig)}, {kubeconfig}")
        return 0
    started = time.monotonic()
    cluster = Cluster.start(chosen.dir, nodes=chosen.nodes, api_port=chosen.port, detached=True)
    print(f"up in {time.monotonic() - started:.0f} s: {chosen.nodes} nodes, kubeconfig {cluster.kubeconfig}")
    print('eval "$(python -m e2e.cluster env)" for kubectl; make cluster-down ends it')
    return 0


def _down(chosen: argparse.Namespace) -> int:
    found = remove(chosen.dir, everything=chosen.all)
    print(f"removed: {found}" if found else "nothing was there")
    if rest := traces(None):
        print(f"left alone, as it runs in another folder: {rest}")
    return 0


def _load(chosen: argparse.Namespace) -> int:
    archives: list[Path] = chosen.images
    for archive in archives:
        if not archive.is_file():
            raise ClusterError(f"{archive}: no such file; an image is a file as docker save writes it")
    kubeconfig = existing_kubeconfig(os.environ)
    cluster = None if kubeconfig else _running(chosen.dir)
    name, own = "", None
    if not archives:
        own = build_own_images()
        archives, name = [own.archive], own.name
    for archive in archives:
        started = time.monotonic()
        if cluster is None:
            load_into_existing(archive)
        else:
            cluster.load(archive, name)
        print(f"{archive} loaded in {time.monotonic() - started:.0f} s")
    if cluster and own:
        load_envoy(cluster, own)
        print(f"{ENVOY_IMAGE} loaded")
    return 0


def _sample(chosen: argparse.Namespace) -> int:
    for file, what in write_sample(chosen.to).items():
        print(f"{file}: {what}")
    print("docs/one-machine.md has the commands that take them")
    return 0


def _status(chosen: argparse.Namespace) -> int:
    cluster = Cluster.there(chosen.dir)
    if not (found := traces(chosen.dir)):
        others = traces(None)
        print(f"no cluster in {chosen.dir}" + (f"; elsewhere: {others}" if others else ""))
        return 3
    parts = cluster.parts()
    for name, pid in parts.items():
        print(f"{name:<25} {f'running, pid {pid}' if pid else 'ended'}")
    print(found)
    complete = all(parts.values())
    if cluster.kubeconfig.exists():
        print(f"kubeconfig {cluster.kubeconfig}")
        shown = subprocess.run(
            [cluster.kubectl_path, f"--kubeconfig={cluster.kubeconfig}", "get", "nodes,pods", "-A",
             "--request-timeout=10s"],
            text=True,
        )  # fmt: skip
        complete = complete and shown.returncode == 0
    return 0 if complete else 3


def _env(chosen: argparse.Namespace) -> int:
    if existing := existing_kubeconfig(os.environ):
        print(f"export KUBECONFIG={shlex.quote(str(existing))}")
        return 0
    cluster = _running(chosen.dir)
    print(f"export KUBECONFIG={shlex.quote(str(cluster.kubeconfig))}")
    print(f'export PATH={shlex.quote(str(cluster.kubectl_path.parent))}:"$PATH"')
    return 0


def _build(chosen: argparse.Namespace) -> int:
    for name, path in find_programs().items():
        print(f"{name:<25} {path}")
    return 0


def _running(directory: Path) -> Cluster:
    cluster = Cluster.there(directory)
    if not all(cluster.parts().values()):
        raise ClusterError(f"no cluster runs in {directory}: make cluster")
    return cluster


if __name__ == "__main__":
    sys.exit(main())
