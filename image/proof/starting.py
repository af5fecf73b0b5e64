"""Starts operator, router and agent in the image with the very commands of the shipped pods, until they are ready."""

from __future__ import annotations

import base64
import json
import re
import secrets
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import yaml

from e2e.controlplane import ControlPlane
from e2e.controlplane.processes import free_ports
from image.proof.building import ROOT, Built, ProofError
from image.proof.container import Container

NAMESPACE = "lora-operator-system"
ACCOUNT_FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount"
READY_SECONDS = 60.0
# what pods of other charts and hooks do with the image
SCRIPTS = {
    "the hook on uninstall imports": "import kubernetes, kubernetes.client, kubernetes.config",
    "helm test opens an address": "import urllib.request; urllib.request.urlopen('data:,x').read()",
    "there are certificates": "import ssl; assert len(ssl.create_default_context().get_ca_certs()) > 100",
    "the web view is there": (
        "from importlib.resources import files; "
        "assert files('lora_operator.router.ui').joinpath('static/index.html').is_file()"
    ),
    "the library's page and what pages share are there": (
        "from importlib.resources import files; "
        "assert files('lora_library.page').joinpath('static/index.html').is_file(); "
        "assert files('lora_operator.pages').joinpath('static/base.css').is_file()"
    ),
    "there are time zones": "import zoneinfo; zoneinfo.ZoneInfo('Europe/Berlin')",
    "nothing can be written": (
        "import os, sys; places = ['/', '/etc', '/usr', '/opt/lora-operator', '/tmp']; "
        "found = [place for place in places if os.access(place, os.W_OK)]; "
        "sys.exit(0 if found == ['/tmp'] else f'can be written: {found}')"
    ),
    "it is nobody in particular": "import os; assert (os.getuid(), os.getgid()) == (65532, 65532)",
    "it has no capabilities": (
        "status = open('/proc/self/status').read(); "
        "assert 'CapBnd:\\t0000000000000000' in status and 'NoNewPrivs:\\t1' in status, status"
    ),
    "names are looked up": "import socket, pwd; socket.getaddrinfo('localhost', 80); pwd.getpwuid(65532)",
}


class Launched(Container):
    """A container that serves HTTP."""

    def __init__(self, port: int, *arguments: Any, **options: Any) -> None:
        self.port = port
        super().__init__(*arguments, **options)

    def wait_for(self, path: str) -> str:
        """The body of its first answer 200.

        Raises:
            ProofError: it ended, or took too long; the message has its log.
        """
        deadline = time.monotonic() + READY_SECONDS
        last = "no answer"
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                    return str(answer.read().decode()).strip()
            except (OSError, urllib.error.URLError) as error:
                last = str(error)
                time.sleep(0.05)
        raise ProofError(f"not ready ({last}):\n{self.output()}")


@dataclass(frozen=True, slots=True)
class Start:
    """One shipped container, with what it needs to run on this machine."""

    name: str
    manifest: Path
    container: str
    ready: str  # the path that answers 200 when it is ready
    ports: tuple[str, ...]  # flags of its ports; the first is asked for `ready`
    account: str = ""  # its service account, if it talks to the API server
    writable: tuple[str, ...] = ()
    secrets: Mapping[str, str] = field(default_factory=dict)  # files by their paths


INSTALL = ROOT / "manifests" / "install"
STARTS = (
    Start(
        "operator", INSTALL / "operator.yaml", "operator", "/readyz",
        ("--health-port", "--metrics-port", "--router-port"), account="lora-operator", writable=("/adapters",),
    ),
    Start("router", INSTALL / "router.yaml", "router", "/readyz", ("--port",), account="lora-operator-router"),
    Start(
        "agent", ROOT / "manifests" / "samples" / "vllm-agent.yaml", "agent", "/healthz", ("--port",),
        writable=("/adapters",), secrets={"/etc/lora-agent/token": secrets.token_hex(16)},
    ),
)  # fmt: skip


def run_scripts(image: Built, directory: Path) -> list[str]:
    """Short programs in the image, each of which a pod needs. Returns what was shown.

    Raises:
        ProofError: one of them failed.
    """
    shown = []
    for what, script in SCRIPTS.items():
        with Container(image, directory, ["python3", "-c", script]) as container:
            container.finish()
        shown.append(what)
    for arguments in (["--version"], ["run", "--help"], ["agent", "--help"], ["router", "--help"]):
        with Container(image, directory, [*entrypoint(image), *arguments]) as container:
            first = container.finish().splitlines()[0]
        shown.append(f"lora-operator {' '.join(arguments)}: {first}")
    return shown


def start_all(image: Built, directory: Path) -> list[str]:
    """Each of `STARTS` on a control plane, side by side, until ready, then ended. Returns what was shown."""
    shown = []
    with ControlPlane.start(directory / "controlplane") as plane:
        for folder in (ROOT / "crds", INSTALL):
            plane.kubectl("apply", "--server-side", "-f", str(folder))
        plane.wait_established(*(f"{kind}.production-stack.vllm-project" for kind in ("loraadapters", "loraendpoints")))
        for start in STARTS:
            began = time.monotonic()
            with launched(start, image, directory, plane) as container:
                said = container.wait_for(start.ready)
                seconds = time.monotonic() - began
                status = container.stop()
            if status != 0:
                raise ProofError(f"{start.name} ended with {status} after SIGTERM:\n{container.output()}")
            shown.append(
                f"{start.name}: {start.ready} says {said[:40]!r} after {seconds:.1f} s, ends with 0 on SIGTERM"
            )
    return shown


def launched(start: Start, image: Built, directory: Path, plane: ControlPlane) -> Launched:
    """The shipped container, on ports and with files of its own."""
    container = shipped_container(start.manifest, start.container)
    ports = free_ports(len(start.ports))
    fields = {"metadata.namespace": NAMESPACE, "metadata.name": f"{start.name}-0", "metadata.uid": str(uuid4())}
    environment = {
        entry["name"]: entry.get("value") or fields[entry["valueFrom"]["fieldRef"]["fieldPath"]]
        for entry in container.get("env", [])
    }
    own = directory / start.name
    own.mkdir(parents=True)
    mounts: dict[str, Path] = {}
    for path, text in start.secrets.items():
        mounts[str(Path(path).parent)] = folder = own / "secret"
        write_readable(folder, {Path(path).name: text})
    if start.account:
        mounts[ACCOUNT_FOLDER] = own / "account"
        write_readable(own / "account", account_files(plane, start.account))
        address = urlsplit(plane.url)
        environment |= {"KUBERNETES_SERVICE_HOST": str(address.hostname), "KUBERNETES_SERVICE_PORT": str(address.port)}
    arguments = [
        re.sub(r"\$\((\w+)\)", lambda found: environment[found[1]], argument) for argument in container.get("args", [])
    ]
    command = container.get("command") or entrypoint(image)
    given = [f"{flag}={port}" for flag, port in zip(start.ports, ports, strict=True)]
    return Launched(
        ports[0], image, directory, [*command, *arguments, "--host=127.0.0.1", *given],
        environment=environment,
        mounts=mounts,
        writable={path: own / Path(path).name for path in start.writable},
    )  # fmt: skip


def shipped_container(manifest: Path, name: str) -> dict[str, Any]:
    """Its part of the pod template in the manifest."""
    for document in yaml.safe_load_all(manifest.read_text()):
        template = ((document or {}).get("spec") or {}).get("template") or {}
        for container in (template.get("spec") or {}).get("containers", []):
            if container["name"] == name:
                return dict(container)
    raise ProofError(f"{manifest}: no container {name!r} in it")


def entrypoint(image: Built) -> list[str]:
    found = image.config.get("Entrypoint")
    if not isinstance(found, list):
        raise ProofError("the image has no ENTRYPOINT in the form of a list")
    return found


def account_files(plane: ControlPlane, account: str) -> dict[str, str]:
    """What a kubelet mounts into pods of this service account."""
    view = json.loads(plane.service_account_kubeconfig(NAMESPACE, account).read_text())
    authority = base64.b64decode(view["clusters"][0]["cluster"]["certificate-authority-data"]).decode()
    return {"token": view["users"][0]["user"]["token"], "ca.crt": authority, "namespace": NAMESPACE}


def write_readable(folder: Path, files: Mapping[str, str]) -> None:
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    for name, text in files.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o644)
