"""The demo itself: its steps in order, and the summary."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from e2e.demo.one_address import ask_one_address
from e2e.demo.placing import ask, declare
from e2e.demo.refusing import delete, refuse
from e2e.demo.repairing import delete_pod, kill_container, unload_by_hand
from e2e.demo.stage import Stage
from e2e.demo.table import columns
from e2e.demo.updating import update


@dataclass(frozen=True, slots=True)
class Step:
    """`play` returns what was seen, in a few words with figures."""

    title: str
    play: Callable[[Stage], str]


STEPS = (
    Step("Adapters are placed", declare),
    Step("Requests are answered", ask),
    Step("A container dies", kill_container),
    Step("A pod is replaced", delete_pod),
    Step("An adapter is unloaded by hand", unload_by_hand),
    Step("An adapter gets new weights", update),
    Step("What cannot be served is refused", refuse),
    Step("One address answers for all", ask_one_address),
)
LAST_STEPS = (Step("LoraAdapters are deleted", delete),)


@dataclass(frozen=True, slots=True)
class Shown:
    """One step as it went."""

    title: str
    result: str
    seconds: float


def show(stage: Stage, steps: Sequence[Step]) -> list[Shown]:
    """Play the steps one after the other.

    Raises:
        NotAsExpected: something is not as it should be.
    """
    shown = []
    for number, step in enumerate(steps, start=1):
        stage.screen.title(f"{number}/{len(steps)}  {step.title}")
        started = time.monotonic()
        result = step.play(stage)
        stage.screen.good(result)
        shown.append(Shown(step.title, result, time.monotonic() - started))
    return shown


def summary(shown: Sequence[Shown]) -> list[str]:
    """One line per step: its title, what was seen, how long the step took."""
    return columns([[one.title, f"{one.seconds:.1f} s", one.result] for one in shown])
