"""What copies that are there are worth: the same for pods that are chosen and for workers that choose."""

from __future__ import annotations

from collections.abc import Container

from lora_scheduler.routing.model import RoutingRequest
from lora_scheduler.routing.rules import Weights


def resident_score(ask: RoutingRequest, held: Container[str], weights: Weights) -> float:
    """Per adapter of the request that is there: the tenant's own are worth more than shared ones, which will be found
    elsewhere too."""
    return sum(
        [
            weights.shared_resident if adapter in ask.shared else weights.own_resident
            for adapter in ask.adapters
            if adapter in held
        ]
    )
