"""`python -m e2e.controlplane up | down | env | status | build`."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from e2e.controlplane.binaries import find_binaries
from e2e.controlplane.errors import ControlPlaneError
from e2e.controlplane.existing import existing_kubeconfig
from e2e.controlplane.plane import ControlPlane
from e2e.controlplane.state import State, load_state, save_state
from e2e.controlplane.versions import ETCD_VERSION, KUBERNETES_VERSION, binaries_directory

DEFAULT_DIRECTORY = Path(".run/controlplane")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = _parser()
    chosen = parser.parse_args(arguments)
    directory: Path = chosen.dir.absolute()
    try:
        return int(chosen.run(directory))
    except ControlPlaneError as error:
        sys.stderr.write(f"{error}\n")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m e2e.controlplane",
        description=f"A Kubernetes {KUBERNETES_VERSION} API server with etcd {ETCD_VERSION} and the controller "
        "manager, as local processes on 127.0.0.1, with RBAC and an audit log; there is no kubelet "
        "(see python -m e2e.pods).",
        epilog="The programs come from KUBEBUILDER_ASSETS, the cache, the official releases or a build with Go, "
        f"whichever works first, and are kept in {binaries_directory()} (LORA_OPERATOR_CACHE chooses another place). "
        "With USE_EXISTING_CLUSTER=1 the cluster of KUBECONFIG is used and nothing is started.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, run, text in (
        ("up", _up, "start it and leave it running; what is already running stays as it is"),
        ("down", _down, "end it; its objects are lost, its logs stay"),
        ("env", _env, 'print what the shell needs to use kubectl on it: eval "$(python -m e2e.controlplane env)"'),
        ("status", _status, "say what is running; the exit code is 0 if all of it is, else 3"),
        ("build", _build, "only get the programs, and say where they are"),
    ):
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        command.add_argument(
            "--dir",
            type=Path,
            default=DEFAULT_DIRECTORY,
            help="where its kubeconfig, logs and data are (default: %(default)s)",
        )
        command.set_defaults(run=run)
    return parser


def _up(directory: Path) -> int:
    state = load_state(directory)
    if state and len(state.running()) == len(state.servers) and state.servers:
        print(f"already running: {state.url}, kubeconfig {state.kubeconfig}")
        return 0
    if state:
        state.end()
    started = time.monotonic()
    plane = ControlPlane.start(directory, detached=True)
    save_state(directory, State.of(plane))
    what = "uses the existing cluster" if plane.existing else f"up in {time.monotonic() - started:.1f} s"
    print(f"{what}: {plane.url}, kubeconfig {plane.kubeconfig}")
    return 0


def _down(directory: Path) -> int:
    state = load_state(directory)
    if state is None:
        print(f"nothing was started in {directory}")
        return 0
    state.end()
    shutil.rmtree(directory / "etcd", ignore_errors=True)
    (directory / "state.json").unlink(missing_ok=True)
    print("down")
    return 0


def _env(directory: Path) -> int:
    state = load_state(directory)
    if state is None:
        if existing := existing_kubeconfig(os.environ):
            print(f"export KUBECONFIG={shlex.quote(str(existing))}")
            return 0
        raise ControlPlaneError(f"nothing runs in {directory}; start it with: python -m e2e.controlplane up")
    print(f"export KUBECONFIG={shlex.quote(state.kubeconfig)}")
    print(f'export PATH={shlex.quote(str(Path(state.kubectl).parent))}:"$PATH"')
    return 0


def _status(directory: Path) -> int:
    state = load_state(directory)
    if state is None:
        print(f"nothing runs in {directory}")
        return 3
    running = state.running()
    for name, server in state.servers.items():
        print(f"{name:<25} {'running' if name in running else 'ended':<8} pid {server.pid}")
    print(f"{'server':<25} {state.url}\n{'kubeconfig':<25} {state.kubeconfig}")
    return 0 if len(running) == len(state.servers) else 3


def _build(directory: Path) -> int:
    binaries = find_binaries()
    for path in (binaries.etcd, binaries.kube_apiserver, binaries.kube_controller_manager, binaries.kubectl):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
