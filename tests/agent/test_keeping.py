"""What stays on the agent's disk and what goes: loaded, pinned, evicted, counted."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.stores.proxy import Fault
from lora_operator.fetch.manifest import FetchManifest
from tests.agent.running import Agent, an_agent, place
from tests.fetch.ordered import Case

ABSENT = ("alpaca", "f" * 16)


def named(order: FetchManifest, name: str) -> FetchManifest:
    return FetchManifest(name, order.fingerprint, order.files)


async def test_everything_on_the_disk_and_on_its_way_is_listed(agent: Agent, case: Case) -> None:
    await agent.fetch(case.order)
    case.store.always = Fault(status=500)
    await agent.fetch(named(case.order, "bad"))
    listed = (await agent.ask("GET", "/v1/adapters")).body
    assert [(entry["name"], entry["state"]) for entry in listed["entries"]] == [
        ("alpaca", "Present"),
        ("bad", "Failed"),
    ]
    assert listed["usedBytes"] == case.order.size_bytes and listed["budgetBytes"] == 50 << 30
    assert listed["entries"][0]["lastUsed"] is not None


async def test_what_is_loaded_cannot_be_evicted_and_goes_when_it_is_not_any_more(agent: Agent, case: Case) -> None:
    await agent.fetch(case.order)
    await agent.loaded((case.order.name, case.order.fingerprint))
    assert (await agent.ask("GET", place(case.order))).body["loaded"] is True
    refused = await agent.ask("DELETE", place(case.order))
    assert (refused.status, refused.reason) == (409, "InUse")
    assert agent.folder(case.order).exists()
    await agent.loaded()
    assert (await agent.ask("DELETE", place(case.order))).status == 204
    assert not agent.folder(case.order).exists()
    gone = await agent.ask("DELETE", place(case.order))
    assert (gone.status, gone.reason) == (404, "NotStored")


async def test_until_the_operator_has_said_what_is_loaded_nothing_can_be_evicted(agent: Agent, case: Case) -> None:
    await agent.fetch(case.order)
    refused = await agent.ask("DELETE", place(case.order))
    assert (refused.status, refused.reason) == (409, "InUse")


async def test_what_is_pinned_cannot_be_evicted_until_it_is_unpinned(agent: Agent, case: Case) -> None:
    assert (await agent.ask("PUT", place(case.order) + "/pin")).status == 404
    await agent.fetch(case.order)
    await agent.loaded()
    for _ in range(2):
        assert (await agent.ask("PUT", place(case.order) + "/pin")).status == 204
    assert (await agent.ask("GET", place(case.order))).body["pinned"] is True
    refused = await agent.ask("DELETE", place(case.order))
    assert (refused.status, refused.reason) == (409, "Pinned")
    assert (await agent.ask("DELETE", place(case.order) + "/pin")).status == 204
    assert (await agent.ask("DELETE", place(case.order))).status == 204


async def test_what_is_being_fetched_cannot_be_evicted(agent: Agent, case: Case) -> None:
    await agent.loaded()
    case.store.always = Fault(stall_after=100)
    await agent.fetch(case.order, wait=0)
    await case.store.asked.wait()
    refused = await agent.ask("DELETE", place(case.order))
    assert (refused.status, refused.reason) == (409, "InUse")


async def test_what_is_loaded_but_missing_is_not_in_the_answer(agent: Agent, case: Case) -> None:
    await agent.fetch(case.order)
    key = (case.order.name, case.order.fingerprint)
    held = (await agent.loaded(key, ABSENT)).body
    assert [(version["name"], version["fingerprint"]) for version in held["versions"]] == [key]


@pytest.mark.parametrize("version", [("..", "0" * 16), ("alpaca", "../../etc"), ("", "0" * 16), ("a/b", "0" * 16)])
async def test_names_that_are_none_cannot_be_loaded(agent: Agent, version: tuple[str, str]) -> None:
    assert (await agent.loaded(version)).status == 400


async def test_what_was_evicted_is_told_once(agent: Agent, case: Case) -> None:
    await agent.fetch(case.order)
    await agent.loaded()
    await agent.ask("DELETE", place(case.order))
    (gone,) = (await agent.loaded()).body["evicted"]
    assert (gone["name"], gone["fingerprint"], gone["sizeBytes"]) == (
        case.order.name,
        case.order.fingerprint,
        case.order.size_bytes,
    )
    assert (await agent.loaded()).body["evicted"] == []


async def test_room_is_made_by_removing_what_is_not_loaded(tmp_path: Path, case: Case) -> None:
    async with an_agent(tmp_path, cache_bytes=case.order.size_bytes * 5 // 2) as agent:
        kept, idle, new = (named(case.order, name) for name in ("kept", "idle", "new"))
        await agent.fetch(kept)
        await agent.fetch(idle, prefetch=True)
        await agent.loaded((kept.name, kept.fingerprint))
        assert (await agent.fetch(new)).body["state"] == "Present"
        assert agent.folder(kept).exists() and not agent.folder(idle).exists()
        held = await agent.loaded((kept.name, kept.fingerprint), (new.name, new.fingerprint))
        assert [gone["name"] for gone in held.body["evicted"]] == ["idle"]
        problem = (await agent.fetch(idle)).body["problem"]
        assert (problem["reason"], problem["retryable"]) == ("CacheFull", True)
        assert agent.folder(kept).exists() and agent.folder(new).exists()


async def test_statistics_and_metrics_say_the_same(tmp_path: Path, case: Case) -> None:
    async with an_agent(tmp_path) as agent:
        await agent.fetch(case.order)
        await agent.fetch(case.order)
        told = (await agent.ask("GET", "/v1/statistics")).body
        assert (told["versions"], told["used_bytes"]) == (1, case.order.size_bytes)
        assert (told["process"]["hits"], told["process"]["misses"]) == (1, 1)
        metrics = dict(
            line.rsplit(" ", 1) for line in (await agent.ask("GET", "/metrics")).text.splitlines() if line[0] != "#"
        )
    assert float(metrics["lora_operator_cache_used_bytes"]) == case.order.size_bytes
    assert float(metrics["lora_operator_cache_hits_total"]) == 1
    assert float(metrics["lora_operator_cache_misses_total"]) == 1
    assert float(metrics["lora_operator_fetched_bytes_total"]) == case.store.sent_bytes
    assert float(metrics['lora_operator_fetches_total{result="ok"}']) == 1


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB, where this process may mount one."""
    disk = tmp_path / "tiny"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("cannot mount a tmpfs here")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


async def test_a_disk_that_is_full_is_a_reason_and_heals(tmp_path: Path, tiny_disk: Path, case: Case) -> None:
    async with an_agent(tmp_path, root=tiny_disk) as agent:
        ballast = tiny_disk / ".ballast"
        ballast.write_bytes(bytes(32 << 10))
        problem = (await agent.fetch(case.order)).body["problem"]
        assert (problem["reason"], problem["retryable"]) == ("DiskFull", True)
        ballast.unlink()
        assert (await agent.fetch(case.order)).body["state"] == "Present"


async def test_a_disk_that_is_gone_is_a_reason_and_closes_no_pod(agent: Agent, case: Case) -> None:
    assert (await agent.ready("engine-1", is_open=True)).body == {"open": True}
    await asyncio.to_thread(agent.root.rename, agent.root.with_name("gone"))
    problem = (await agent.fetch(case.order)).body["problem"]
    assert (problem["reason"], problem["retryable"]) == ("VolumeMissing", True)
    assert (await agent.ask("GET", "/readyz", token=None)).status == 200
    assert (await agent.ask("GET", "/metrics", token=None)).status == 200
