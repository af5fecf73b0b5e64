"""Plays every policy on every trace: one flat record each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from bench.routing.demand import Bursts, Shape, requests
from bench.routing.placed import placed
from bench.routing.replay import Outcome, Setting, replay
from lora_scheduler.routing import Rules

Record = dict[str, Any]

ON_DEMAND, PLACED, SCRAPES = "loaded on demand", "placed beforehand", "age of metrics"
POLICIES = ("lora-affinity", "weighted", "threshold", "least-request", "random")
CVS = (1.0, 4.0, 8.0)
USE = 0.6  # of what all batches together can do
SCRAPE_SECONDS = (0.2, 1.0, 5.0, 30.0)
TYPICAL = (Bursts.EACH, 4.0)


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured. `adapters`: more than have room at once where loads are on demand, all with room else."""

    pods: int = 16
    adapters: int = 300
    placed_adapters: int = 160
    seconds: float = 300.0
    seeds: int = 3

    def shape(self, section: str, bursts: Bursts, cv: float, seed: int) -> Shape:
        adapters = self.placed_adapters if section == PLACED else self.adapters
        base = Shape(adapters, 0.0, self.seconds, cv, bursts, seed=seed)
        return replace(base, per_second=USE * self.pods * Setting(self.pods).limits.batch / base.served_seconds)


def measure(extent: Extent) -> Iterator[Record]:
    for seed in range(extent.seeds):
        for bursts in Bursts:
            for cv in CVS:
                for section in (ON_DEMAND, PLACED):
                    shape = extent.shape(section, bursts, cv, seed)
                    asked = requests(shape)
                    setting = Setting(extent.pods, may_load=section == ON_DEMAND)
                    held = placed(shape, setting) if section == PLACED else None
                    for policy in POLICIES:
                        yield _record(section, shape, policy, setting, replay(asked, setting, Rules(policy), held))
        shape = extent.shape(ON_DEMAND, *TYPICAL, seed)
        asked = requests(shape)
        for scrape_seconds in SCRAPE_SECONDS:
            for told in (False, True):
                setting = Setting(extent.pods, scrape_seconds=scrape_seconds, told=told)
                yield _record(SCRAPES, shape, POLICIES[0], setting, replay(asked, setting, Rules()))


def _record(section: str, shape: Shape, policy: str, setting: Setting, outcome: Outcome) -> Record:
    about = {"section": section, "policy": policy, "pods": setting.pods, "told": setting.told}
    return asdict(shape) | about | {"scrape_seconds": setting.scrape_seconds} | asdict(outcome)


def chosen(records: list[Record], section: str, **wanted: object) -> list[Record]:
    return [
        one
        for one in records
        if one["section"] == section and all(one[name] == value for name, value in wanted.items())
    ]
