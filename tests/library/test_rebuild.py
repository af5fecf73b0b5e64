"""The database can be lost: what is in the store makes it again."""

from __future__ import annotations

from pathlib import Path

from e2e.world.adapters import write_adapter
from lora_library.database import Database
from lora_library.rebuild import rebuild
from tests.library.conftest import Running, User, served


async def test_a_lost_database_is_made_again_from_the_store(library: Running, tmp_path: Path, address: str) -> None:
    for seed, name in enumerate(["style", "style", "poem"]):
        adapter = write_adapter(tmp_path / f"made-{seed}", base_model="tiny", seed=seed)
        _, made = await library.alice.upload(adapter, name, tags="a,b")
    share = {"shared_with": {"users": ["bob"]}, "description": "mine"}
    assert (await library.alice.call("PATCH", made["url"], json=share))[0] == 200
    assert (await library.alice.call("DELETE", made["url"]))[0] == 204
    before = [await seen(library.alice), await seen(library.alice, "?deleted=true")]

    # another database than the one that is in use
    lost = Database(address)
    await lost.migrate()
    assert await rebuild(lost, library.parts.library.store) == (2, 0)
    assert await rebuild(lost, library.parts.library.store) == (0, 0)
    await lost.close()
    async with served(tmp_path, database=address) as running:
        again = running.alice
        await running.parts.sweeper.sweep()
        assert [await seen(again), await seen(again, "?deleted=true")] == before
        assert (await again.call("POST", f"{made['url']}/restore"))[0] == 200
        _, details = await again.call("GET", made["url"])
        assert (details["description"], details["tags"]) == ("mine", ["a", "b"])
        assert details["shared_with"]["users"] == ["bob"]


async def seen(user: User, query: str = "") -> list[object]:
    _, page = await user.call("GET", f"/api/loras{query}")
    return [{k: each[k] for k in ("id", "name", "version", "tags", "size_bytes", "model")} for each in page["loras"]]
