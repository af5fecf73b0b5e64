"""The picker's index follows the table: no pick is ever of a pod that the table does not name."""

from __future__ import annotations

import random
from collections import Counter

from lora_operator.router.picker import HASH, NAMES, Picker
from tests.router.fleet import NAMESPACE, Fleet, a_fleet

NOBODY: frozenset[str] = frozenset()


def test_every_pick_is_one_of_the_present_endpoints_whatever_happened_before() -> None:
    chance = random.Random(3)
    fleet = Fleet(log_length=20)  # so short that the picker sometimes has to begin anew
    picker = Picker(fleet.table, random.Random(1), lambda: 0.0)
    names = [f"a{number}" for number in range(5)]
    for _ in range(300):
        for _ in range(chance.randrange(1, 4)):
            pod = f"vllm-{chance.randrange(4)}"
            fleet.pod(pod, f"10.0.0.{chance.randrange(4)}", ready=chance.random() < 0.8)
            held = {
                f"vllm-{n}": {a: a if chance.random() < 0.5 else f"{a}--1" for a in chance.sample(names, 3)}
                for n in range(4)
            }
            fleet.adapter(f"la-{chance.randrange(2)}", held)
        fleet.refresh()
        for entry in fleet.table.after():
            policy = chance.choice(NAMES)
            picked = picker.pick(entry, policy, "k", NOBODY)
            assert picked in entry.endpoints if entry.endpoints else picked is None
    holding = {f"{NAMESPACE}/{one.pod}" for entry in fleet.table.after() for one in entry.endpoints}
    assert len(picker.index) == len(holding)


def test_picks_spread_over_the_pods_and_avoid_those_that_are_named() -> None:
    fleet = a_fleet()
    picker = Picker(fleet.table, random.Random(1), lambda: 0.0)
    entry = fleet.table.get(NAMESPACE, "sql")
    assert entry is not None
    counts: Counter[str] = Counter()
    for _ in range(100):
        picked = picker.pick(entry, "", "", NOBODY)
        assert picked is not None
        counts[picked.pod] += 1
    assert min(counts["vllm-0"], counts["vllm-1"]) >= 45
    for policy in NAMES:
        picked = picker.pick(entry, policy, "k", frozenset({"vllm-0"}))
        assert picked is not None and picked.pod == "vllm-1"
        assert picker.pick(entry, policy, "k", frozenset({"vllm-0", "vllm-1"})) is None


def test_one_key_stays_on_its_pod_and_only_keys_of_a_lost_pod_move() -> None:
    fleet = Fleet()
    for number in range(5):
        fleet.pod(f"vllm-{number}", f"10.0.0.{number}")
    fleet.adapter("la", {f"vllm-{number}": {"sql": "sql"} for number in range(5)})
    fleet.refresh()
    picker = Picker(fleet.table)

    def places() -> dict[str, str]:
        entry = fleet.table.get(NAMESPACE, "sql")
        assert entry is not None
        picked = {f"user-{n}": picker.pick(entry, HASH, f"user-{n}", NOBODY) for n in range(200)}
        return {key: one.pod for key, one in picked.items() if one is not None}

    before = places()
    assert set(before.values()) == {f"vllm-{number}" for number in range(5)}
    fleet.pod("vllm-3", "10.0.0.3", ready=False)
    fleet.refresh()
    after = places()
    assert {key for key in before if before[key] != after[key]} == {key for key in before if before[key] == "vllm-3"}
