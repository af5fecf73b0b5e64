"""A real Kubernetes API server with its controllers, as local processes, without Docker.

`ControlPlane.start(directory)` from Python, `python -m e2e.controlplane up` by hand.
"""

from e2e.controlplane.errors import BinariesError, ControlPlaneError, KubectlError
from e2e.controlplane.plane import ControlPlane

__all__ = ["BinariesError", "ControlPlane", "ControlPlaneError", "KubectlError"]
