"""What the operator writes itself is no reason to plan anew; what others write at the same time is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lora_operator.kube.own_writes import OwnWrites
from tests.core.fleet import a_fleet

KEY = ("LoraAdapter", "ns/la")
OTHER = ("LoraAdapter", "ns/other")


class Told:
    def __init__(self) -> None:
        self.times = 0
        self.writes = OwnWrites(self.tell)

    def tell(self) -> None:
        self.times += 1


def test_what_is_shown_while_nothing_is_written_is_of_others() -> None:
    told = Told()
    with told.writes.writing(KEY) as own:
        assert not told.writes.may_be(OTHER)
        own.news = False
    assert not told.writes.may_be(KEY) and told.times == 0


def test_what_is_shown_meanwhile_is_ours_when_the_answer_says_so() -> None:
    told = Told()
    with told.writes.writing(KEY) as own:
        assert told.writes.may_be(KEY)
        own.news = False
    assert told.times == 0


@pytest.mark.parametrize("shown", [True, False])
def test_what_comes_with_the_answer_is_told_whether_it_was_shown_or_not(shown: bool) -> None:
    told = Told()
    with told.writes.writing(KEY) as own:
        if shown:
            told.writes.may_be(KEY)
        own.news = True
    assert told.times == 1


@pytest.mark.parametrize("shown", [True, False])
def test_where_no_answer_came_what_was_shown_is_told(shown: bool) -> None:
    told = Told()
    with pytest.raises(TimeoutError), told.writes.writing(KEY):
        if shown:
            told.writes.may_be(KEY)
        raise TimeoutError
    assert told.times == int(shown)


def test_of_two_at_a_time_neither_hides_what_the_other_may_not_be() -> None:
    told = Told()
    with told.writes.writing(KEY) as first:
        with pytest.raises(TimeoutError), told.writes.writing(KEY):
            assert told.writes.may_be(KEY)
            raise TimeoutError
        first.news = False
    assert told.times == 1 and not told.writes.may_be(KEY)


async def test_statuses_that_are_written_call_for_no_round(tmp_path: Path) -> None:
    async with a_fleet(tmp_path) as fleet:
        await fleet.add_pod("p0", "--max-loras", "8", "--max-cpu-loras", "48")
        names = [f"a{number}" for number in range(40)]
        for number, name in enumerate(names):
            fleet.write(name, seed=number)
            fleet.apply(name, name)
        await fleet.until(lambda: all(fleet.ready(name) for name in names))
        await fleet.settle()
        go = fleet.stall()
        for name in names:
            fleet.apply(name, name)  # a new generation, which each status is to say
        await fleet.until(lambda: len(fleet.operator._writes) == len(names) and fleet.operator.loop.idle)
        rounds = counted(fleet.operator.loop)
        go.set()
        fleet.api.stall = None
        await fleet.until(lambda: all(fleet.ready(name) for name in names))
        await fleet.settle()
        assert len(rounds) <= 2  # one may be due now and then


async def test_what_somebody_else_changes_meanwhile_is_planned_for(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, pods=1) as fleet:
        fleet.write("sql")
        fleet.apply("la", "sql")
        await fleet.until(lambda: fleet.ready("la"))
        await fleet.settle()
        go = fleet.stall()
        fleet.apply("la", "sql")
        await fleet.until(lambda: fleet.operator._writes._running and fleet.operator.loop.idle)
        fleet.apply("la", "sql", replicas=0)
        go.set()
        fleet.api.stall = None
        await fleet.until(lambda: fleet.on("p0") == [])


def counted(loop: Any) -> list[None]:
    """One for each round from now on."""
    rounds: list[None] = []
    run = loop._once

    async def noted() -> None:
        rounds.append(None)
        await run()

    loop._once = noted
    return rounds
