"""What can go wrong with the control plane.

ControlPlaneError
├── BinariesError    no way to get the programs worked
├── KubectlError     kubectl ended with a failure; `stderr` is what it said
└── HelmError        Helm ended with a failure; the message is what it said
"""

from __future__ import annotations


class ControlPlaneError(Exception):
    """The control plane cannot be started or used; the message says why and what to do."""


class BinariesError(ControlPlaneError):
    """No way to get the programs worked; the message lists the ways that were tried."""


class KubectlError(ControlPlaneError):
    """kubectl ended with a failure."""

    def __init__(self, arguments: tuple[str, ...], returncode: int, stdout: str, stderr: str) -> None:
        super().__init__(f"kubectl {' '.join(arguments)}: exit code {returncode}: {stderr.strip() or stdout.strip()}")
        self.returncode = returncode
        self.stdout = stdout
        self.stderr = stderr


class HelmError(ControlPlaneError):
    """Helm ended with a failure; the message is what it said."""
