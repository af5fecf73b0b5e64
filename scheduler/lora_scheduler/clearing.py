"""Lets adapters that nobody uses leave a pod, for a load that would rather not take anything else down.

The load itself has to wait: what leaves is gone in a later round, which finds the room then. Nobody remembers what it
was meant for; until it is there, all rounds come to the same answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lora_scheduler.allotment import Allotment
from lora_scheduler.ledger import PodLedger
from lora_scheduler.model import YIELDING, UnloadCause
from lora_scheduler.preemption import Cost, cheapest, victims, weaker

COMING = 4 * YIELDING, 0  # less than any price: enough is leaving already


def clear(pods: Iterable[PodLedger], allotment: Allotment, allotments: Mapping[str, Allotment]) -> PodLedger | None:
    """Make room for one more replica on the pod where that costs least; None where all that could leave is not
    enough."""
    prices = [(price, pod.key, pod) for pod in pods if (price := _price(pod, allotment, allotments)) is not None]
    if not prices:
        return None
    price, _, pod = min(prices)
    if price != COMING:
        slots, size = pod.shortage(allotment.adapter.bytes)
        for replica in victims(weaker(pod, YIELDING, allotments), slots, size, allotments):
            allotments[replica.adapter.key].evict(replica, UnloadCause.PREEMPTED, allotment.adapter.key)
    return pod


def clearable(pod: PodLedger, allotment: Allotment, allotments: Mapping[str, Allotment]) -> bool:
    """Whether `clear` could make room there, or has begun to."""
    return _price(pod, allotment, allotments) is not None


def _price(pod: PodLedger, allotment: Allotment, allotments: Mapping[str, Allotment]) -> Cost | None:
    slots, size = pod.shortage(allotment.adapter.bytes)
    if slots > 0 or size > 0:
        lowest = pod.lowest_priority()
        if lowest is None or lowest >= YIELDING:
            return None  # as of most pods: to be found out quickly
        return cheapest(weaker(pod, YIELDING, allotments), slots, size, allotments)
    return COMING if _are_leaving(pod, allotments) else None


def _are_leaving(pod: PodLedger, allotments: Mapping[str, Allotment]) -> bool:
    """Whether something is on its way out that nobody uses."""
    owners = [allotments.get(resident.adapter or "") for resident in pod.pod.residents]
    return any(one is not None and one.adapter.idle and pod.key not in one.kept for one in owners)
