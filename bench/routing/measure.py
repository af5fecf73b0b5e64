"""Plays every policy on every trace: one flat record each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from bench.routing.demand import Bursts, Shape, requests
from bench.routing.engine import Limits
from bench.routing.placed import placed
from bench.routing.replay import Outcome, Setting, replay
from lora_scheduler.routing import Rules

Record = dict[str, Any]

ON_DEMAND, PLACED, SCRAPES, VARIED = "loaded on demand", "placed beforehand", "age of metrics", "other fleets"
POLICIES = ("lora-affinity", "weighted", "threshold", "least-request", "random")
CVS = (1.0, 4.0, 8.0)
USE = 0.6  # of what all batches together can do
SCRAPE_SECONDS = (0.2, 1.0, 5.0, 30.0)
TYPICAL = (Bursts.EACH, 4.0)


@dataclass(frozen=True, slots=True)
class Variation:
    """A fleet that differs from the usual one. `times`: so many times the pods and the adapters."""

    name: str
    use: float = USE
    times: int = 1
    limits: Limits = field(default_factory=Limits)


VARIATIONS = (
    Variation("loads of 1 s", limits=Limits(load_seconds=1.0)),
    Variation("30 % in use", use=0.3),
    Variation("85 % in use", use=0.85),
    Variation("48 pods, 900 adapters", times=3),
    Variation("batches of 32, 16 adapters in them", limits=Limits(batch=32, gpu_slots=16)),
)
COMPARED = ("lora-affinity", "weighted", "least-request")


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured. `adapters`: more than have room at once where loads are on demand, all with room else."""

    pods: int = 16
    adapters: int = 300
    placed_adapters: int = 160
    seconds: float = 300.0
    seeds: int = 3

    def shape(self, section: str, bursts: Bursts, cv: float, seed: int, setting: Setting, use: float = USE) -> Shape:
        adapters = self.placed_adapters if section == PLACED else self.adapters * setting.pods // self.pods
        base = Shape(adapters, 0.0, self.seconds, cv, bursts, seed=seed)
        return replace(base, per_second=use * setting.pods * setting.limits.batch / base.served_seconds)


def measure(extent: Extent) -> Iterator[Record]:
    for seed in range(extent.seeds):
        for bursts in Bursts:
            for cv in CVS:
                for section in (ON_DEMAND, PLACED):
                    setting = Setting(extent.pods, may_load=section == ON_DEMAND)
                    shape = extent.shape(section, bursts, cv, seed, setting)
                    asked = requests(shape)
                    held = placed(shape, setting) if section == PLACED else None
                    for policy in POLICIES:
                        yield _record(section, shape, policy, setting, replay(asked, setting, Rules(policy), held))
        shape = extent.shape(ON_DEMAND, *TYPICAL, seed, Setting(extent.pods))
        asked = requests(shape)
        for scrape_seconds in SCRAPE_SECONDS:
            for told in (False, True):
                setting = Setting(extent.pods, scrape_seconds=scrape_seconds, told=told)
                yield _record(SCRAPES, shape, POLICIES[0], setting, replay(asked, setting, Rules()))
        for variation in VARIATIONS:
            setting = Setting(extent.pods * variation.times, variation.limits)
            shape = extent.shape(VARIED, *TYPICAL, seed, setting, variation.use)
            asked = requests(shape)
            for policy in COMPARED:
                played = replay(asked, setting, Rules(policy))
                yield _record(VARIED, shape, policy, setting, played) | {"variation": variation.name}


def _record(section: str, shape: Shape, policy: str, setting: Setting, outcome: Outcome) -> Record:
    about = {"section": section, "policy": policy, "pods": setting.pods, "told": setting.told}
    return asdict(shape) | about | {"scrape_seconds": setting.scrape_seconds} | asdict(outcome)


def chosen(records: list[Record], section: str, **wanted: object) -> list[Record]:
    return [
        one
        for one in records
        if one["section"] == section and all(one[name] == value for name, value in wanted.items())
    ]
