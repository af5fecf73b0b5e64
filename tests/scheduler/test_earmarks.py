"""Where pods differ in the ranks that they serve and room is scarce, small ranks leave room to those that need it."""

from __future__ import annotations

import random
from dataclasses import replace

from lora_scheduler import Adapter, Pod
from tests.scheduler.builders import GIB, a_pod, a_snapshot, an_adapter, plan_for, run

KINDS = ((32, 1.0), (64, 1.5), (128, 2.0))  # highest rank, room of a pod relative to the others
MIB = 1 << 20


def mixed_fleet(seed: int, count: int, use: float) -> tuple[list[Adapter], list[Pod]]:
    """Adapters of all ranks, two sizes to a rank, and three kinds of pods of which both slots and memory are used."""
    dice = random.Random(seed)
    demands = [100 / (place + 1) ** 0.8 for place in range(count)]
    dice.shuffle(demands)
    adapters = []
    for number, demand in enumerate(demands):
        rank = dice.choices((8, 16, 32, 64, 128), (30, 30, 20, 15, 5))[0]
        size = rank * dice.choice((2, 5)) * MIB
        adapters.append(an_adapter(f"a{number:03}", rank=rank, bytes=size, demand=demand, age_rank=number))
    kinds = [KINDS[(0, 0, 1, 0, 1, 2, 0, 1, 2, 0)[number % 10]] for number in range(count // 10)]
    part = 1 / use / sum(room for _, room in kinds)
    size = sum(adapter.bytes for adapter in adapters)
    pods = [
        a_pod(f"p{i:02}", slots=round(count * part * room + 0.5), memory=size * part * room / GIB, max_rank=rank)
        for i, (rank, room) in enumerate(kinds)
    ]
    return adapters, pods


def test_nearly_all_find_a_place_where_pods_differ_in_rank_and_there_is_just_room_for_all() -> None:
    missing = 0
    for seed in range(6):
        adapters, pods = mixed_fleet(seed, 200, 0.94)
        missing += sum(plan_for(*adapters, *pods).missing.values())
    assert missing <= 10  # 21 where it does not matter which kind of pods somebody goes to


def test_who_is_asked_for_by_nobody_or_served_by_no_kind_takes_part_as_others_do() -> None:
    adapters, pods = mixed_fleet(1, 200, 0.9)
    unasked = [replace(adapter, demand=0.0) for adapter in adapters]
    made = plan_for(*unasked, replace(unasked[0], key="huge", name="huge", rank=256), *pods)
    assert made.missing == {"huge": 1}


def test_who_finds_no_room_on_its_kind_of_pods_takes_that_of_a_lower_priority_on_another_kind() -> None:
    adapters, pods = mixed_fleet(2, 100, 0.94)
    weak = [replace(adapter, priority=-1, key=f"w{adapter.key}", name=f"w{adapter.key}") for adapter in adapters]
    full, _ = run(a_snapshot(*weak, *pods))
    settled, _ = run(replace(full, adapters=(*full.adapters, *adapters)))
    there = {resident.adapter for pod in settled.pods for resident in pod.residents}
    assert len([adapter for adapter in adapters if adapter.key not in there]) <= 2
