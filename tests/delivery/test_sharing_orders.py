"""What agents are asked, and how often: orders are shared, hot answers are paced, and a lost lease ends it all."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import pytest

from lora_operator.delivery.agent_client import AgentClient, AgentError
from lora_operator.delivery.agents import Agents
from lora_operator.kube.client import KubeError
from lora_operator.kube.lease import LeaseLost
from tests.agent.running import an_agent
from tests.delivery.scripted_agent import ScriptedAgent, an_entry
from tests.delivery.wishes import Located, a_pod_with_an_agent, a_wish
from tests.fetch.ordered import Case, an_order

NOTHING: frozenset[tuple[str, str]] = frozenset()


def the_way(client: AgentClient, locate: Located, **given: object) -> Agents:
    return Agents(lambda _: client, locate, lambda _: NOTHING, lambda *_: None, **given)  # type: ignore[arg-type]


async def test_a_source_is_asked_once_for_many_pods_and_again_after_a_while(
    client: AgentClient, scripted: ScriptedAgent, case: Case
) -> None:
    now = [time.time()]
    locate = Located(case.order)
    agents = the_way(client, locate, clock=lambda: now[0])
    pods = [a_pod_with_an_agent(scripted.endpoint.port, f"p{number}") for number in range(20)]
    await asyncio.gather(*(agents.bring(pod, a_wish(case), lambda _: None) for pod in pods))
    assert locate.asked == 1
    now[0] += 31
    await agents.bring(pods[0], a_wish(case), lambda _: None)
    assert locate.asked == 2


async def test_an_order_that_failed_is_not_kept(client: AgentClient, scripted: ScriptedAgent, case: Case) -> None:
    agents = the_way(client, Located(Path("/folder"), case.order))
    scripted.missing = {"alpaca"}
    with pytest.raises(AgentError):
        await agents.bring(a_pod_with_an_agent(scripted.endpoint.port), a_wish(case), lambda _: None)
    scripted.missing = set()
    await agents.bring(a_pod_with_an_agent(scripted.endpoint.port), a_wish(case), lambda _: None)


async def test_refused_links_are_not_handed_out_again(client: AgentClient, scripted: ScriptedAgent, case: Case) -> None:
    path = f"/v1/adapters/alpaca/{case.order.fingerprint}"
    scripted.fetches.append((202, an_entry(path, "Fetching", wantsLinks=True)))
    locate = Located(case.order, an_order(case.files, replace(case.link)))
    await the_way(client, locate).bring(a_pod_with_an_agent(scripted.endpoint.port), a_wish(case), lambda _: None)
    assert locate.asked == 2


async def test_an_agent_that_is_always_fetching_is_not_asked_without_a_pause(
    client: AgentClient, scripted: ScriptedAgent, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"/v1/adapters/alpaca/{case.order.fingerprint}"
    scripted.fetches.extend([(202, an_entry(path, "Fetching"))] * 10_000)
    monkeypatch.setattr("lora_operator.delivery.agents.STALLED_SECONDS", 0.5)
    with pytest.raises(AgentError) as caught:
        await the_way(client, Located(case.order)).bring(
            a_pod_with_an_agent(scripted.endpoint.port), a_wish(case), lambda _: None
        )
    assert caught.value.reason == "AgentStalled"
    assert len(scripted.of(path)) < 10


async def test_an_agent_that_must_keep_everything_is_told_what_is_loaded(
    tmp_path: Path, client: AgentClient, case: Case
) -> None:
    budget = case.order.size_bytes * 3 // 2
    async with an_agent(tmp_path, cache_bytes=budget) as agent:
        await agent.fetch(replace(case.order, name="idle"), prefetch=True)
        agents = the_way(client, Located(case.order))
        await agents.bring(a_pod_with_an_agent(agent.port), a_wish(case), lambda _: None)
        assert agent.folder(case.order).exists()


async def test_what_pods_held_that_are_gone_is_let_go(tmp_path: Path, client: AgentClient, case: Case) -> None:
    key = (case.order.name, case.order.fingerprint)
    async with an_agent(tmp_path, pod="ns/gone") as gone, an_agent(tmp_path, pod="ns/other") as other:
        await gone.fetch(case.order)
        await gone.loaded(key)
        await other.loaded(key)
    async with an_agent(tmp_path, pod="ns/p0") as agent:
        agents = the_way(client, Located(case.order), gone=lambda holder: holder in ("ns/gone", "ns/p0"))
        agents.sync_targets({"ns/p0": a_pod_with_an_agent(agent.port)})
        await asyncio.gather(*agents._telling.values())
        assert (await agent.loaded()).body["holders"] == ["ns/other", "ns/p0"]


async def test_without_the_lease_agents_are_neither_asked_nor_told(
    client: AgentClient, scripted: ScriptedAgent, case: Case
) -> None:
    def lost() -> None:
        raise LeaseLost("gone")

    agents = the_way(client, Located(case.order), fence=lost)
    record = a_pod_with_an_agent(scripted.endpoint.port)
    with pytest.raises(KubeError):
        await agents.bring(record, a_wish(case), lambda _: None)
    agents.sync_targets({"ns/p0": record})
    await asyncio.sleep(0)
    await agents.stop()
    assert scripted.asked == []
