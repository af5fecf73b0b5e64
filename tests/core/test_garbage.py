"""No collection of garbage goes through all that there is, however much it becomes, and none stays for good.

Each script runs in a process of its own: what it sets is of the whole process.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

FLEET = """
import gc
from lora_operator.process.garbage import collected_in_steps

class Known:
    def __init__(self, number):
        self.other = {"number": [number]}

class Cycle:
    count = 0
    def __init__(self):
        self.self = self
        Cycle.count += 1
    def __del__(self):
        Cycle.count -= 1

most = 0
def look(phase, info):
    global most
    if phase == "start" and info["generation"] == 2:
        most = max(most, len(gc.get_objects()))
"""


def run(script: str) -> list[int]:
    """What it printed."""
    done = subprocess.run([sys.executable, "-c", FLEET + script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [int(word) for word in done.stdout.split()]


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="that Python collects in steps by itself")
def test_a_fleet_that_grows_is_never_gone_through_as_a_whole() -> None:
    looked_at, known, aside = run("""
imported = [Known(number) for number in range(50_000)]
with collected_in_steps():
    gc.callbacks.append(look)
    fleet = [Known(number) for number in range(100_000)]
    print(most, 3 * len(fleet), gc.get_freeze_count())
""")
    assert 0 < looked_at < known / 3
    assert aside > known


def test_garbage_among_what_was_set_aside_does_not_grow_without_end() -> None:
    left, made = run("""
with collected_in_steps():
    made = 0
    for _ in range(30):
        cycles = [Cycle() for _ in range(20_000)]
        made += len(cycles)
        fleet = [Known(number) for number in range(20_000)]
    del cycles
    print(Cycle.count, made)
""")
    assert left < made / 2


def test_afterwards_all_is_as_it_was() -> None:
    before, after, aside = run("""
before = gc.get_threshold()[0], len(gc.callbacks)
with collected_in_steps():
    pass
print(*(sum(each) for each in (before, (gc.get_threshold()[0], len(gc.callbacks)))), gc.get_freeze_count())
""")
    assert before == after and aside == 0
