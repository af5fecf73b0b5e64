"""Agents hear whether their engines hold what is planned: what is new at once, and again while it may change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from lora_operator.agent_api.wire import ReadinessBody
from lora_operator.delivery import agent_readiness
from lora_operator.delivery.agent_client import AgentClient
from lora_operator.delivery.agent_readiness import AgentReadiness
from lora_operator.informers.records import PodRecord
from lora_operator.planning.pod_readiness import Verdict
from lora_operator.vllm.answers import Endpoint
from tests.agent.running import an_agent
from tests.delivery.scripted_agent import ScriptedAgent
from tests.delivery.wishes import a_pod_with_an_agent

LACKS = Verdict(False, "AdaptersMissing", "it lacks sql")
HAS = Verdict(True, "AdaptersLoaded", "it holds all adapters that are planned for it")
STARTS = Verdict(False, "EngineNotReady", "its engine does not answer yet", answers=False)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_readiness, "RETRY_FIRST_SECONDS", 0.01)


def a_pod(port: int, *, ready: bool = False, container: str = "containerd://one") -> PodRecord:
    record = a_pod_with_an_agent(port)
    return replace(record, pod=replace(record.pod, ready=ready, container_id=container))


@asynccontextmanager
async def told_by(client: AgentClient) -> AsyncIterator[AgentReadiness]:
    readiness = AgentReadiness(lambda _: client)
    yield readiness
    await readiness.stop()


async def until_silent(readiness: AgentReadiness) -> None:
    while readiness._tasks:
        await asyncio.gather(*readiness._tasks.values())


async def test_what_is_new_is_said_at_once(client: AgentClient, scripted: ScriptedAgent) -> None:
    record = a_pod(scripted.endpoint.port)
    async with told_by(client) as readiness:
        for said, verdict in enumerate((LACKS, HAS, LACKS), 1):
            readiness.sync_targets({record.key: verdict}, {record.key: record})
            await scripted.until_asked("/v1/readiness", said)
    assert scripted.of("/v1/readiness")[:2] == [
        {"container": "containerd://one", "open": False, "message": "it lacks sql"},
        {"container": "containerd://one", "open": True, "message": HAS.message},
    ]


async def test_it_is_repeated_while_adapters_are_on_their_way(
    client: AgentClient, scripted: ScriptedAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_readiness, "REPEAT_SECONDS", 0.01)
    record = a_pod(scripted.endpoint.port)
    async with told_by(client) as readiness:
        readiness.sync_targets({record.key: LACKS}, {record.key: record})
        await scripted.until_asked("/v1/readiness", 3)


async def test_how_many_are_lacking_is_said_the_next_time(client: AgentClient, scripted: ScriptedAgent) -> None:
    record = a_pod(scripted.endpoint.port)
    async with told_by(client) as readiness:
        readiness.sync_targets({record.key: LACKS}, {record.key: record})
        await scripted.until_asked("/v1/readiness", 1)
        for count in range(20):
            readiness.sync_targets({record.key: replace(LACKS, message=f"it lacks {count}")}, {record.key: record})
            await asyncio.sleep(0)
        readiness.sync_targets({record.key: HAS}, {record.key: record})
        await scripted.until_asked("/v1/readiness", 2)
    assert [body["open"] for body in scripted.of("/v1/readiness")] == [False, True]


async def test_that_an_engine_starts_is_said_once_and_a_pod_that_is_ready_is_named_once(
    client: AgentClient, scripted: ScriptedAgent
) -> None:
    record = a_pod(scripted.endpoint.port)
    ready = a_pod(scripted.endpoint.port, ready=True)
    async with told_by(client) as readiness:
        for _ in range(3):
            readiness.sync_targets({record.key: STARTS}, {record.key: record})
            await until_silent(readiness)
        for _ in range(3):
            readiness.sync_targets({}, {record.key: ready})
            await until_silent(readiness)
        anew = a_pod(scripted.endpoint.port, ready=True, container="containerd://two")
        readiness.sync_targets({}, {record.key: anew})
        await until_silent(readiness)
    said = [(body["container"], body["open"]) for body in scripted.of("/v1/readiness")]
    assert said == [("containerd://one", False), ("containerd://one", True), ("containerd://two", True)]


async def test_an_agent_that_is_not_there_yet_hears_it_when_it_is(client: AgentClient) -> None:
    async with ScriptedAgent() as gone:
        pass
    record = a_pod(gone.endpoint.port)
    async with told_by(client) as readiness:
        readiness.sync_targets({record.key: STARTS}, {record.key: record})
        await asyncio.sleep(0.05)
        async with ScriptedAgent(gone.endpoint.port) as there:
            await there.until_asked("/v1/readiness", 1)


async def test_pods_without_agent_address_or_container_are_let_alone(
    client: AgentClient, scripted: ScriptedAgent
) -> None:
    record = a_pod(scripted.endpoint.port)
    async with told_by(client) as readiness:
        for change in ({"agent_port": None}, {"ip": None}, {"container_id": None}):
            other = replace(record, pod=replace(record.pod, **change))  # type: ignore[arg-type]
            readiness.sync_targets({record.key: LACKS}, {record.key: other})
        readiness.sync_targets({}, {record.key: record})  # one that is ending
        readiness.sync_targets({record.key: LACKS}, {})
        assert not readiness._tasks
    assert scripted.asked == []


async def test_a_real_agent_opens_by_it(client: AgentClient, tmp_path: Path) -> None:
    async with an_agent(tmp_path, engine_port=0) as agent, told_by(client) as readiness:
        record = a_pod(agent.port)
        readiness.sync_targets({record.key: LACKS}, {record.key: record})
        while "it lacks sql" not in (await agent.ask("GET", "/readyz", token=None)).text:
            pass
        readiness.sync_targets({record.key: HAS}, {record.key: record})
        while (await agent.ask("GET", "/readyz", token=None)).status != 200:
            pass


async def test_what_cannot_be_said_once_does_not_keep_a_pod_from_hearing_the_next(
    client: AgentClient, scripted: ScriptedAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = a_pod(scripted.endpoint.port)
    say, failed = client.readiness, asyncio.Event()

    async def no_text(endpoint: Endpoint, body: ReadinessBody) -> None:
        if not failed.is_set():
            failed.set()
            raise UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed")
        await say(endpoint, body)

    monkeypatch.setattr(client, "readiness", no_text)
    async with told_by(client) as readiness:
        readiness.sync_targets({record.key: LACKS}, {record.key: record})
        await failed.wait()
        readiness.sync_targets({record.key: HAS}, {record.key: record})
        await scripted.until_asked("/v1/readiness", 1)
    assert scripted.of("/v1/readiness")[0]["message"] == HAS.message
