"""What an agent knows of loaded versions lasts: through its own restart, and no longer than the pods that had them."""

from __future__ import annotations

import os
from pathlib import Path

from lora_operator.artifacts import WEIGHTS_FILE
from lora_operator.fetch.manifest import FetchManifest
from tests.agent.running import POD, an_agent, place
from tests.fetch.ordered import Case


def named(order: FetchManifest, name: str) -> FetchManifest:
    return FetchManifest(name, order.fingerprint, order.files)


async def test_a_restarted_agent_keeps_what_is_loaded_and_lets_the_rest_go(tmp_path: Path, case: Case) -> None:
    kept, idle, new = (named(case.order, name) for name in ("kept", "idle", "new"))
    budget = case.order.size_bytes * 5 // 2
    async with an_agent(tmp_path, cache_bytes=budget) as agent:
        await agent.fetch(kept)
        await agent.fetch(idle, prefetch=True)
        await agent.loaded((kept.name, kept.fingerprint))
    async with an_agent(tmp_path, cache_bytes=budget) as agent:
        assert (await agent.fetch(new)).body["state"] == "Present"
        assert agent.folder(kept).exists() and not agent.folder(idle).exists()
        assert (await agent.ask("DELETE", place(kept))).reason == "InUse"


async def test_what_a_pod_held_that_is_gone_may_go_when_the_operator_says_so(tmp_path: Path, case: Case) -> None:
    key = (case.order.name, case.order.fingerprint)
    async with an_agent(tmp_path, pod="ns/gone") as gone:
        await gone.fetch(case.order)
        await gone.loaded(key)
    async with an_agent(tmp_path) as agent:
        assert (await agent.loaded()).body["holders"] == ["ns/gone", POD]
        assert (await agent.ask("DELETE", place(case.order))).reason == "InUse"
        assert (await agent.ask("DELETE", f"/v1/holders/{POD}")).reason == "InUse"
        assert (await agent.ask("DELETE", "/v1/holders/..%2f../x")).status in (400, 404)
        assert (await agent.ask("DELETE", "/v1/holders/ns/gone", token=None)).status == 401
        assert (await agent.ask("DELETE", "/v1/holders/ns/gone")).status == 204
        assert (await agent.loaded()).body["holders"] == [POD]
        assert (await agent.ask("DELETE", place(case.order))).status == 204


async def test_a_version_that_was_damaged_on_the_disk_is_fetched_again(tmp_path: Path, case: Case) -> None:
    async with an_agent(tmp_path) as agent:
        await agent.fetch(case.order)
        key = (case.order.name, case.order.fingerprint)
        await agent.loaded(key)
        weights = agent.folder(case.order) / WEIGHTS_FILE
        weights.chmod(0o644)
        os.truncate(weights, 5)
        assert (await agent.loaded(key)).body["versions"] == []
        assert (await agent.fetch(case.order)).body["state"] == "Present"
        assert weights.read_bytes() == case.files[WEIGHTS_FILE]
        assert len((await agent.loaded(key)).body["versions"]) == 1


async def test_what_was_just_unloaded_stays_for_the_requests_that_still_run(tmp_path: Path, case: Case) -> None:
    old, new = (named(case.order, name) for name in ("old", "new"))
    async with an_agent(tmp_path, cache_bytes=case.order.size_bytes * 3 // 2) as agent:
        await agent.fetch(old)
        await agent.loaded((old.name, old.fingerprint))
        os.utime(agent.folder(old), (1, 1))  # loaded long ago
        await agent.loaded()
        assert (await agent.fetch(new)).body["problem"]["reason"] == "CacheFull"
        assert agent.folder(old).exists()
