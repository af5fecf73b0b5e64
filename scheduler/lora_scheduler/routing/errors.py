"""What can be wrong with what the routing library is given. That an adapter is nowhere is an answer, not an error.

RoutingError (a ValueError)
├── InvalidEndpoint   a negative count, a time that is no number
├── InvalidAsk        a request that names neither an adapter nor a base model
├── InvalidRules      a policy that does not exist, a bound out of its range
└── InvalidKeywords   a keyword without a word, too long, or too many of them
"""

from __future__ import annotations


class RoutingError(ValueError):
    """The common base: the message names the object, what is wrong with it and what to do."""


class InvalidEndpoint(RoutingError):
    """An endpoint or its metrics say something that cannot be."""


class InvalidAsk(RoutingError):
    """The request cannot be routed whatever the fleet looks like."""


class InvalidRules(RoutingError):
    """The policy asks for something that does not exist."""


class InvalidKeywords(RoutingError):
    """An adapter's keywords for selection by content cannot be used."""
