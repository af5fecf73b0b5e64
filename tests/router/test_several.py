"""Picks for several adapters, what pods score, and which job a worker is told to take."""

from __future__ import annotations

from typing import Any

import pytest

from lora_operator.settings.options import SettingsError
from lora_operator.settings.routing_rules import rules_of
from lora_scheduler.routing import Rules, Weights
from tests.router.fleet import Fleet, a_fleet
from tests.router.serving import served

HERE = {"namespace": "team-a"}


async def test_a_pick_for_several_adapters_is_a_pod_that_holds_all_of_them() -> None:
    async with served(a_fleet()) as api:
        for _ in range(10):
            status, body = await api.post("/v1/pick", {"adapters": ["sql"], "shared": ["chat"]})
            assert (status, body["pod"]) == (200, "vllm-0")
        assert (body["adapter"], body["engineName"], body["missing"]) == ("sql", "sql", [])
        assert body["engineNames"] == {"sql": "sql", "chat": "chat--1234"}
        status, body = await api.post("/v1/pick", {"adapters": ["sql", "chat"], "avoid": ["vllm-0"]})
        assert (status, body["reason"]) == (503, "NotOnOnePod")
        assert "holds all of sql, chat" in body["detail"]
        status, body = await api.post("/v1/pick", {"adapters": ["sql", "nobody"]})
        assert status == 404


async def test_a_caller_that_can_load_is_told_what_the_pod_lacks() -> None:
    fleet = Fleet()
    fleet.pod("vllm-0", "10.0.0.1", says={"max-cpu-loras": "4", "base-model": "llama"})
    fleet.adapter("la", {"vllm-0": {"sql": "sql"}}, names=("chat",))
    fleet.refresh()
    async with served(fleet) as api:
        api.api.picker.see(["team-a/vllm-0"])
        status, body = await api.post("/v1/pick", {"adapters": ["sql", "chat"]})
        assert status == 503 and "no pod answers for chat" in body["detail"]
        status, body = await api.post("/v1/pick", {"adapters": ["sql", "chat"], "mayLoad": True, "policy": "weighted"})
        assert (status, body["engineNames"], body["missing"]) == (200, {"sql": "sql"}, ["chat"])


async def test_an_explained_pick_shows_every_term_of_every_candidate() -> None:
    async with served(a_fleet()) as api:
        status, body = await api.post("/v1/pick", {"adapters": ["sql"], "shared": ["chat"], "explain": True})
        assert status == 200
        first, second = body["candidates"]
        assert (first["pod"], first["own"], first["shared"], first["freeSlot"]) == ("vllm-0", 10.0, 5.0, 1.0)
        assert (second["pod"], second["score"], second["missing"]) == ("vllm-1", 11.0, ["chat"])
        assert first["score"] == 16.0 and first["requests"] == 0.0
        _, body = await api.post("/v1/pick", {"adapter": "sql", "explain": True})
        scores = {one["pod"]: (one["requests"], one["queueDepth"]) for one in body["candidates"]}
        assert scores["vllm-1"] == (0.0, 0.0) and scores["vllm-0"][0] > 0.9 and scores["vllm-0"][1] < -9
        status, body = await api.post("/v1/pick", {"adapter": "sql", "explain": True, "avoid": ["vllm-0", "vllm-1"]})
        assert (status, body["candidates"]) == (503, [])


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"adapter": "sql", "adapters": ["chat"]}, "not both"),
        ({"adapters": ["sql"], "shared": ["sql"]}, "named twice"),
        ({"adapters": ["sql"], "waitSeconds": 1}, "for one adapter"),
        ({"adapter": "sql", "mayLoad": True}, "mayLoad is for"),
        ({"adapters": ["sql"], "policy": "hash", "key": "x"}, "for one adapter"),
        ({"adapters": ["a"] * 17}, "at most 16"),
    ],
)
async def test_what_cannot_be_meant_is_refused(body: Any, says: str) -> None:
    async with served(a_fleet()) as api:
        status, problem = await api.post("/v1/pick", body)
        assert status == 400 and says in problem["detail"]


async def test_the_policy_and_the_weights_are_those_of_the_flags() -> None:
    async with served(a_fleet(), rules=rules_of("weighted", 0.5, "own-resident=7, free-slot=0")) as api:
        _, body = await api.post("/v1/pick", {"adapter": "sql", "explain": True})
        assert body["policy"] == "weighted" and {one["score"] for one in body["candidates"]} == {7.0}
        await api.until_metric('lora_operator_router_score_count{by="pick"} 1.0')
    assert rules_of("threshold", 0.5, "") == Rules("threshold", affinity=0.5)
    assert rules_of("random", 1.0, "prefix=0").weights == Weights(prefix=0.0)
    for weights in ("owned=3", "prefix=much", "prefix=nan"):
        with pytest.raises(SettingsError, match="--routing-weights"):
            rules_of("weighted", 1.0, weights)


async def test_a_worker_is_told_which_job_to_take() -> None:
    jobs: list[dict[str, Any]] = [
        {"key": "old", "adapters": ["chat"], "waitedSeconds": 1.5},
        {"key": "both", "adapters": ["sql"], "shared": ["chat"]},
        {"key": "one", "adapters": ["sql"]},
    ]
    async with served(a_fleet()) as api:
        worker = {"pod": "vllm-0"} | HERE
        status, body = await api.post("/v1/match", {"worker": worker, "jobs": jobs})
        assert (status, body["job"], body["score"], body["missing"]) == (200, "both", 16.0, [])
        assert body["engineNames"] == {"sql": "sql", "chat": "chat--1234"}
        _, body = await api.post("/v1/match", {"worker": worker, "jobs": jobs, "fairSeconds": 1})
        assert (body["job"], body["overdue"]) == ("old", True)
        _, body = await api.post("/v1/match", {"worker": {"pod": "vllm-1"} | HERE, "jobs": jobs})
        assert body["job"] == "one"
        _, body = await api.post("/v1/match", {"worker": worker, "jobs": []})
        assert body == {"job": None, "version": body["version"]}
        status, body = await api.post("/v1/match", {"worker": {"pod": "vllm-9"} | HERE, "jobs": jobs})
        assert (status, body["type"].rpartition(":")[2]) == (404, "unknown-worker")
        await api.until_metric('lora_operator_router_score_count{by="match"} 3.0')


async def test_a_worker_may_say_what_it_holds_itself() -> None:
    jobs: list[dict[str, Any]] = [
        {"key": "1", "adapters": ["new"], "mayLoad": True},
        {"key": "2", "adapters": ["mine"]},
    ]
    worker: dict[str, Any] = {"baseModel": "mistral", "adapters": ["mine"], "freeSlots": 1}
    async with served(a_fleet()) as api:
        _, body = await api.post("/v1/match", {"worker": worker, "jobs": jobs})
        assert (body["job"], body["engineNames"]) == ("2", {"mine": "mine"})
        _, body = await api.post("/v1/match", {"worker": worker, "jobs": jobs[:1]})
        assert (body["job"], body["missing"]) == ("1", ["new"])
        _, body = await api.post("/v1/match", {"worker": worker | {"freeSlots": 0}, "jobs": jobs[:1]})
        assert body["job"] is None
        # the table knows that this one is of another base model
        _, body = await api.post("/v1/match", {"worker": worker | HERE, "jobs": [jobs[0] | {"adapters": ["sql"]}]})
        assert body["job"] is None
        twice = [{"key": "x", "adapters": ["a"], "shared": ["a"]}]
        assert (await api.post("/v1/match", {"worker": worker, "jobs": twice}))[0] == 400
