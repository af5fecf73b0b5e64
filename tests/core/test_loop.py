"""The whole loop with real engines: one thing that is odd, slow or gone concerns nobody else."""

from __future__ import annotations

from pathlib import Path

from tests.core.fleet import a_fleet


async def test_an_adapter_is_loaded_reported_and_unloaded(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, pods=2) as fleet:
        fleet.write("sql")
        fleet.apply("la", "sql", replicas=2)
        await fleet.until(lambda: fleet.ready("la"))
        assert fleet.listed() == {"p0": ["sql"], "p1": ["sql"]}
        assert fleet.assigned("la") == {"p0": ["sql"], "p1": ["sql"]}
        fleet.delete("la")
        await fleet.until(lambda: not fleet.exists("la"))
        assert fleet.listed() == {}
