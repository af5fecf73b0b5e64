"""Draws, from whatever source of randomness the caller passes in (`random.Random` will do)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

Item = TypeVar("Item")


class Chance(Protocol):
    """What is needed of `random.Random`."""

    def random(self) -> float:
        """A number from 0 up to, and without, 1."""


def draw(items: Sequence[Item], count: int, chance: Chance) -> Sequence[Item]:
    """At most `count` of them, without repetition, each as likely to come first as any other."""
    total = len(items)
    if 2 * count >= total:  # most of them: begin anywhere
        start = int(chance.random() * total)
        return [*items[start:], *items[:start]][:count]
    taken: dict[int, None] = {}  # in the order drawn
    while len(taken) < count:
        taken[int(chance.random() * total)] = None
    return [items[index] for index in taken]
