"""The operator's side of the files: what may be removed, who is gone, which token, and a volume that hangs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lora_operator.cache import volume
from lora_operator.delivery import files as module
from lora_operator.delivery.agent_client import AgentError
from lora_operator.kube.client import KubeError
from lora_operator.planning.inflight import Effect, Stage
from tests.core.fleet import Fleet, a_fleet

FIRST, SECOND = "1" * 16, "2" * 16
QUOTA = "/api/v1/namespaces/ns/configmaps/lora-operator-quota"


@contextmanager
def hung(path: Path) -> Iterator[None]:
    """Whoever opens `path` waits, as on a volume whose server is away."""
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    try:
        yield
    finally:
        os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))
        path.unlink()


async def test_a_volume_that_hangs_stops_neither_the_start_nor_the_end_nor_planning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STORE_SECONDS", 0.1)
    async with a_fleet(tmp_path, pods=1) as fleet:
        with hung(fleet.volume / ".lock"):
            await fleet.operator.files.start()
            await fleet.rounds()
            await fleet.operator.files.stop()


async def test_a_version_that_cannot_be_read_for_its_size_holds_up_no_round(tmp_path: Path) -> None:
    async with a_fleet(tmp_path) as fleet:
        await fleet.rounds(1)
        folder = fleet.volume / "old" / FIRST
        folder.mkdir(parents=True)
        with hung(folder / "adapter_config.json"):
            assert fleet.observers.sizes.of("old", FIRST) is None
            await fleet.rounds()
        await fleet.until(lambda: not fleet.observers.sizes._reading)


async def test_a_volume_that_hangs_is_a_reason_in_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(volume, "HANGS_SECONDS", 0.1)
    async with a_fleet(tmp_path, pods=1) as fleet:
        fleet.write("sql")
        gate = asyncio.Event()

        async def never(*_: Any) -> Any:
            await gate.wait()

        monkeypatch.setattr(fleet.operator.files.store, "_do", never)
        fleet.apply("la", "sql")
        await fleet.until(lambda: "VolumeHangs" in str(fleet.status("la")))
        gate.set()


def loading(fleet: Fleet, version: str) -> Effect:
    return Effect("ns/p0", "sql", Stage.LOADING, "ns/la/sql", version, 1, 1, "life")


async def test_what_is_just_being_loaded_stays_whatever_is_wanted_by_now(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, pods=1) as fleet:
        await fleet.until(lambda: fleet.operator.files._in_use() == set())  # None until the engine was looked at
        effect = loading(fleet, FIRST)
        fleet.ledger.begin(effect)
        assert fleet.operator.files._in_use() == {("sql", FIRST)}
        fleet.ledger.end(effect)


async def test_without_the_lease_nobody_can_tell_what_may_be_removed(tmp_path: Path) -> None:
    def lost() -> None:
        raise KubeError(0, "lost")

    async with a_fleet(tmp_path, pods=1) as fleet:
        await fleet.until(lambda: fleet.view("p0") is not None and fleet.view("p0").release)
        fleet.operator.files._fence = lost
        assert fleet.operator.files._in_use() is None


async def test_a_pod_is_gone_when_no_watched_namespace_has_it_running(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, pods=2, namespaces=("ns",)) as fleet:
        gone = fleet.operator.files._is_gone
        assert (gone("ns/p0"), gone("ns/p9"), gone("elsewhere/p9")) == (False, True, False)
        fleet.change_pod("p1", lambda body: body["status"].update(phase="Failed"))
        assert gone("ns/p1")


async def test_each_namespace_has_its_own_token_where_there_is_a_folder_of_them(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.mkdir()
    (tokens / "ns").write_text("token-of-this-namespace")
    (tmp_path / "token").write_text("token-of-all-namespaces")
    async with a_fleet(tmp_path, agent_token_file=str(tokens)) as fleet:
        assert fleet.operator.files._token("ns") == "token-of-this-namespace"
        with pytest.raises(AgentError, match="cannot be read"):
            fleet.operator.files._token("other")
    for left in ("source", "volume"):
        (tmp_path / left).rename(tmp_path / f"{left}-before")
    async with a_fleet(tmp_path, agent_token_file=str(tmp_path / "token")) as fleet:
        assert fleet.operator.files._token("any") == "token-of-all-namespaces"


async def test_nothing_gets_in_while_the_quota_of_its_namespace_is_being_read(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, pods=1) as fleet:
        fleet.api.objects[QUOTA] = {"data": {"adapters": "1"}}
        for name in ("a", "b"):
            fleet.write(f"both/{name}")
        await fleet.rounds(1)
        held = fleet.stall()
        fleet.apply("la", "both")
        await fleet.rounds()
        assert fleet.operator.loop.reconciler.last is not None
        assert not fleet.operator.loop.reconciler.last.desired.adapters
        held.set()
        fleet.api.stall = None
        await fleet.until(lambda: fleet.failed("la") == {"b": "QuotaExceeded"} and fleet.assigned("la") != {})
