"""Whatever an agent answers, or does not, becomes a typed error that says what to do and shows no secret."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import pytest

from lora_operator.agent_api.wire import EntryBody
from lora_operator.delivery import agent_client
from lora_operator.delivery.agent_client import AgentClient, AgentError
from lora_operator.vllm.answers import Endpoint
from tests.agent.running import an_agent
from tests.delivery.scripted_agent import TOKEN, ScriptedAgent, an_entry
from tests.fetch.ordered import SECRET, Case

PATH = "/v1/adapters/alpaca/0123456789abcdef"


async def failure(client: AgentClient, endpoint: Endpoint, case: Case) -> AgentError:
    with pytest.raises(AgentError) as caught:
        await client.fetch(endpoint, case.order)
    error = caught.value
    assert str(endpoint) in error.message or error.reason == "CacheFull"
    assert SECRET not in repr(error) and TOKEN not in repr(error)
    assert error.__cause__ is None
    return error


@pytest.mark.parametrize(
    "body",
    [b"", b"garbage", b"\xff\xfe", b"<html>busy</html>", b"null", b"[]", b"{}", b'{"name": 7}', b"[" * 5000],
)
@pytest.mark.parametrize("status", [200, 202, 302, 404, 500, 502])
async def test_an_answer_that_makes_no_sense_is_one_error(
    client: AgentClient, scripted: ScriptedAgent, case: Case, status: int, body: bytes
) -> None:
    scripted.fetches.append((status, body))
    error = await failure(client, scripted.endpoint, case)
    assert (error.reason, error.retryable) == ("AgentAnswerInvalid", True)


@pytest.mark.parametrize(
    "changes", [{"state": "Lost"}, {"sizeBytes": -1}, {"fingerprint": "../x"}, {"more": 1}, {"doneBytes": "many"}]
)
async def test_fields_that_are_wrong_are_an_error(
    client: AgentClient, scripted: ScriptedAgent, case: Case, changes: dict[str, object]
) -> None:
    scripted.fetches.append((200, an_entry(PATH, "Present") | changes))
    assert (await failure(client, scripted.endpoint, case)).reason == "AgentAnswerInvalid"


async def test_an_answer_without_end_is_cut_off(
    client: AgentClient, scripted: ScriptedAgent, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_client, "ANSWER_BYTES_MAX", 1 << 20)
    scripted.fetches.append((200, bytes(16 << 20)))
    error = await failure(client, scripted.endpoint, case)
    assert error.reason == "AgentUnreachable" and "larger than" in error.message


async def test_an_answer_that_does_not_come_is_not_awaited_for_ever(
    client: AgentClient, scripted: ScriptedAgent, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_client, "ANSWER_SECONDS", 0.1)
    scripted.answering.clear()
    with pytest.raises(AgentError) as caught:
        await client.fetch(scripted.endpoint, case.order, wait_seconds=0)
    assert caught.value.reason == "AgentUnreachable" and "in time" in caught.value.message


async def test_a_connection_that_is_closed_is_an_error(
    client: AgentClient, scripted: ScriptedAgent, case: Case
) -> None:
    scripted.fetches.extend([(200, None)] * 4)
    error = await failure(client, scripted.endpoint, case)
    assert (error.reason, error.retryable) == ("AgentUnreachable", True)


async def test_an_agent_that_is_not_there_is_an_error(client: AgentClient, case: Case) -> None:
    async with ScriptedAgent() as gone:
        pass
    error = await failure(client, gone.endpoint, case)
    assert (error.reason, error.retryable) == ("AgentUnreachable", True)


async def test_a_refusal_keeps_its_reason(client: AgentClient, scripted: ScriptedAgent, case: Case) -> None:
    problem = {"reason": "CacheFull", "message": "no room", "retryable": True, "retryAfterSeconds": 7.5}
    scripted.fetches.append((503, problem))
    error = await failure(client, scripted.endpoint, case)
    assert (error.reason, error.message, error.retryable) == ("CacheFull", "no room", True)
    assert error.retry_after_seconds == 7.5


async def test_a_token_that_is_not_accepted_is_said(client: AgentClient, scripted: ScriptedAgent, case: Case) -> None:
    scripted.fetches.append((401, b"no"))
    error = await failure(client, scripted.endpoint, case)
    assert error.reason == "AgentUnauthorized" and "same Secret" in error.message


async def test_orders_and_answers_pass_unchanged_between_client_and_agent(
    client: AgentClient, tmp_path_factory: pytest.TempPathFactory, case: Case
) -> None:
    async with an_agent(tmp_path_factory.mktemp("agent")) as agent:
        endpoint = Endpoint("127.0.0.1", agent.port)
        entry = await client.fetch(endpoint, case.order)
        assert isinstance(entry, EntryBody) and entry.state == "Present"
        assert [each.name for each in (await client.entries(endpoint)).entries] == ["alpaca"]
        key = (case.order.name, case.order.fingerprint)
        held = await client.loaded(endpoint, {key, ("gone", "0" * 16)})
        assert [(each.name, each.fingerprint) for each in held.versions] == [key]


async def test_each_request_is_made_with_the_token_as_it_is_now(
    tmp_path_factory: pytest.TempPathFactory, case: Case
) -> None:
    folder = tmp_path_factory.mktemp("agent")
    tokens = ["wr0ng-token-of-the-agents", TOKEN]
    async with an_agent(folder) as agent, aiohttp.ClientSession() as session:
        rotating = AgentClient(session, lambda: tokens.pop(0))
        endpoint = Endpoint("127.0.0.1", agent.port)
        assert (await failure(rotating, endpoint, case)).reason == "AgentUnauthorized"
        assert (await rotating.fetch(endpoint, case.order)).state == "Present"


async def test_many_ask_at_the_same_time(
    client: AgentClient, scripted: ScriptedAgent, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_client, "CONNECT_SECONDS", 60.0)  # all on one event loop, of a busy machine perhaps
    entries = await asyncio.gather(*(client.fetch(scripted.endpoint, case.order) for _ in range(50)))
    assert {entry.state for entry in entries} == {"Present"}
    assert json.dumps(scripted.asked[0][2]["prefetch"]) == "false"
