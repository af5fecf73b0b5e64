"""Which kind of pods an adapter should rather go to, where pods differ in the ranks that they serve and room is scarce.

One after the other by demand, small ranks would take the memory of those pods that alone can serve large ones, or leave
slots without memory on one kind of pods and memory without slots on another. So the slots, memory and load of each
kind have a price that rises with their use, as in approximation by multiplicative weights (Plotkin, Shmoys and Tardos
1995, Fractional packing and covering problems): classes of like adapters are shared out bit by bit, each bit to the
kind where it is cheapest by then. Within a kind it is the same as with equal pods.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import exp, log2

from lora_scheduler.allotment import Allotment

BITS = 60  # that a class is shared out in
STEEPNESS = 20.0  # how fast a price rises with use
MOST = 300.0  # the logarithm of the highest price: where a kind is asked for far too much, more makes no difference
SIZES_PER_OCTAVE = 4  # adapters are alike whose sizes are about the same, and whose shares are within a factor of 2
NO_SHARE = -1_000
LOAD_COUNTS = 0.97  # uneven load is not as bad as a lack of room
LEAST_LOAD = 0.05  # of a kind's part: where it has more than that already, its load is not without price all the same


@dataclass(slots=True)
class Kind:
    """The room that the pods which serve ranks up to the same one have left together, and their load."""

    rank: int
    pods: int = 0
    slots: int = 0
    bytes: int = 0
    load: float = 0.0


@dataclass(slots=True)
class _Class:
    """Adapters that are alike: what they lack in all, and how many bits of it go to each kind."""

    least: int  # the first kind that serves their rank
    bits: list[int]
    members: list[Allotment] = field(default_factory=list)
    replicas: int = 0
    bytes: int = 0
    load: float = 0.0


def earmark(lacking: Iterable[Allotment], kinds: Sequence[Kind]) -> None:
    """Set `kind` of these adapters, which lack replicas. The kinds are in the order of their ranks."""
    classes = _classes(lacking, kinds)
    _share_out(classes, kinds)
    for one in classes:
        _mark(one, kinds)


def _classes(lacking: Iterable[Allotment], kinds: Sequence[Kind]) -> list[_Class]:
    ranks = [kind.rank for kind in kinds]
    found: dict[tuple[int, int, int], _Class] = {}
    for allotment in lacking:
        adapter = allotment.adapter
        least = min(bisect_left(ranks, adapter.rank), len(kinds) - 1)  # where none serves it, none has room for it
        size = round(log2(max(adapter.bytes, 1)) * SIZES_PER_OCTAVE)
        share = round(log2(allotment.share)) if allotment.share else NO_SHARE
        one = found.setdefault((least, size, share), _Class(least, [0] * len(kinds)))
        replicas = allotment.missing
        one.members.append(allotment)
        one.replicas += replicas
        one.bytes += replicas * adapter.bytes
        one.load += replicas * allotment.share
    return [found[key] for key in sorted(found)]


def _share_out(classes: Sequence[_Class], kinds: Sequence[Kind]) -> None:
    load = sum([kind.load for kind in kinds]) + sum([one.load for one in classes])
    mean = load / sum([kind.pods for kind in kinds])
    used = [[0.0, 0.0, 0.0] for _ in kinds]
    line: list[tuple[list[int], list[tuple[int, float, float, float]]]] = []
    for one in classes:
        parts = [(place, *_parts(one, kinds[place], mean)) for place in range(one.least, len(kinds))]
        if len(parts) == 1:  # no other kind serves them
            one.bits[-1] = BITS
            used[-1] = [use + part * BITS for use, part in zip(used[-1], parts[0][1:], strict=True)]
        else:
            line.append((one.bits, parts))
    prices = [[_price(use) for use in of_kind] for of_kind in used]
    for _ in range(BITS):
        for bits, parts in line:
            least = -1.0
            for place, slots, size, load in parts:
                price = prices[place]
                cost = slots * price[0] + size * price[1] + load * price[2]
                if cost < least or least < 0:
                    least, chosen = cost, (place, slots, size, load)
            place, slots, size, load = chosen
            bits[place] += 1
            use = used[place]
            use[0] += slots
            use[1] += size
            use[2] += load
            prices[place] = [_price(use[0]), _price(use[1]), _price(use[2])]


def _price(use: float) -> float:
    return exp(min(STEEPNESS * (use - 1), MOST))


def _parts(one: _Class, kind: Kind, mean: float) -> tuple[float, float, float]:
    """How much of what the kind has left in slots, memory and load one bit of the class takes."""
    load = max(mean * kind.pods - kind.load, LEAST_LOAD * mean * kind.pods)
    return (
        one.replicas / BITS / max(kind.slots, 1),
        one.bytes / BITS / max(kind.bytes, 1),
        one.load / BITS / load * LOAD_COUNTS if load else 0.0,
    )


def _mark(one: _Class, kinds: Sequence[Kind]) -> None:
    """Give each member to the kind that lacks most of its part so far."""
    owed = [0.0] * len(kinds)
    for allotment in one.members:
        replicas = allotment.missing
        owed = [lacks + bits * replicas / BITS for lacks, bits in zip(owed, one.bits, strict=True)]
        place = owed.index(max(owed))
        owed[place] -= replicas
        allotment.kind = kinds[place].rank
