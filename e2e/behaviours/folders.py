"""Folders of several adapters."""

from __future__ import annotations

from e2e.world import World


def many(world: World, count: int) -> list[str]:
    """A folder `many` with so many good adapters, all different; their names in order."""
    names = [f"a{index:02}" for index in range(count)]
    for index, name in enumerate(names):
        world.adapter(name, inside="many", seed=index)
    return names
