"""What agents have on their disks: listed now and then, counted in between, and rid of what nobody wants."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from lora_operator.agent_api.wire import ListBody
from lora_operator.delivery.agent_client import AgentClient
from lora_operator.delivery.agents import Agents, Key
from lora_operator.planning.agent_disks import AgentDisk, AgentDisks, unwanted
from tests.agent.running import POD, an_agent
from tests.core.builders import a_pod
from tests.delivery.scripted_agent import ScriptedAgent
from tests.delivery.wishes import Located, a_pod_with_an_agent, a_wish
from tests.fetch.ordered import Case, is_whole

OLD, NEW = "0" * 16, "1" * 16
LONG_AGO, NOW = 1000.0, 100_000.0


def entry(name: str, fingerprint: str = OLD, **fields: Any) -> dict[str, Any]:
    given = {"name": name, "fingerprint": fingerprint, "state": "Present", "sizeBytes": 10, "doneBytes": 10,
             "lastUsed": LONG_AGO}  # fmt: skip
    return given | fields


def a_list(*entries: dict[str, Any], budget: int | None = 1000) -> dict[str, Any]:
    return {"entries": list(entries), "usedBytes": 10, "budgetBytes": budget}


@asynccontextmanager
async def agents_of(
    client: AgentClient, case: Case, *, wanted: set[Key] | None = None, known: tuple[str, ...] = ("ns/p0", POD),
    loaded: frozenset[Key] = frozenset(), clock: float = NOW,
) -> AsyncIterator[Agents]:  # fmt: skip
    agents = Agents(
        lambda _: client, Located(case.order), lambda _: loaded, lambda *_: None, known=lambda pod: pod in known,
        wanted=lambda: wanted, clock=lambda: clock,
    )  # fmt: skip
    yield agents
    await agents.stop()


async def listed(agents: Agents, *records: Any) -> None:
    agents.sync_targets({record.key: record for record in records})
    while agents._telling:
        await next(iter(agents._telling.values()))


def removed(scripted: ScriptedAgent) -> list[str]:
    return [path for method, path, _ in scripted.asked if method == "DELETE"]


async def test_an_agent_lists_its_disk_and_what_comes_and_goes_is_counted(
    client: AgentClient, scripted: ScriptedAgent, case: Case
) -> None:
    record = a_pod_with_an_agent(scripted.endpoint.port)
    scripted.listing = a_list(entry("a"), entry("b", state="Fetching"), budget=77)
    async with agents_of(client, case) as agents:
        assert agents.disks.of(record) is None
        await listed(agents, record)
        assert agents.disks.of(record) == AgentDisk(frozenset({("a", OLD)}), 77)
        await agents.prefetch(record, a_wish(case))
        brought = frozenset({("a", OLD), ("alpaca", case.order.fingerprint)})
        assert agents.disks.of(record) == AgentDisk(brought, 77)
        scripted.evicted = [{"name": "a", "fingerprint": OLD, "sizeBytes": 10, "why": "Room"}]
        again = replace(record, pod=replace(record.pod, container_id="another"))
        await listed(agents, again)
        assert agents.disks.of(record) == AgentDisk(brought - {("a", OLD)}, 77)
        assert len(scripted.of("/v1/adapters")) == 2, "the order, and one list"
        other = replace(again, uid="another pod of that name")
        assert agents.disks.of(other) is None
        await listed(agents, other)
        assert agents.disks.of(other) == AgentDisk(frozenset({("a", OLD)}), 77)
        agents.sync_targets({})
        assert agents.disks.of(other) is None


async def test_files_that_nobody_wants_are_removed_on_order(
    client: AgentClient, scripted: ScriptedAgent, case: Case
) -> None:
    record = a_pod_with_an_agent(scripted.endpoint.port)
    scripted.listing = a_list(
        entry("a"), entry("a", NEW), entry("gone"), entry("lately", lastUsed=NOW - 60.0), entry("busy"),
    )  # fmt: skip
    scripted.kept = {"busy"}
    async with agents_of(client, case, wanted={("a", NEW)}) as agents:
        await listed(agents, record)
        assert removed(scripted) == [f"/v1/adapters/{name}/{OLD}" for name in ("a", "busy", "gone")]
        disk = agents.disks.of(record)
        assert disk is not None and {name for name, _ in disk.stored} == {"a", "lately", "busy"}
        assert ("a", NEW) in disk.stored and ("a", OLD) not in disk.stored


async def test_nothing_is_removed_where_it_may_be_wanted_by_others(
    client: AgentClient, scripted: ScriptedAgent, case: Case
) -> None:
    record = a_pod_with_an_agent(scripted.endpoint.port)
    scripted.listing = a_list(entry("gone"))
    async with agents_of(client, case, wanted=None) as agents:
        await listed(agents, record)
    scripted.holders = ["ns/p0", "elsewhere/stranger"]
    async with agents_of(client, case, wanted=set()) as agents:
        await listed(agents, record)
        assert removed(scripted) == [], "another operator's pod has files on that disk"
    async with agents_of(client, case, wanted=set(), known=("ns/p0", "elsewhere/stranger")) as agents:
        await listed(agents, record)
        assert removed(scripted) == [f"/v1/adapters/gone/{OLD}"]


async def test_an_agent_removes_what_nobody_wants_and_keeps_what_is_loaded(
    client: AgentClient, case: Case, tmp_path: Path
) -> None:
    key = (case.order.name, case.order.fingerprint)
    async with an_agent(tmp_path) as agent:
        record = a_pod_with_an_agent(agent.port)
        async with agents_of(client, case, loaded=frozenset({key})) as agents:
            await agents.bring(record, a_wish(case), lambda _: None)
        for loaded, there in ((frozenset({key}), True), (frozenset(), False)):
            later = time.time() + 7200.0
            async with agents_of(client, case, wanted=set(), loaded=loaded, clock=later) as agents:
                await listed(agents, record)
                disk = agents.disks.of(record)
                assert disk is not None and disk.stored == (frozenset({key}) if there else frozenset())
            assert agent.folder(case.order).exists() is there
            assert not there or is_whole(agent.folder(case.order), case.files)


def test_what_comes_to_a_disk_that_was_never_listed_says_nothing_of_it() -> None:
    disks, record = AgentDisks(), a_pod()
    disks.came(record, ("a", OLD))
    disks.gone(record, ("a", OLD))
    assert disks.of(record) is None
    disks.listed(record, ListBody.model_validate(a_list(entry("a"))))
    before = disks.of(record)
    disks.came(record, ("a", OLD))
    disks.gone(record, ("b", OLD))
    disks.listed(record, ListBody.model_validate(a_list(entry("a"))))
    assert disks.of(record) is before, "the planner passes over what is the same object"


def test_the_longest_unused_go_first_and_never_what_is_loaded_pinned_or_on_its_way() -> None:
    found = ListBody.model_validate(
        a_list(
            entry("b", lastUsed=2.0), entry("a", lastUsed=3.0), entry("c", loaded=True), entry("d", pinned=True),
            entry("e", state="Fetching"), entry("f", lastUsed=None), entry("g", lastUsed=9.0),
        )
    )  # fmt: skip
    assert unwanted(found, set(), 9.0) == [("b", OLD), ("a", OLD)]
