"""What can be wrong with a question to this library.

PlacementError (a ValueError)
├── InvalidSnapshot   two objects with one key, a negative size, an unknown selector operator, a value of a wrong type
├── InvalidPolicy     a policy that does not exist, a bound below its minimum
└── UnknownAdapter    a question about an adapter that is not in the snapshot
"""

from __future__ import annotations


class PlacementError(ValueError):
    """The common base: the message names the object, what is wrong with it and what to do."""


class InvalidSnapshot(PlacementError):
    """The snapshot contradicts itself. A pod's nonsensical limits are no such error: that pod is refused instead."""


class InvalidPolicy(PlacementError):
    """The policy asks for something that does not exist."""


class UnknownAdapter(PlacementError):
    """The snapshot has no adapter of this key."""
