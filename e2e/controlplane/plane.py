"""Starts, holds and ends one control plane: etcd, kube-apiserver and kube-controller-manager."""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType

from e2e.controlplane.binaries import Binaries, find_binaries
from e2e.controlplane.credentials import CONTROLLERS_USER, Credentials, make_credentials, write_kubeconfig
from e2e.controlplane.errors import ControlPlaneError, KubectlError
from e2e.controlplane.existing import existing_kubeconfig, existing_kubectl, existing_url
from e2e.controlplane.processes import Launcher, end, free_ports, tail
from e2e.controlplane.servers import Layout, api_server_command, controller_manager_command, etcd_command

START_SECONDS = 60.0
POLL_SECONDS = 0.02
NODE_GRACE_SECONDS = 20.0


class ControlPlane:
    """A running control plane. Use it as a context manager, or call `stop`."""

    def __init__(
        self, *, directory: Path, kubeconfig: Path, url: str, audit_log: Path, kubectl_path: Path, existing: bool
    ) -> None:
        self.directory = directory
        self.kubeconfig = kubeconfig
        self.url = url
        self.audit_log = audit_log
        self.kubectl_path = kubectl_path
        self.existing = existing
        self._layout: Layout | None = None
        self._binaries: Binaries | None = None
        self._credentials: Credentials | None = None
        self._launcher: Launcher | None = None
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    @classmethod
    def start(
        cls, directory: Path, *, detached: bool = False, node_grace_seconds: float = NODE_GRACE_SECONDS
    ) -> ControlPlane:
        """Start a fresh plane with its files in `directory`, or use the cluster that the environment names.

        With `USE_EXISTING_CLUSTER=1` nothing is started and `audit_log` does not exist. The servers die with this
        process, unless they are `detached`.

        Raises:
            ControlPlaneError: it did not become ready; the message has the end of the log.
        """
        directory = directory.absolute()
        directory.mkdir(parents=True, exist_ok=True)
        if kubeconfig := existing_kubeconfig(os.environ):
            kubectl = existing_kubectl(os.environ)
            return cls(
                directory=directory,
                kubeconfig=kubeconfig,
                url=existing_url(kubectl, kubeconfig),
                audit_log=directory / "audit.log",
                kubectl_path=kubectl,
                existing=True,
            )
        binaries = find_binaries()
        layout = Layout(directory, *free_ports(3))
        plane = cls(
            directory=directory,
            kubeconfig=layout.kubeconfig,
            url=layout.url,
            audit_log=layout.audit_log,
            kubectl_path=binaries.kubectl,
            existing=False,
        )
        for leftover in (layout.etcd_data, layout.certificates):
            shutil.rmtree(leftover, ignore_errors=True)
        for name in ("etcd", "kube-apiserver", "kube-controller-manager"):
            layout.log(name).unlink(missing_ok=True)
        layout.audit_log.unlink(missing_ok=True)
        plane._layout, plane._binaries, plane._credentials = layout, binaries, make_credentials(directory)
        plane._launcher = Launcher(detached=detached)
        try:
            plane._launch("etcd", etcd_command(binaries, layout))
            plane.start_api_server()
            plane._launch("kube-controller-manager", controller_manager_command(binaries, layout, node_grace_seconds))
            plane._wait_for("/api/v1/namespaces/default/serviceaccounts/default", "kube-controller-manager")
        except BaseException:
            plane.stop()
            raise
        if detached:
            plane._launcher.close()
        return plane

    def __enter__(self) -> ControlPlane:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the servers and remove their data; logs stay. An existing cluster is left alone."""
        # nothing is kept, so nothing has to be closed in order
        for name in ("kube-controller-manager", "kube-apiserver", "etcd"):
            if process := self.processes.pop(name, None):
                end(process)
        if self._launcher:
            self._launcher.close()
        if self._layout:
            shutil.rmtree(self._layout.etcd_data, ignore_errors=True)

    def stop_api_server(self, *, grace_seconds: float = 0.0) -> None:
        """Take the API server away, at once by default, as a crash would; etcd keeps the objects."""
        self._own("stop_api_server")
        if process := self.processes.pop("kube-apiserver", None):
            end(process, grace_seconds=grace_seconds)

    def start_api_server(self) -> None:
        """Start the API server, at the same address as before, and wait until it is ready."""
        layout, binaries, credentials = self._own("start_api_server")
        if "kube-apiserver" in self.processes:
            return
        self._launch("kube-apiserver", api_server_command(binaries, layout, credentials))
        self._wait_for("/readyz", "kube-apiserver")
        for path, user, token in (
            (layout.kubeconfig, "admin", credentials.admin_token),
            (layout.controllers_kubeconfig, CONTROLLERS_USER, credentials.controllers_token),
        ):
            authority = layout.authority.read_bytes()
            write_kubeconfig(path, url=layout.url, authority=authority, token=token, user=user)

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

    def wait_established(self, *names: str) -> None:
        """Wait until the API server serves these CRDs (`PLURAL.GROUP`). Raises KubectlError."""
        crds = [f"crd/{name}" for name in names]
        # of a CRD that has no conditions yet, kubectl cannot tell whether one is True, and ends with an error
        for what in ("jsonpath={.status.conditions}", "condition=Established"):
            self.kubectl("wait", f"--for={what}", "--timeout=30s", *crds)

    def create_namespace(self, name: str) -> None:
        """Create it, and wait for the service account without which the API server refuses pods in it."""
        self.kubectl("create", "namespace", name)
        self.kubectl("wait", "--for=create", "serviceaccount/default", "--timeout=30s", namespace=name)

    def delete_namespace(self, name: str) -> None:
        """Have it deleted, without waiting. Its pods go at once: there may be no kubelet left to end them."""
        self.kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")
        self.kubectl("delete", "pods", "--all", "--force", "--grace-period=0", "--wait=false", namespace=name)

    def service_account_kubeconfig(self, namespace: str, name: str) -> Path:
        """A kubeconfig that acts as this service account (which must exist), good for a day."""
        token = self.kubectl("create", "token", name, "--duration=24h", namespace=namespace).strip()
        view = json.loads(self.kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json"))
        cluster = view["clusters"][0]["cluster"]
        view["users"] = [{"name": name, "user": {"token": token}}]
        view["contexts"] = [{"name": name, "context": {"cluster": "local", "user": name, "namespace": namespace}}]
        view["clusters"] = [{"name": "local", "cluster": cluster}]
        view["current-context"] = name
        path = self.directory / f"kubeconfig-{namespace}-{name}"
        path.touch(mode=0o600)
        path.write_text(json.dumps(view, indent=1))
        return path

    def _own(self, what: str) -> tuple[Layout, Binaries, Credentials]:
        if self._layout is None or self._binaries is None or self._credentials is None:
            raise ControlPlaneError(f"{what}: this cluster was not started here; unset USE_EXISTING_CLUSTER to get one")
        return self._layout, self._binaries, self._credentials

    def _launch(self, name: str, command: list[str]) -> None:
        layout, _, _ = self._own("start")
        assert self._launcher is not None
        self.processes[name] = self._launcher.start(command, layout.log(name))

    def _wait_for(self, path: str, server: str) -> None:
        """Ask the API server for `path` until it answers 200, or one of the servers has ended."""
        layout, _, credentials = self._own("start")
        deadline = time.monotonic() + START_SECONDS
        last = "no answer yet"
        while time.monotonic() < deadline:
            for name, process in self.processes.items():
                if process.poll() is not None:
                    raise ControlPlaneError(
                        f"{name} ended with {process.returncode}; the end of {layout.log(name)}:\n"
                        f"{tail(layout.log(name))}"
                    )
            if layout.authority.is_file():
                last = _get(layout, path, credentials.admin_token)
                if not last:
                    return
            time.sleep(POLL_SECONDS)
        raise ControlPlaneError(
            f"{server} was not ready after {START_SECONDS:g} s ({last}); the end of {layout.log(server)}:\n"
            f"{tail(layout.log(server))}"
        )


def run_kubectl(
    kubectl: Path,
    kubeconfig: Path,
    *arguments: str,
    input: str | None = None,
    check: bool = True,
    namespace: str | None = None,
) -> str:
    """Run kubectl with this kubeconfig; see `ControlPlane.kubectl`."""
    scope = ["--namespace", namespace] if namespace else []
    command = [str(kubectl), f"--kubeconfig={kubeconfig}", *scope, *arguments]
    result = subprocess.run(command, input=input, capture_output=True, text=True)
    if result.returncode != 0:
        if check:
            raise KubectlError(arguments, result.returncode, result.stdout, result.stderr)
        return result.stdout + result.stderr
    return result.stdout


def _get(layout: Layout, path: str, token: str) -> str:
    """Empty if the answer is 200, else what came instead."""
    try:
        context = ssl.create_default_context(cafile=str(layout.authority))
        request = urllib.request.Request(layout.url + path, headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request, timeout=5, context=context):
            return ""
    except (OSError, urllib.error.URLError, ssl.SSLError) as error:
        return str(error)
