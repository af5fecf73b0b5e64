"""Rounds leave loads the time that they would take, and nobody waits for that."""

from __future__ import annotations

import asyncio
import time

import pytest

from lora_operator.execution import pacing
from lora_operator.execution.pacing import Pace

HOUR = 3600.0


async def test_a_short_round_is_followed_at_once() -> None:
    async with asyncio.timeout(60):
        await Pace(lambda: False).rest(pacing.LONG_ROUND_SECONDS)


@pytest.mark.parametrize("presses", [True, False])
async def test_after_a_long_round_loads_that_go_on_are_left_more_time_than_all_else(
    presses: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacing, "LONGEST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(pacing, "LONGEST_PROGRESS_SECONDS", 0.3)
    began = time.monotonic()
    await Pace(lambda: presses).rest(1.0)
    assert time.monotonic() - began >= (0.01 if presses else 0.3)


async def test_what_presses_ends_the_rest_and_what_does_not_press_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "LONGEST_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(pacing, "LONGEST_PROGRESS_SECONDS", HOUR)
    presses = False
    pace = Pace(lambda: presses)
    resting = asyncio.create_task(pace.rest(HOUR))
    for _ in range(20):
        pace.mark()
        await asyncio.sleep(0.001)
    assert not resting.done()
    presses = True
    pace.mark()
    async with asyncio.timeout(60):
        await resting
