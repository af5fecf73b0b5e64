"""The agent way: orders are renewed while they are carried out, and agents know what their engines have."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from e2e.controlplane.processes import free_ports
from e2e.stores.proxy import Fault
from lora_operator.delivery import agents as delivery_agents
from lora_operator.delivery.agent_client import AgentClient, AgentError
from lora_operator.delivery.agents import Agents, Key
from lora_operator.informers.records import PodRecord
from tests.agent.running import Agent, an_agent
from tests.delivery.scripted_agent import ScriptedAgent, an_entry
from tests.delivery.wishes import Located, a_pod_with_an_agent, a_wish
from tests.fetch.ordered import LIMITS, SECRET, WEIGHTS_URL, Case, an_order, is_whole

LOADED = ("other", "0" * 16)


class Knowing:
    """What engines have, and what was said to be evicted."""

    def __init__(self) -> None:
        self.loaded: frozenset[Key] | None = frozenset({LOADED})
        self.evicted: list[tuple[str, str]] = []

    def agents(self, client: AgentClient, locate: Located) -> Agents:
        return Agents(
            lambda _: client, locate, lambda _: self.loaded, lambda pod, gone: self.evicted.append((pod.key, gone.name))
        )


@asynccontextmanager
async def way(client: AgentClient, locate: Located) -> AsyncIterator[tuple[Agents, Knowing]]:
    knowing = Knowing()
    agents = knowing.agents(client, locate)
    yield agents, knowing
    await agents.stop()


def ignore(done_bytes: int) -> None:
    """Nobody wants to know how far it is."""


async def failure(agents: Agents, record: PodRecord, case: Case, **wish: bool) -> AgentError:
    with pytest.raises(AgentError) as caught:
        await agents.bring(record, a_wish(case, **wish), ignore)
    assert SECRET not in repr(caught.value)
    return caught.value


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Agent]:
    async with an_agent(tmp_path) as running:
        yield running


async def test_a_version_is_there_and_held_when_it_was_brought(client: AgentClient, agent: Agent, case: Case) -> None:
    async with way(client, Located(case.order)) as (agents, _):
        await agents.bring(a_pod_with_an_agent(agent.port), a_wish(case), ignore)
    assert is_whole(agent.folder(case.order), case.files)
    assert (await agent.ask("DELETE", f"/v1/adapters/alpaca/{case.order.fingerprint}")).status == 409


async def test_the_agent_is_told_the_version_together_with_all_that_is_loaded(
    client: AgentClient, scripted: ScriptedAgent, case: Case
) -> None:
    async with way(client, Located(case.order)) as (agents, _):
        await agents.bring(a_pod_with_an_agent(scripted.endpoint.port), a_wish(case), ignore)
    (told,) = scripted.of("/v1/loaded")
    assert [version["name"] for version in told["versions"]] == ["alpaca", "other"]


async def test_loads_that_come_at_the_same_time_share_what_the_agent_is_told(
    client: AgentClient, scripted: ScriptedAgent, case: Case
) -> None:
    record, wanted = a_pod_with_an_agent(scripted.endpoint.port), a_wish(case)
    async with way(client, Located(case.order)) as (agents, knowing):
        # as the ledger says while all these loads are under way
        knowing.loaded = frozenset({LOADED, (wanted.adapter.name, wanted.adapter.version)})
        await asyncio.gather(*(agents.bring(record, wanted, ignore) for _ in range(8)))
        assert 1 <= len(scripted.of("/v1/loaded")) <= 3
        told = len(scripted.of("/v1/loaded"))
        knowing.loaded |= {("late", "1" * 16)}
        await agents.bring(record, wanted, ignore)
        assert len(scripted.of("/v1/loaded")) == told  # it was held, and nothing that was told since lets it go


async def test_what_an_agent_was_told_counts_for_one_life_of_the_pod_and_only_if_it_answered(
    client: AgentClient, scripted: ScriptedAgent, case: Case
) -> None:
    record, wanted = a_pod_with_an_agent(scripted.endpoint.port), a_wish(case)
    key = (wanted.adapter.name, wanted.adapter.version)
    async with way(client, Located(case.order)) as (agents, knowing):
        knowing.loaded = frozenset({LOADED, key})
        await agents.bring(record, wanted, ignore)
        again = replace(record, pod=replace(record.pod, container_id="another"))
        await agents.bring(again, wanted, ignore)
        assert len(scripted.of("/v1/loaded")) == 2
        # it gets a list without this version, and whether it took that is never known
        knowing.loaded = frozenset({LOADED})
        scripted.answering.clear()
        agents.sync_targets({again.key: again})
        await scripted.until_asked("/v1/loaded", 3)
        await agents.stop()
        scripted.answering.set()
        knowing.loaded = frozenset({LOADED, key})
        await agents.bring(again, wanted, ignore)
        assert [version["name"] for version in scripted.of("/v1/loaded")[-1]["versions"]] == ["alpaca", "other"]
        assert len(scripted.of("/v1/loaded")) == 4


async def test_what_was_let_go_is_held_anew(client: AgentClient, agent: Agent, case: Case) -> None:
    record, wanted = a_pod_with_an_agent(agent.port), a_wish(case)
    evict = ("DELETE", f"/v1/adapters/alpaca/{case.order.fingerprint}")
    async with way(client, Located(case.order)) as (agents, knowing):
        await agents.bring(record, wanted, ignore)
        agents.sync_targets({record.key: record})  # it was unloaded
        while (answer := await agent.ask(*evict)).status == 409:
            await asyncio.gather(*agents._telling.values())
        assert answer.status == 204
        knowing.loaded = frozenset({LOADED, (wanted.adapter.name, wanted.adapter.version)})
        await agents.bring(record, wanted, ignore)
        assert is_whole(agent.folder(case.order), case.files)
        assert (await agent.ask(*evict)).status == 409


async def test_how_far_it_is_is_passed_on(client: AgentClient, scripted: ScriptedAgent, case: Case) -> None:
    path = f"/v1/adapters/alpaca/{case.order.fingerprint}"
    scripted.fetches.extend((202, an_entry(path, "Fetching", doneBytes=done)) for done in (1, 5, 9))
    reported: list[int] = []
    async with way(client, Located(case.order)) as (agents, _):
        await agents.bring(a_pod_with_an_agent(scripted.endpoint.port), a_wish(case), reported.append)
    assert reported == [1, 5, 9]


async def test_an_order_is_made_anew_when_it_runs_out_and_not_before(
    client: AgentClient, scripted: ScriptedAgent, case: Case
) -> None:
    path = f"/v1/adapters/alpaca/{case.order.fingerprint}"
    scripted.fetches.extend([(202, an_entry(path, "Fetching"))] * 3)
    ends = an_order(case.files, replace(case.link, expires_at=time.time() + 30))
    lasts = an_order(case.files, replace(case.link, expires_at=time.time() + 3600))
    locate = Located(ends, lasts)
    async with way(client, locate) as (agents, _):
        await agents.bring(a_pod_with_an_agent(scripted.endpoint.port), a_wish(case), ignore)
    assert locate.asked == 2
    assert [body["files"][1]["link"]["expiresAt"] for body in scripted.of(path)] == [
        ends.expires_at, lasts.expires_at, lasts.expires_at, lasts.expires_at,
    ]  # fmt: skip


async def test_links_that_the_store_does_not_accept_any_more_are_made_anew_at_once(
    client: AgentClient, agent: Agent, case: Case
) -> None:
    case.store.accepted = {"fresh"}
    fresh = an_order(case.files, replace(case.link, url=case.store.url(WEIGHTS_URL, sig="fresh")))
    locate = Located(case.order, fresh)
    async with way(client, locate) as (agents, _):
        await agents.bring(a_pod_with_an_agent(agent.port), a_wish(case), ignore)
    assert locate.asked == 2
    assert is_whole(agent.folder(case.order), case.files)


async def test_a_file_that_is_gone_is_a_reason_after_some_new_orders(
    client: AgentClient, agent: Agent, case: Case
) -> None:
    locate = Located(case.order)
    case.store.always = Fault(status=404)
    async with way(client, locate) as (agents, _):
        error = await failure(agents, a_pod_with_an_agent(agent.port), case)
    assert (error.reason, error.retryable) == ("NotFound", False)
    assert 2 <= locate.asked <= LIMITS.attempts


async def test_what_left_the_disk_before_it_was_loaded_is_not_loaded(
    client: AgentClient, scripted: ScriptedAgent, case: Case
) -> None:
    scripted.missing = {"alpaca"}
    async with way(client, Located(case.order)) as (agents, _):
        error = await failure(agents, a_pod_with_an_agent(scripted.endpoint.port), case)
    assert (error.reason, error.retryable) == ("NotStored", True)


async def test_nothing_is_loaded_while_nobody_knows_what_the_engine_has(
    client: AgentClient, scripted: ScriptedAgent, case: Case
) -> None:
    async with way(client, Located(case.order)) as (agents, knowing):
        knowing.loaded = None
        error = await failure(agents, a_pod_with_an_agent(scripted.endpoint.port), case)
        agents.sync_targets({"ns/p0": a_pod_with_an_agent(scripted.endpoint.port)})
    assert (error.reason, error.retryable) == ("PodNotReady", True)
    assert scripted.of("/v1/loaded") == []


async def test_folders_of_the_operator_and_sources_that_are_away_are_reasons(
    client: AgentClient, scripted: ScriptedAgent, case: Case, tmp_path: Path
) -> None:
    record = a_pod_with_an_agent(scripted.endpoint.port)
    scripted.missing = {"alpaca"}
    async with way(client, Located(tmp_path)) as (agents, _):
        error = await failure(agents, record, case)
        assert (error.reason, error.retryable) == ("NotReachableByAgent", False)
        error = await failure(agents, record, case, known=False)
        assert (error.reason, error.retryable) == ("SourceUnavailable", True)
        error = await failure(agents, replace(record, pod=replace(record.pod, ip=None)), case)
        assert (error.reason, error.retryable) == ("NotReachableByAgent", False)
    async with way(client, Located(case.order)) as (agents, _):
        error = await failure(agents, replace(record, pod=replace(record.pod, ip=None)), case)
        assert (error.reason, error.retryable) == ("AgentUnreachable", True)
    assert scripted.of("/v1/adapters") == []


async def test_no_agent_gets_the_secret_of_a_source_unless_that_is_allowed(
    client: AgentClient, scripted: ScriptedAgent, case: Case
) -> None:
    order = an_order(case.files, replace(case.link, headers={"Authorization": SECRET}, shows_secret=True))
    record = a_pod_with_an_agent(scripted.endpoint.port)
    scripted.missing = {"alpaca"}
    async with way(client, Located(order)) as (agents, _):
        error = await failure(agents, record, case)
        with pytest.raises(AgentError):
            await agents.prefetch(record, a_wish(case))
    assert (error.reason, error.retryable) == ("SecretNotForAgents", False)
    assert SECRET not in json.dumps(scripted.asked)
    allowing = Agents(lambda _: client, Located(order), lambda _: frozenset({LOADED}), lambda *_: None, secrets=True)
    with contextlib.suppress(AgentError):  # this one has it never
        await allowing.bring(record, a_wish(case), ignore)
    assert SECRET in json.dumps(scripted.asked)


async def test_what_an_agent_has_is_held_though_its_source_is_away_or_wants_the_secret(
    client: AgentClient, scripted: ScriptedAgent, case: Case
) -> None:
    record = a_pod_with_an_agent(scripted.endpoint.port)
    async with way(client, Located(an_order(case.files, replace(case.link, shows_secret=True)))) as (agents, _):
        await agents.bring(record, a_wish(case), ignore)
        await agents.bring(record, a_wish(case, known=False), ignore)
    assert scripted.of("/v1/adapters") == []
    assert {"name": "alpaca", "fingerprint": case.order.fingerprint} in scripted.of("/v1/loaded")[0]["versions"]


async def test_a_failed_fetch_keeps_its_reason_or_says_that_there_is_none(
    client: AgentClient, scripted: ScriptedAgent, case: Case
) -> None:
    path = f"/v1/adapters/alpaca/{case.order.fingerprint}"
    problem = {"reason": "DiskFull", "message": "full", "retryable": True, "retryAfterSeconds": 3.0}
    scripted.fetches.extend([(200, an_entry(path, "Failed", problem=problem)), (200, an_entry(path, "Failed"))])
    record = a_pod_with_an_agent(scripted.endpoint.port)
    async with way(client, Located(case.order)) as (agents, _):
        error = await failure(agents, record, case)
        assert (error.reason, error.retry_after_seconds) == ("DiskFull", 3.0)
        error = await failure(agents, record, case)
        assert (error.reason, error.retryable) == ("AgentFailed", True)


async def test_an_agent_is_told_once_for_each_change_and_again_after_a_restart(
    client: AgentClient, scripted: ScriptedAgent, case: Case
) -> None:
    record = a_pod_with_an_agent(scripted.endpoint.port)
    async with way(client, Located(case.order)) as (agents, knowing):

        async def rounds(told: int) -> None:
            for _ in range(3):
                agents.sync_targets({record.key: record})
                await settled(agents)
            assert len(scripted.of("/v1/loaded")) == told

        await rounds(1)
        knowing.loaded = frozenset({LOADED, ("new", "1" * 16)})
        await rounds(2)
        record = replace(record, pod=replace(record.pod, container_id="another"))
        await rounds(3)
        agents.sync_targets({})
        await rounds(4)  # it is forgotten with its pod
    assert scripted.of("/v1/adapters") == [None, None], "it lists its disk once in a while"


async def settled(agents: Agents) -> None:
    """Until nothing is being told."""
    while agents._telling:
        await asyncio.gather(*agents._telling.values())


async def test_what_an_agent_evicted_is_passed_on_with_its_pod(
    client: AgentClient, scripted: ScriptedAgent, case: Case
) -> None:
    scripted.evicted = [{"name": "old", "fingerprint": "2" * 16, "sizeBytes": 7, "why": "room"}]
    async with way(client, Located(case.order)) as (agents, knowing):
        agents.sync_targets({"ns/p0": a_pod_with_an_agent(scripted.endpoint.port)})
        await settled(agents)
    assert knowing.evicted == [("ns/p0", "old")]


async def test_an_agent_that_hangs_delays_nobody_else(client: AgentClient, case: Case) -> None:
    async with ScriptedAgent() as hung, ScriptedAgent() as well, way(client, Located(case.order)) as (agents, _):
        hung.answering.clear()
        pods = {
            f"ns/{name}": a_pod_with_an_agent(each.endpoint.port, name) for name, each in (("a", hung), ("b", well))
        }
        agents.sync_targets(pods)
        await well.until_asked("/v1/loaded", 1)
        await agents.bring(pods["ns/b"], a_wish(case), ignore)


async def test_an_agent_that_starts_a_moment_later_is_waited_for(client: AgentClient, case: Case) -> None:
    (port,) = free_ports(1)
    async with way(client, Located(case.order)) as (agents, _):
        brought = asyncio.create_task(agents.bring(a_pod_with_an_agent(port), a_wish(case), ignore))
        await asyncio.sleep(0.05)
        assert not brought.done()
        async with ScriptedAgent(port):
            await brought


async def test_an_agent_that_is_not_there_is_a_reason_in_the_end(
    client: AgentClient, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery_agents, "LATE_LAST_SECONDS", 0.2)
    (port,) = free_ports(1)
    async with way(client, Located(case.order)) as (agents, _):
        error = await failure(agents, a_pod_with_an_agent(port), case)
    assert (error.reason, error.retryable) == ("AgentUnreachable", True)


async def test_an_agent_that_is_away_is_no_news_for_the_log(
    client: AgentClient, case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    async with ScriptedAgent() as gone:
        pass
    with caplog.at_level(logging.INFO):
        async with way(client, Located(case.order)) as (agents, _):
            agents.sync_targets({"ns/p0": a_pod_with_an_agent(gone.endpoint.port)})
            await asyncio.sleep(0)
    assert not caplog.records
