"""The routing table (which pod answers for which adapter, under which engine name) and the HTTP API to read it.

Both come from LoraAdapter status and pods alone, so that any number of replicas give the same answers."""

from lora_operator.router.entries import Endpoint, Entry
from lora_operator.router.queries import (
    AmbiguousAdapter,
    RoutingError,
    UnknownAdapter,
    get_pods_for_adapter,
    list_available_adapters,
)
from lora_operator.router.table import RoutingTable

__all__ = [
    "AmbiguousAdapter",
    "Endpoint",
    "Entry",
    "RoutingError",
    "RoutingTable",
    "UnknownAdapter",
    "get_pods_for_adapter",
    "list_available_adapters",
]
