"""Runs a command in the image with runc, as a pod of Pod Security "restricted" would: without rights."""

from __future__ import annotations

import json
import secrets
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from image.proof.building import Built, ProofError

USER = 65532
STOP_SECONDS = 30
SCRATCH = "/tmp"  # noqa: S108 - the volume that all pods have there


class Container:
    """One container on the network of this machine. Use it as a context manager, which ends and removes it."""

    def __init__(
        self,
        image: Built,
        directory: Path,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        mounts: Mapping[str, Path] | None = None,
        writable: Mapping[str, Path] | None = None,
    ) -> None:
        """`mounts` and `writable` are folders or files of this machine by their paths in the container."""
        self.name = f"image-proof-{secrets.token_hex(4)}"
        self.log = directory / f"{self.name}.log"
        self._runc = ("runc", "--root", str(directory / "runc"))
        bundle = directory / self.name
        bundle.mkdir(parents=True)
        for folder in (writable or {}).values():
            folder.mkdir(exist_ok=True)
            folder.chmod(0o777)
        spec = bundle_config(image, command, environment or {}, mounts or {}, writable or {})
        (bundle / "config.json").write_text(json.dumps(spec, indent=1))
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*self._runc, "run", "--bundle", bundle, self.name], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            subprocess.run([*self._runc, "kill", self.name, "KILL"], capture_output=True)
            self.process.wait()
        subprocess.run([*self._runc, "delete", "--force", self.name], capture_output=True)

    def stop(self) -> int:
        """As the kubelet does it; returns the exit status.

        Raises:
            ProofError: it did not end within the grace period.
        """
        self.process.send_signal(signal.SIGTERM)  # runc passes it on
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise ProofError(f"it was still there {STOP_SECONDS} s after SIGTERM:\n{self.output()}") from None

    def finish(self) -> str:
        """Wait for its end and return what it printed.

        Raises:
            ProofError: its exit status is not 0.
        """
        if status := self.process.wait(120):
            raise ProofError(f"exit status {status}:\n{self.output()}")
        return self.output()

    def output(self) -> str:
        return self.log.read_text(errors="replace")


def bundle_config(
    image: Built,
    command: Sequence[str],
    environment: Mapping[str, str],
    mounts: Mapping[str, Path],
    writable: Mapping[str, Path],
) -> dict[str, object]:
    """What runc reads: the securityContext of the charts in the words of the OCI runtime specification."""
    own = image.config.get("Env") or []
    assert isinstance(own, list)
    nothing: list[str] = []
    flags = ["nosuid", "nodev", "noexec"]
    # these two a kubelet brings
    binds = [(name, Path(name), ["ro"]) for name in ("/etc/hosts", "/etc/resolv.conf") if Path(name).exists()]
    binds += [(target, source, ["ro"]) for target, source in mounts.items()]
    binds += [(target, source, ["rw"]) for target, source in writable.items()]
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": USER, "gid": USER, "additionalGids": [USER]},
            "args": list(command),
            "env": [*own, *(f"{name}={value}" for name, value in environment.items())],
            "cwd": image.config.get("WorkingDir") or "/",
            "noNewPrivileges": True,
            "capabilities": dict.fromkeys(("bounding", "effective", "inheritable", "permitted", "ambient"), nothing),
        },
        "root": {"path": str(image.root), "readonly": True},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": flags},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            {
                "destination": SCRATCH,
                "type": "tmpfs",
                "source": "tmpfs",
                "options": ["nosuid", "mode=1777", "size=64m"],
            },
            *(
                {"destination": target, "type": "bind", "source": str(source), "options": ["rbind", *options]}
                for target, source, options in binds
            ),
        ],
        # the network is that of the machine, where the control plane listens on loopback
        "linux": {"namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")]},
    }
