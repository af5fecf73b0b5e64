"""An HTTP file server on loopback that is slow, cuts, corrupts, stalls, forgets ranges and refuses, as a test asks.

`python -m e2e.stores.proxy` serves a folder at a limited rate from a process of its own, for benchmarks.
"""

from e2e.stores.proxy.fault import Fault
from e2e.stores.proxy.server import FaultyStore, Seen

__all__ = ["Fault", "FaultyStore", "Seen"]
