"""Agents are asked through the API server's proxy, refuse what is loaded or pinned, and need no cloud of their own."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.agent.running import TOKEN, Agent, an_agent
from tests.core.api_server import ApiServer
from tests.fetch.conftest import case
from tests.fetch.ordered import Case
from tests.plugin.a_fleet import NAMESPACE, PODS, a_pod, an_adapter, fill, show
from tests.plugin.conftest import Lora, write_kubeconfig
from tests.plugin.proxy import a_proxy

__all__ = ["case"]

SECRET = f"/api/v1/namespaces/{NAMESPACE}/secrets/lora-agent-token"


@pytest.fixture
async def agent(api: ApiServer, kubeconfig: Path, tmp_path: Path) -> AsyncIterator[Agent]:
    """The agent of vllm-0, behind a proxy that the kubeconfig names."""
    show(api, [an_adapter("sql")], [a_pod("vllm-0"), a_pod("vllm-1", agent=False)])
    token = base64.b64encode(TOKEN.encode()).decode()
    api.objects[SECRET] = {"metadata": {"name": "lora-agent-token", "uid": "s"}, "data": {"token": token}}
    async with an_agent(tmp_path) as running, a_proxy(api, {"vllm-0": running.port}) as url:
        write_kubeconfig(kubeconfig, url)
        yield running


async def test_a_disk_is_shown_through_the_api_servers_proxy(lora: Lora, agent: Agent, case: Case) -> None:
    await agent.fetch(case.order)
    await agent.loaded((case.order.name, case.order.fingerprint))
    said = await lora("cache")
    name, version = case.order.name, case.order.fingerprint
    assert (said.status, said.lines[-1][:3], "loaded" in said.out) == (0, ["vllm-0", name, version[:8]], True)
    (disk,) = (await lora("cache", "vllm-0", "-o", "json")).document
    assert [(e["name"], e["loaded"], e["pinned"]) for e in disk["entries"]] == [(name, True, False)]


async def test_what_is_loaded_or_pinned_is_not_evicted_and_everything_else_is(
    lora: Lora, agent: Agent, case: Case
) -> None:
    await agent.fetch(case.order)
    name, version = case.order.name, case.order.fingerprint
    await agent.loaded((name, version))
    said = await lora("evict", name)
    assert (said.status, "unload it first" in said.out) == (1, True)

    body = {"versions": [], "pinned": [{"name": name, "fingerprint": version}]}
    assert (await agent.ask("PUT", "/v1/loaded", body)).body["versions"] == []
    (disk,) = (await lora("cache", "-o", "json")).document
    assert [(e["loaded"], e["pinned"]) for e in disk["entries"]] == [(False, True)]
    said = await lora("evict", name)
    assert (said.status, "is pinned by its LoraAdapter: take the pin back first" in said.out) == (1, True)

    await agent.loaded()
    said = await lora("evict", name, "--pod", "vllm-0")
    assert (said.status, said.out.endswith("removed\n")) == (0, True)
    assert not agent.folder(case.order).exists()
    said = await lora("evict", name)
    assert (said.status, f"there is no cached adapter {name} on these disks" in said.err) == (1, True)


async def test_why_tells_which_pods_have_the_files_where_that_is_asked(
    lora: Lora, agent: Agent, api: ApiServer, case: Case
) -> None:
    name = case.order.name
    body = an_adapter(name, {name: []})
    body["status"]["adapters"][0]["fingerprint"] = case.order.fingerprint
    show(api, [body], [a_pod("vllm-0"), a_pod("vllm-1", agent=False)])
    said = await lora("why", name, "--files", "-o", "json")
    assert said.document["pods"][0]["message"].endswith("; its files are not on the pod's disk")
    await agent.fetch(case.order)
    first, second = (await lora("why", name, "--files", "-o", "json")).document["pods"]
    assert first["message"].endswith("; its files are on the pod's disk") and "files" not in second["message"]
    assert "files" not in (await lora("why", name)).out


async def test_a_wrong_token_and_a_missing_secret_are_told(
    lora: Lora, agent: Agent, api: ApiServer, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("another-token-of-agents")
    said = await lora("cache", "--token-file", str(wrong))
    assert (said.status, "its agent does not accept the token" in said.out) == (1, True)
    del api.objects[SECRET]
    said = await lora("cache")
    assert said.err.startswith(f"error: cannot read Secret {NAMESPACE}/lora-agent-token, which has the agents' token")


async def test_pods_without_agents_are_told_where_else_to_look(lora: Lora, api: ApiServer) -> None:
    show(api, [], [a_pod("vllm-0", agent=False)])
    assert "Files of a shared volume are looked after by the operator" in (await lora("cache")).err
    assert "pod vllm-0 has no agent that runs" in (await lora("cache", "vllm-0")).err
    assert "there is no pod vllm-9 in namespace team-a; did you mean vllm-0?" in (await lora("cache", "vllm-9")).err


async def test_a_proxy_that_may_not_be_used_is_told_and_one_silent_agent_hides_no_other(
    lora: Lora, api: ApiServer
) -> None:
    fill(api)
    api.statuses[f"{PODS}/vllm-1:8090/proxy/v1/adapters"] = 403
    said = await lora("cache")
    assert said.status == 0
    assert "ask for the right get on pods/proxy, or use --direct" in said.out
    assert ["vllm-0", "sql"] in [line[:2] for line in said.lines]


@pytest.mark.parametrize("field", ["fingerprint", "name", "state"])
async def test_an_agent_that_is_none_leads_the_user_nowhere_else(lora: Lora, api: ApiServer, field: str) -> None:
    show(api, [], [a_pod("vllm-0")])
    fill(api)
    disk = json.loads(api.raw[f"{PODS}/vllm-0:8090/proxy/v1/adapters"])
    disk["entries"][0][field] = 7 if field == "state" else "../../../../../../team-b/secrets/theirs"
    api.raw[f"{PODS}/vllm-0:8090/proxy/v1/adapters"] = json.dumps(disk).encode()
    name = disk["entries"][0]["name"]
    said = await lora("evict", name, "--pod", "vllm-0")
    assert (said.status, "vllm-0: not asked: its agent's answer makes no sense" in said.out) == (1, True)
    assert {method for method, _ in api.calls} == {"GET"}


async def test_a_pin_is_an_annotation_of_the_lora_adapter(lora: Lora, api: ApiServer) -> None:
    fill(api)

    def written() -> object:
        return api.bodies[-1]["metadata"]["annotations"]["production-stack.vllm-project/pinned"]

    assert (await lora("pin", "sql")).out == "loraadapter/sql: sql is pinned\n"
    assert written() == "sql"
    assert (await lora("pin", "chat")).out == "loraadapter/assistants: chat is pinned\n"
    assert written() == "chat"
    assert (await lora("pin", "poet")).status == 0
    assert written() == "chat,poet"
    assert [line["pinned"] for line in (await lora("get", "assistants", "-o", "json")).document] == [True, True]
    assert [line["pinned"] for line in (await lora("get", "sql", "-o", "json")).document] == [True]
    assert (await lora("unpin", "chat")).out == "loraadapter/assistants: chat is not pinned\n"
    assert written() == "poet"
    assert (await lora("pin", "assistants")).out == "loraadapter/assistants: all of its adapters are pinned\n"
    assert written() == "true"
    said = await lora("unpin", "chat")
    assert (said.status, "unpin that, and pin single ones" in said.err) == (1, True)
    assert (await lora("unpin", "assistants")).status == 0
    assert written() is None


async def test_a_source_is_looked_at_again_by_an_annotation_that_is_new_each_time(lora: Lora, api: ApiServer) -> None:
    fill(api)
    values = []
    for name in ("chat", "assistants"):
        assert (await lora("refresh", name)).out == "loraadapter/assistants: its source is looked at again now\n"
        values.append(api.bodies[-1]["metadata"]["annotations"]["production-stack.vllm-project/refresh"])
    assert len(set(values)) == 2
    api.forbid = True
    said = await lora("refresh", "chat")
    assert said.err == "error: cannot change LoraAdapter team-a/assistants: forbidden; ask for that right\n"
