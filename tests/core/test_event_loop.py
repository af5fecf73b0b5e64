"""The event loop tells how long it was kept from answering."""

from __future__ import annotations

import asyncio
import time

from prometheus_client import CollectorRegistry, generate_latest

from lora_operator.process.event_loop import TELLING_SECONDS, Blocks


def test_a_turn_that_takes_long_is_counted_and_waiting_is_not() -> None:
    blocks, registry = Blocks(), CollectorRegistry()
    blocks.show_in(registry)

    async def waits_and_then_computes() -> None:
        await asyncio.sleep(20 * TELLING_SECONDS)
        waited = blocks.longest
        time.sleep(2 * TELLING_SECONDS)  # noqa: ASYNC251 - that is what is measured
        await asyncio.sleep(0)
        assert blocks.longest >= 2 * TELLING_SECONDS > waited or waited >= 2 * TELLING_SECONDS

    with asyncio.Runner(loop_factory=blocks.new_loop) as runner:
        runner.run(waits_and_then_computes())
    assert blocks.busiest < blocks.longest, "to sleep is not to compute"
    text = generate_latest(registry).decode()
    assert "lora_operator_event_loop_block_seconds_count" in text
    assert f"lora_operator_event_loop_longest_block_seconds {blocks.longest}" in text


def test_what_a_turn_computes_is_told_apart_from_how_long_it_took() -> None:
    blocks, registry = Blocks(), CollectorRegistry()
    blocks.show_in(registry)

    async def computes() -> None:
        await asyncio.sleep(0)
        began = time.thread_time()
        while time.thread_time() - began < 2 * TELLING_SECONDS:
            pass
        await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=blocks.new_loop) as runner:
        runner.run(computes())
    assert blocks.busiest >= 2 * TELLING_SECONDS
    assert f"event_loop_busiest_block_cpu_seconds {blocks.busiest}" in generate_latest(registry).decode()
