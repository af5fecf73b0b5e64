"""The whole system on one machine: control plane, pods, engines, adapters on disk, and the operator as a process of its
own under its own service account. Tests, demo and bench are written against `World`."""

from e2e.world.adapters import write_adapter
from e2e.world.engines import EngineProbe
from e2e.world.operator_process import OperatorProcess
from e2e.world.rest import Rest, WaitError
from e2e.world.world import World

__all__ = ["EngineProbe", "OperatorProcess", "Rest", "WaitError", "World", "write_adapter"]
