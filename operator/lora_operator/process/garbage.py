"""Keeps Python's collector of cyclic garbage from holding the event loop up.

A full collection goes through every object there is: 0.15 s for 1,000 adapters on 100 pods, in which nothing is
answered. Most of them stay for good: modules, and what is known of the fleet. So what has outlived a full collection is
set aside, and the next one goes through what came since. It is freed as ever when nothing refers to it any more; only a
cycle among such objects would stay. Therefore all are gone through once more when they have become many times as many:
a leak could not go on.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

THRESHOLDS = (1_000, 10, 5)  # a full collection when there are so many objects more, multiplied
MANY = 20_000  # objects take 10 ms to go through
AGAIN_AFTER_GROWTH = 4


@contextlib.contextmanager
def collected_in_steps() -> Iterator[None]:
    """In here; to be entered when everything is imported. What was set before is so again afterwards."""
    enabled, thresholds, aside = gc.isenabled(), gc.get_threshold(), _Aside()
    gc.freeze()
    aside.look()
    gc.set_threshold(*THRESHOLDS)
    gc.callbacks.append(aside.collected)
    gc.enable()
    try:
        yield
    finally:
        gc.callbacks.remove(aside.collected)
        gc.unfreeze()
        gc.set_threshold(*thresholds)
        if not enabled:
            gc.disable()


class _Aside:
    """What is set aside."""

    def __init__(self) -> None:
        self._count = 0  # at most
        self._most = 0  # before all are gone through again
        self._all = False  # whether the next full collection goes through all

    def look(self) -> None:
        """So many it is when all of it is known to be of use."""
        self._count = gc.get_freeze_count()
        self._most = AGAIN_AFTER_GROWTH * self._count

    def collected(self, phase: str, info: dict[str, int]) -> None:
        """As gc calls it before and after each collection."""
        if phase != "stop" or info["generation"] < 2:
            return
        if self._all:
            self._all = False
            gc.freeze()
            self.look()
            return
        more = len(gc.get_objects(generation=2))
        if more < MANY:
            return
        gc.freeze()
        self._count += more
        if self._count > self._most:  # some of it may be gone
            self._count = gc.get_freeze_count()
        if self._count > self._most:
            gc.unfreeze()
            self._all = True
