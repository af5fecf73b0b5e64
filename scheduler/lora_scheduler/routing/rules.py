"""How to choose among pods that may all be the answer, as data."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lora_scheduler.routing.errors import InvalidRules


@dataclass(frozen=True, slots=True)
class Weights:
    """What counts how much in `weighted`, and for workers that pull.

    `own_resident`, `shared_resident`: per adapter that is there. `free_slot`: the next batch there has a place for it.
    `prefix`: per thousand tokens of the prompt that are probably in its cache. `queue_depth`: taken off for a pod as
    busy as the mean, twice for twice as busy.
    """

    own_resident: float = 10.0
    shared_resident: float = 5.0
    free_slot: float = 1.0
    prefix: float = 5.0
    queue_depth: float = 10.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if not math.isfinite(getattr(self, name)):
                raise InvalidRules(f"the weight {name} is {getattr(self, name)}; use a number, 0 to leave it out")


DEFAULT_WEIGHTS = Weights()


@dataclass(frozen=True, slots=True)
class Rules:
    """A policy by name, with its bounds.

    `choices`: how many pods are compared at first (2: power of two choices). `scan`: the most that are ever compared in
    one pick, so that a pick costs the same in any fleet. `epsilon`: a pod is too busy beyond (1 + epsilon) times the
    mean of its like, and beyond `slack` requests more than the mean: without that, in a quiet fleet the second request
    at a time would be too many. `gain`: by how many times that mean another pod must be less busy to be worth a load.
    `affinity`: how often `threshold` takes a pod where the adapter is active. `prefix`: how many requests more a pod
    may have for each thousand tokens that it need not compute; it is never one that is too busy.
    """

    policy: str = "lora-affinity"
    choices: int = 2
    scan: int = 8
    epsilon: float = 0.25
    slack: float = 4.0
    gain: float = 1.0
    affinity: float = 0.999
    prefix: float = 8.0
    weights: Weights = DEFAULT_WEIGHTS

    def __post_init__(self) -> None:
        if self.choices < 1 or self.scan < self.choices:
            raise InvalidRules(
                f"choices is {self.choices} and scan {self.scan}; compare at least 1 pod, and scan no fewer"
            )
        for name in ("epsilon", "slack", "gain", "prefix"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise InvalidRules(f"{name} is {getattr(self, name)}; use 0 or more")
        if not 0 <= self.affinity <= 1:
            raise InvalidRules(f"affinity is {self.affinity}; use a probability from 0 to 1")
