"""What can go wrong with a cluster of real nodes.

ControlPlaneError
└── ClusterError           it cannot be started or used
    ├── UnfitMachineError  this machine cannot run nodes: not root, no cgroups, a program is missing, no room …
    ├── LeftoverError      something of a cluster is there already
    ├── StartError         a part ended, or was not ready in time; the message has the end of its log
    └── ImageError         an image cannot be built or loaded
"""

from __future__ import annotations

from e2e.controlplane.errors import ControlPlaneError


class ClusterError(ControlPlaneError):
    """The cluster cannot be started or used; the message says why and what to do."""


class UnfitMachineError(ClusterError):
    """This machine cannot run nodes; the message is one line."""


class LeftoverError(ClusterError):
    """Something of a cluster is there already; the message is one line."""


class StartError(ClusterError):
    """A part ended, or was not ready in time."""


class ImageError(ClusterError):
    """An image cannot be built or loaded."""
