"""What networks do to connections, on loopback: delay, silence, resets, truncation, half-open connections."""

from e2e.faults.proxy import Connection, FaultProxy

__all__ = ["Connection", "FaultProxy"]
