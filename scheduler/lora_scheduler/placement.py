"""Finds places for the replicas that an adapter lacks: in free room first, then in that of lower priorities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import itemgetter

from lora_scheduler import preemption
from lora_scheduler.allotment import Allotment
from lora_scheduler.at_hand import AtHand
from lora_scheduler.board import Board, options
from lora_scheduler.ledger import PodLedger, Replica
from lora_scheduler.model import YIELDING, UnloadCause

PODS_PRICED, MOST_PRICED = (
    32,
    128,
)  # in the order of what they cost at least: so many if they differ little, and at most


def grow(allotment: Allotment) -> None:
    """Where an old version is to be exchanged for a larger one, reserve the difference, or look for another place."""
    for replica in list(allotment.kept.values()):
        if replica.outdated and replica.ledger.target:
            if replica.ledger.fits_later(allotment.adapter.bytes, replica):
                replica.ledger.resize(replica, allotment.adapter.bytes)
            else:
                allotment.postpone(replica)


def fill(
    allotment: Allotment, wanted: int, at_hand: AtHand, allotments: Mapping[str, Allotment], board: Board,
    reach: int | None = None,
) -> None:  # fmt: skip
    """Give the adapter so many replicas, as far as there is room: free, or of those below the priority `reach`. Rather
    where its files are, if that takes away nothing that is used."""
    if allotment.everywhere:
        pending = allotment.pending
        for pod in options(allotment):
            if pod.fits_later(allotment.bytes_on(pod.key), pending.get(pod.key)):
                allot(allotment, pod)
    else:
        _place_at_hand(allotment, wanted, at_hand, allotments, board, clear=reach is not None)
        _place(allotment, wanted, board)
    if reach is not None:
        _preempt(allotment, wanted, reach, allotments, board)


def follow_demand(allotment: Allotment, allotments: Mapping[str, Allotment], board: Board, *, preempt: bool) -> None:
    """Give the adapter those replicas too by which Auto follows demand, where need be in the room of what nobody uses.
    To be done when all others have what they need: else one could take again and again what another needs, and would
    get back (see `_preempt`)."""
    _place(allotment, allotment.wanted, board)
    if preempt:
        _preempt(allotment, allotment.wanted, YIELDING, allotments, board)


def _place(allotment: Allotment, wanted: int, board: Board) -> None:
    while len(allotment.kept) < wanted:
        chosen = board.choose(allotment)
        if chosen is None:
            break
        allot(allotment, chosen)


def _place_at_hand(
    allotment: Allotment, wanted: int, at_hand: AtHand, allotments: Mapping[str, Allotment], board: Board, *,
    clear: bool,
) -> None:  # fmt: skip
    while len(allotment.kept) < wanted:
        chosen = at_hand.choose(allotment, board, clear=clear)
        if chosen is None:
            break
        _make_room(allotment, chosen, YIELDING, allotments)
        allot(allotment, chosen).at_hand = True
        board.note(chosen)


def _make_room(allotment: Allotment, ledger: PodLedger, reach: int, allotments: Mapping[str, Allotment]) -> None:
    """Take from those below this priority what a replica on the pod lacks; that they have enough was asked before."""
    slots, size = ledger.shortage(allotment.bytes_on(ledger.key), allotment.pending.get(ledger.key))
    if slots > 0 or size > 0:
        weaker = preemption.weaker(ledger, reach, allotments)
        for replica in preemption.victims(weaker, slots, size, allotments):
            allotments[replica.adapter.key].evict(replica, UnloadCause.PREEMPTED, allotment.adapter.key)


def allot(allotment: Allotment, ledger: PodLedger) -> Replica:
    """Give the adapter a place on the pod, counting on a replica that is there already if one is."""
    adapter, key = allotment.adapter, ledger.key
    replica = allotment.pending.pop(key, None)
    if replica is not None:
        replica.ledger.release(replica)
    else:
        replica = allotment.taken_back(key) or Replica(adapter, ledger, adapter.bytes, allotment.share)
    replica.share = allotment.share
    if replica.current is None:
        replica.bytes = adapter.bytes
    allotment.keep(replica)
    return replica


def _preempt(allotment: Allotment, wanted: int, reach: int, allotments: Mapping[str, Allotment], board: Board) -> None:
    """Up to so many replicas, in the room of those below this priority."""
    if not _lacks(allotment, wanted):
        return
    prices = _prices(allotment, board.below(allotment, reach, allotments), reach, allotments, board)
    while prices and _lacks(allotment, wanted):
        lowest = min([price for _, price in prices.values()])
        ledger = board.best(allotment, [pod for pod, price in prices.values() if price == lowest])
        del prices[ledger.key]
        price = _price(allotment, ledger, reach, allotments, board.has_spare)
        if price != lowest:
            # what was a spare replica, or a second replica, no longer is one, as another one of its adapter has gone
            if price is not None:
                prices[ledger.key] = ledger, price
            continue
        _make_room(allotment, ledger, reach, allotments)
        allot(allotment, ledger)
        board.note(ledger)


def _prices(
    allotment: Allotment, pods: Sequence[PodLedger], reach: int, allotments: Mapping[str, Allotment], board: Board
) -> dict[str, tuple[PodLedger, preemption.Cost]]:
    """What room for a replica costs on the pods; in large fleets only where that is the least, or about as little."""
    line: list[tuple[preemption.Cost, float, str, PodLedger]] = []
    own = {*allotment.pending, *allotment.evicted, *allotment.dropped}
    for ledger in pods:
        least: preemption.Cost | None = preemption.SPARE, 0
        if not board.has_spare and ledger.key not in own:
            least = preemption.bound(ledger, allotment.adapter.bytes, reach)
        if least is not None:
            line.append((least, ledger.load, ledger.key, ledger))
    line.sort(key=itemgetter(0, 1, 2))
    found: dict[str, tuple[PodLedger, preemption.Cost]] = {}
    enough = len(line) if allotment.everywhere else PODS_PRICED + allotment.needed
    for place, (least, _, key, ledger) in enumerate(line):
        if place >= enough and found and (least >= min([cost for _, cost in found.values()]) or place >= MOST_PRICED):
            break
        cost = _price(allotment, ledger, reach, allotments, board.has_spare)
        if cost is not None:
            found[key] = ledger, cost
    return found


def _price(
    allotment: Allotment, ledger: PodLedger, reach: int, allotments: Mapping[str, Allotment], spare: bool
) -> preemption.Cost | None:
    slots, size = ledger.shortage(allotment.bytes_on(ledger.key), allotment.pending.get(ledger.key))
    lower_slots, lower_bytes = ledger.held_below(reach)
    if not spare and (lower_slots < slots or lower_bytes < size):
        return None  # as on most pods: to be found out quickly
    return preemption.cheapest(preemption.weaker(ledger, reach, allotments), slots, size, allotments)


def _lacks(allotment: Allotment, wanted: int) -> bool:
    return allotment.everywhere or len(allotment.kept) < wanted
