"""Moves a replica that serves to another pod, so that an adapter that lacks room in one piece finds it where it was.

The adapter gets its place in a later round, when the replica has left. Until then the plan remembers which replica is
to leave and for whom (model.Places.moves): without that memory, only such moves are begun as retention does not undo.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from lora_scheduler.allotment import Allotment
from lora_scheduler.balance.rebalancing import Rebalancing
from lora_scheduler.balance.roominess import Roominess, Rooms
from lora_scheduler.balance.shifting import free_bytes, may_hold
from lora_scheduler.ledger import PodLedger, Replica

ADAPTERS_TRIED = 4  # in one round
PODS_TRIED = 16  # pods on which room is made, for one adapter


@dataclass(frozen=True, slots=True)
class _Move:
    replica: Replica
    pod: PodLedger


def consolidate(lacking: Iterable[Allotment], moves: Rebalancing) -> None:
    """Begin such moves, as far as moves are allowed, and note them."""
    tries = ADAPTERS_TRIED
    rooms = Rooms()
    hopeless: dict[int, int] = {}  # by group: the size from which on nothing could be done
    for allotment in lacking:
        if moves.budget <= 0 or tries <= 0:
            break
        group, size = id(allotment.group), allotment.adapter.bytes
        room = rooms.of(allotment.group)
        if room.free_slots < 1 or room.free_bytes < size or size >= hopeless.get(group, size + 1):
            continue
        tries -= 1
        found = _find(allotment, room, moves)
        if found is None:
            hopeless[group] = size
            continue
        left = found.replica.ledger
        moves.remembered[found.replica.adapter.key] = left.key, allotment.adapter.key
        moves.closed.add(left.key)
        moves.move(found.replica, found.pod)
        rooms.changed([left, found.pod])


def _find(allotment: Allotment, room: Roominess, moves: Rebalancing) -> _Move | None:
    """The smallest replica whose move makes enough room."""
    size, spots = allotment.adapter.bytes, list(room.open())
    nearest = islice((pod for pod in room.by_shortage() if may_hold(allotment, pod)), PODS_TRIED)
    found = [move for pod in nearest if (move := _cheapest(pod, size, spots, moves)) is not None]
    return min(
        found, key=lambda move: (move.replica.bytes, move.replica.ledger.key, move.replica.adapter.key), default=None
    )


def _cheapest(pod: PodLedger, size: int, spots: Sequence[PodLedger], moves: Rebalancing) -> _Move | None:
    needed = size - free_bytes(pod)
    largest = max([free_bytes(spot) for spot in spots[:2] if spot is not pod], default=-1)  # the first has the most
    enough = [
        replica for replica in pod.replicas.values() if needed <= replica.bytes and replica.adapter.bytes <= largest
    ]
    for replica in sorted(enough, key=lambda replica: (replica.bytes, replica.adapter.key)):
        if not moves.at_rest(replica):
            continue
        takers = [
            spot
            for spot in spots
            if spot is not pod
            and (moves.remembers or spot.load + replica.share < pod.load)
            and moves.takes(replica, spot)
        ]
        if takers:
            return _Move(replica, min(takers, key=lambda spot: (spot.load, spot.key)))
    return None
