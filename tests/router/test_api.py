"""What the HTTP API answers, to good questions and to bad ones."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lora_operator.router import api as api_module
from lora_operator.router.wire import AdapterList, AdapterPods, PickAnswer, ProblemDocument, Readiness
from tests.router.fleet import Fleet, a_fleet
from tests.router.serving import served


async def test_adapters_are_listed_with_their_pods() -> None:
    async with served(a_fleet()) as api:
        status, body, _ = await api.get("/v1/adapters?baseModel=llama")
        assert status == 200
        found = AdapterList.model_validate(body)
        assert [one.name for one in found.adapters] == ["chat", "sql"]
        assert body["adapters"][0] == {
            "namespace": "team-a",
            "name": "chat",
            "baseModel": "llama",
            "resource": "two",
            "pods": [{"pod": "vllm-0", "address": "10.0.0.1:8000", "engineName": "chat--1234", "ready": True}],
        }
        assert (await api.get("/v1/adapters?baseModel=qwen"))[1]["adapters"] == []
        assert (await api.get("/v1/adapters?namespace=team-b"))[1]["adapters"] == []


async def test_adapters_that_no_pod_answers_for_are_listed_only_on_request() -> None:
    fleet = a_fleet()
    fleet.adapter("lazy", names=("idle",), ready=("False", "LoadOnDemand", "nothing is loaded yet"))
    fleet.refresh()
    async with served(fleet) as api:
        names = [one["name"] for one in (await api.get("/v1/adapters"))[1]["adapters"]]
        assert names == ["chat", "sql"]
        adapters = (await api.get("/v1/adapters?includeUnloaded=true"))[1]["adapters"]
        assert {one["name"]: one.get("reason") for one in adapters} == {
            "chat": None, "idle": "LoadOnDemand", "sql": None,
        }  # fmt: skip


async def test_a_list_that_has_not_changed_is_not_sent_again() -> None:
    async with served(a_fleet()) as api:
        _, _, headers = await api.get("/v1/adapters")
        etag = headers["ETag"]
        for sent in (etag, f"W/{etag}", f'"x", {etag}', "*"):
            assert (await api.get("/v1/adapters", If_None_Match=sent))[:2] == (304, {})
        api.fleet.pod("vllm-1", "10.0.0.2", ready=False)
        api.fleet.refresh()
        assert (await api.get("/v1/adapters", If_None_Match=etag))[0] == 200


async def test_pages_of_the_list_follow_each_other() -> None:
    async with served(a_fleet()) as api:
        first = (await api.get("/v1/adapters?limit=1"))[1]
        second = (await api.get(f"/v1/adapters?limit=1&continue={first['continue']}"))[1]
        assert [one["name"] for page in (first, second) for one in page["adapters"]] == ["chat", "sql"]
        assert "continue" not in second


async def test_pods_of_an_adapter_are_told_known_and_unknown_ones_apart() -> None:
    fleet = a_fleet()
    fleet.adapter("lazy", names=("idle",), ready=("False", "LoadOnDemand", "nothing is loaded yet"))
    fleet.pod("vllm-1", "10.0.0.2", terminating=True)
    fleet.refresh()
    async with served(fleet) as api:
        status, body, _ = await api.get("/v1/adapters/sql/pods")
        found = AdapterPods.model_validate(body)
        assert (status, [one.pod for one in found.pods]) == (200, ["vllm-0"])
        assert body["withheld"] == [{"pod": "vllm-1", "state": "Terminating"}]
        status, body, _ = await api.get("/v1/adapters/idle/pods?namespace=team-a")
        assert (status, body["pods"], body["reason"]) == (200, [], "LoadOnDemand")
        status, body, headers = await api.get("/v1/adapters/sqll/pods")
        assert (status, body["type"], body["near"]) == (404, "urn:lora-operator:router:unknown-adapter", ["sql"])
        assert headers["Content-Type"] == "application/problem+json; charset=utf-8"


async def test_a_name_of_several_namespaces_is_asked_back() -> None:
    fleet = a_fleet()
    fleet.pod("vllm-0", "10.0.1.1", namespace="team-b")
    fleet.adapter("theirs", {"vllm-0": {"sql": "sql"}}, namespace="team-b")
    fleet.refresh()
    async with served(fleet) as api:
        status, body, _ = await api.get("/v1/adapters/sql/pods")
        assert (status, body["namespaces"]) == (400, ["team-a", "team-b"])
        status, body = await api.post("/v1/pick", {"adapter": "sql", "namespace": "team-b"})
        assert (status, body["address"]) == (200, "10.0.1.1:8000")


@pytest.mark.parametrize("policy", [None, "lora-affinity", "least-request", "random", "threshold", "weighted", "hash"])
async def test_a_pick_is_a_pod_that_holds_the_adapter(policy: str | None) -> None:
    async with served(a_fleet()) as api:
        ask: dict[str, Any] = {"adapter": "sql"}
        ask |= {"policy": policy} if policy else {}
        ask |= {"key": "user-7"} if policy == "hash" else {}
        addresses = set()
        for _ in range(20):
            status, body = await api.post("/v1/pick", ask)
            answer = PickAnswer.model_validate(body)
            assert (status, answer.engine_name, answer.policy) == (200, "sql", policy or "lora-affinity")
            addresses.add(answer.address)
        assert addresses <= {"10.0.0.1:8000", "10.0.0.2:8000"}
        assert len(addresses) == (1 if policy == "hash" else 2)
        body = (await api.post("/v1/pick", {**ask, "adapter": "chat"}))[1]
        assert (body["pod"], body["engineName"]) == ("vllm-0", "chat--1234")
        status, body = await api.post("/v1/pick", {**ask, "avoid": ["vllm-0"]})
        assert (status, body["pod"]) == (200, "vllm-1")


async def test_a_pick_without_a_pod_says_why_and_when_to_come_again() -> None:
    fleet = a_fleet()
    fleet.adapter("lazy", names=("idle",), ready=("False", "LoadOnDemand", "nothing is loaded yet"))
    fleet.refresh()
    async with served(fleet) as api:
        async with api.session.post(f"{api.url}/v1/pick", json={"adapter": "idle"}) as answer:
            body = await answer.json(content_type="application/problem+json")
            assert (answer.status, answer.headers["Retry-After"], body["reason"]) == (503, "1", "LoadOnDemand")
        status, body = await api.post("/v1/pick", {"adapter": "sql", "avoid": ["vllm-0", "vllm-1"]})
        assert (status, body["reason"]) == (503, "AllAvoided")
        assert (await api.post("/v1/pick", {"adapter": "nobody"}))[0] == 404


@pytest.mark.parametrize(
    ("path", "says"),
    [
        (
            "/v1/adapters?base_model=llama",
            "base_model: does not exist; there are: baseModel, continue, includeUnloaded",
        ),
        ("/v1/adapters?baseModel=a&baseModel=b", "baseModel is given more than once"),
        ("/v1/adapters?limit=0", "limit: "),
        ("/v1/adapters?limit=many", "limit: "),
        ("/v1/adapters?limit=100000", "limit: "),
        ("/v1/adapters?continue=xyz", "continue is no token"),
        ("/v1/adapters?continue=" + "A" * 2000, "continue: "),
        ("/v1/adapters?continue=%C3%A9", "continue: String should match"),
        ("/v1/watch?lastEventId=%C3%A9", "lastEventId: String should match"),
        ("/v1/adapters?namespace=Team_A", "namespace: "),
        ("/v1/adapters?baseModel=" + "m" * 600, "baseModel: "),
        ("/v1/adapters?includeUnloaded=perhaps", "includeUnloaded: "),
        ("/v1/adapters/a%2Cb/pods", "the adapter's name in the path"),
        ("/v1/adapters/a%0Ab/pods", "the adapter's name in the path"),
        ("/v1/adapters/" + "n" * 300 + "/pods", "the adapter's name in the path"),
        ("/v1/adapters/sql/pods?limit=3", "limit: does not exist"),
        ("/v1/watch?since=3", "since: does not exist"),
    ],
)
async def test_a_question_that_makes_no_sense_is_refused_by_name(path: str, says: str) -> None:
    async with served(a_fleet()) as api:
        status, body, _ = await api.get(path)
        problem = ProblemDocument.model_validate(body)
        assert (status, problem.type) == (400, "urn:lora-operator:router:bad-request")
        assert says in problem.detail


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "Invalid JSON"),
        (b"{", "Invalid JSON"),
        (b"\xff\xfe", "Invalid JSON"),
        (b"[]", "the body: "),
        (b"{}", "give adapter, or adapters and shared"),
        ({"adapter": ""}, "adapter: "),
        ({"adapter": "a/b"}, "adapter: "),
        ({"adapter": 7}, "adapter: "),
        ({"adapter": "sql", "model": "sql"}, "model: Extra inputs"),
        ({"adapter": "sql", "namespace": "../x"}, "namespace: "),
        ({"adapter": "sql", "policy": "best"}, "policy 'best' does not exist; use one of hash, "),
        ({"adapter": "sql", "policy": "hash"}, "give both or neither"),
        ({"adapter": "sql", "key": "x"}, "give both or neither"),
        ({"adapter": "sql", "avoid": ["p"] * 100}, "avoid: "),
    ],
)
async def test_a_body_that_makes_no_sense_is_refused_by_name(body: Any, says: str) -> None:
    async with served(a_fleet()) as api:
        status, problem = await api.post("/v1/pick", body)
        assert (status, problem["type"]) == (400, "urn:lora-operator:router:bad-request")
        assert says in problem["detail"]


async def test_a_huge_body_an_unknown_path_and_a_wrong_method_are_problems_too() -> None:
    async with served(a_fleet()) as api:
        status, body = await api.post("/v1/pick", b"x" * (1 << 20))
        assert (status, body["type"]) == (413, "urn:lora-operator:router:body-too-large")
        status, body = await api.post("/v1/pick?adapter=sql", {"adapter": "sql"})
        assert (status, body["type"]) == (400, "urn:lora-operator:router:bad-request")
        status, body, _ = await api.get("/v2/adapters")
        assert (status, body["type"]) == (404, "urn:lora-operator:router:unknown-path")
        async with api.session.get(f"{api.url}/v1/pick") as answer:
            assert (answer.status, answer.headers["Allow"]) == (405, "POST")
        async with api.session.delete(f"{api.url}/v1/adapters") as answer:
            assert (answer.status, answer.headers["Allow"]) == (405, "GET")


async def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_module, "BODY_SECONDS", 0.05)
    async with served(a_fleet()) as api:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(api.url.rpartition(":")[2]))
        writer.write(b"POST /v1/pick HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        async with asyncio.timeout(60):
            assert b" 408 " in await reader.readline()
        writer.close()
        await writer.wait_closed()


async def test_before_the_first_list_nothing_is_answered_but_health() -> None:
    async with served(Fleet(), loaded=False) as api:
        assert (await api.get("/readyz"))[0] == 503
        for path in ("/v1/adapters", "/v1/adapters/sql/pods", "/v1/watch"):
            status, body, headers = await api.get(path)
            assert (status, body["type"]) == (503, "urn:lora-operator:router:table-not-loaded")
            assert headers["Retry-After"] == "1"
        assert (await api.post("/v1/pick", {"adapter": "sql"}))[0] == 503
        async with api.session.get(f"{api.url}/healthz") as answer:
            assert (answer.status, await answer.text()) == (200, "ok\n")


async def test_while_the_api_server_is_away_answers_go_on_and_tell_their_age() -> None:
    async with served(a_fleet()) as api:
        status, body, _ = await api.get("/readyz")
        assert Readiness.model_validate(body).api_server == "Reachable"
        api.freshness.missed("no answer")
        api.freshness.missed("no answer")
        api.clock.now += 42
        status, body, _ = await api.get("/readyz")
        assert (status, body["ready"], body["apiServer"], body["ageSeconds"]) == (200, True, "Away", 42)
        assert body["message"] == "the API server does not answer; the table is as it was 42 s ago"
        status, body, headers = await api.get("/v1/adapters/sql/pods")
        assert (status, len(body["pods"]), headers["X-Table-Age-Seconds"]) == (200, 2, "42.0")
        api.freshness.heard()
        assert (await api.get("/readyz"))[1]["apiServer"] == "Reachable"


async def test_metrics_count_requests_and_tell_the_size_of_the_table() -> None:
    async with served(a_fleet()) as api:
        await asyncio.gather(*(api.post("/v1/pick", {"adapter": name}) for name in ("sql", "sql", "nobody")))
        async with api.session.get(f"{api.url}/metrics") as answer:
            lines = (await answer.text()).splitlines()
        for line in (
            'lora_operator_router_requests_total{route="/v1/pick",status="200"} 2.0',
            'lora_operator_router_requests_total{route="/v1/pick",status="404"} 1.0',
            "lora_operator_router_table_adapters 2.0",
            "lora_operator_router_table_endpoints 3.0",
            "lora_operator_router_streams 0.0",
        ):
            assert line in lines
