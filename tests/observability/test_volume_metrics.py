"""What is told of the operator's own adapter volume."""

from __future__ import annotations

import asyncio
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.core.fleet import Fleet, a_fleet


def told(fleet: Fleet, name: str) -> float:
    """The one value of a metric of the cache."""
    families = text_string_to_metric_families(fleet.operator.metrics.exposition().decode())
    return next(one.value for family in families for one in family.samples if one.name == f"lora_operator_cache_{name}")


async def test_used_bytes_and_misses_are_told_soon_after_a_load(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, pods=1) as fleet:
        fleet.write("sql")
        fleet.apply("la", "sql")
        await fleet.until(lambda: fleet.ready("la"))
        looking = asyncio.create_task(fleet.operator.files.look_after())
        try:
            await fleet.until(lambda: told(fleet, "used_bytes") > 0)
        finally:
            looking.cancel()
        assert told(fleet, "misses_total") == 1 and told(fleet, "budget_bytes") == -1
