"""What is missing is said once, shown, and noticed when it is there."""

from __future__ import annotations

import asyncio
import copy
import gc
from typing import Any

import pytest

from lora_operator.api.crd import definition
from lora_operator.kube import preconditions
from lora_operator.kube.client import KubeError
from lora_operator.kube.preconditions import Preconditions, rights_to_act, rights_to_answer
from tests.core.api_server import ApiServer, an_api_server


def of_an_operator(api: ApiServer, *namespaces: str) -> Preconditions:
    return Preconditions(api.kube, rights_to_act(namespaces, "system", "system"))


def the_schema() -> dict[str, Any]:
    (version,) = definition()["spec"]["versions"]
    return copy.deepcopy(version["schema"]["openAPIV3Schema"])


async def test_where_nothing_is_missing_it_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async with an_api_server() as api:
        api.defined = the_schema()
        needs = of_an_operator(api)
        await needs.look()
        assert (needs.why(), caplog.text) == ("", "")


async def test_missing_rights_are_named_in_one_line_and_the_line_is_not_repeated(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with an_api_server() as api:
        api.denied = {"patch loraadapters/status", "watch pods", "list pods"}
        healed = asyncio.Event()
        needs = Preconditions(api.kube, rights_to_act(("team",), "system", "system"), healed.set)
        await needs.look()
        await needs.look()
        (line,) = caplog.messages
        assert "may not patch loraadapters/status in namespace team, list/watch pods in namespace team: give" in line
        assert needs.why() == line
        api.denied = set()
        caplog.set_level("INFO")
        await needs.look()
        assert healed.is_set()
        assert needs.why() == ""
        assert caplog.messages[-1].startswith("no longer so: the service account may not patch")


async def test_a_long_list_of_missing_rights_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    async with an_api_server() as api:
        api.denied = {"list pods"}
        needs = of_an_operator(api, *(f"team-{index}" for index in range(40)))
        await needs.look()
        assert "list pods in namespace team-5 and 34 more: give" in needs.why()


async def test_an_old_api_server_is_told_apart_from_a_new_one_and_from_one_that_does_not_say() -> None:
    async with an_api_server() as api:
        needs = of_an_operator(api)
        for release, old in (((1, 29), True), ((1, 30), False), ((1, 9), True), ((2, 0), False)):
            api.release = release
            await needs.look()
            assert ("is too old: upgrade the cluster to 1.30 or newer" in needs.why()) is old, release


async def test_a_missing_definition_and_one_that_lacks_fields_are_told_apart(caplog: pytest.LogCaptureFixture) -> None:
    async with an_api_server() as api:
        api.defined = None
        needs = of_an_operator(api)
        await needs.look()
        assert "loraadapters.production-stack.vllm-project is missing: apply crds/" in needs.why()
        api.defined = the_schema()
        del api.defined["properties"]["spec"]["properties"]["selection"]
        del api.defined["properties"]["status"]["properties"]["adapters"]["items"]["properties"]["rank"]
        await needs.look()
        assert "of an older version, without spec.selection, status.adapters.rank: apply crds/" in needs.why()
        api.defined = the_schema()
        api.defined["properties"]["spec"]["properties"]["fromTheFuture"] = {"type": "string"}
        await needs.look()
        assert needs.why() == ""
        assert len([one for one in caplog.records if one.levelname == "ERROR"]) == 2


async def test_a_definition_that_takes_anything_lacks_nothing() -> None:
    async with an_api_server() as api:
        api.defined = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        needs = of_an_operator(api)
        await needs.look()
        assert needs.why() == ""


async def test_an_api_server_that_is_away_changes_nothing() -> None:
    async with an_api_server() as api:
        api.denied = {"list pods"}
        needs = of_an_operator(api)
        await needs.look()
        before, api.away, api.denied = needs.why(), True, set()
        await needs.look()
        assert needs.why() == before


async def test_it_looks_again_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preconditions, "MISSING_SECONDS", 0.001)
    async with an_api_server() as api:
        api.denied = {"get configmaps"}
        needs = Preconditions(api.kube, rights_to_answer((), "system"))
        await needs.look()
        assert "may not get configmaps lora-operator-requests in namespace system" in needs.why()
        looking = asyncio.create_task(needs.keep_looking())
        api.denied = set()
        async with asyncio.timeout(60):
            while needs.why():  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.001)
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)


async def test_a_refusal_makes_it_look_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preconditions, "MISSING_SECONDS", 0.001)
    async with an_api_server() as api:
        api.defined = the_schema()
        needs = of_an_operator(api)
        await needs.look()
        looking = asyncio.create_task(needs.keep_looking())
        api.denied, api.forbid = {"create events"}, True
        with pytest.raises(KubeError):
            await api.kube.create_event("team", {"metadata": {"name": "one"}})
        async with asyncio.timeout(60):
            while not needs.why():  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.001)
        assert "may not create events" in needs.why()
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)


async def test_one_that_is_stopped_at_once_leaves_nothing_behind() -> None:
    async with an_api_server() as api:
        looking = asyncio.create_task(Preconditions(api.kube, []).look())
        await asyncio.sleep(0)  # it has begun, and what it asks has not
        looking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await looking
        gc.collect()


async def test_the_definition_of_what_pods_hold_is_asked_for_as_well() -> None:
    async with an_api_server() as api:
        api.defined = the_schema()
        api.undefined = {"loraendpoints"}
        needs = of_an_operator(api)
        await needs.look()
        assert "loraendpoints.production-stack.vllm-project is missing: apply crds/" in needs.why()
        api.undefined = set()
        await needs.look()
        assert needs.why() == ""


async def test_rights_are_asked_for_once_and_then_only_those_that_are_missing_or_after_a_refusal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(preconditions, "MISSING_SECONDS", 0.001)
    monkeypatch.setattr(preconditions, "MISSING_MOST_SECONDS", 0.001)
    async with an_api_server() as api:
        api.defined = the_schema()
        asked: list[str] = []
        about = api._about

        def noting(path: str, body: dict[str, Any]) -> Any:
            if path.endswith("/selfsubjectaccessreviews"):
                asked.append(" ".join(body["spec"]["resourceAttributes"][name] for name in ("verb", "resource")))
            return about(path, body)

        monkeypatch.setattr(api, "_about", noting)
        rights = rights_to_act((), "system", "system")
        needs = Preconditions(api.kube, rights)
        looking = asyncio.create_task(needs.keep_looking())
        try:
            async with asyncio.timeout(20):
                while len(asked) < len(rights):  # noqa: ASYNC110 - it tells nobody
                    await asyncio.sleep(0.001)
                api.denied, api.forbid = {"create events"}, True
                with pytest.raises(KubeError):
                    await api.kube.create_event("team", {"metadata": {"name": "one"}})
                while len(asked) < 2 * len(rights) + 3:  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
            assert set(asked[2 * len(rights) :]) == {"create events"}
            api.denied = set()
            async with asyncio.timeout(20):
                while needs.why():  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
            count = len(asked)
            await asyncio.sleep(0.1)  # a hundred times as long as it would take to ask again
            assert len(asked) == count
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)


async def test_what_an_api_server_that_was_away_at_the_start_would_have_said_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(preconditions, "MISSING_SECONDS", 0.001)
    async with an_api_server() as api:
        api.release, api.away = (1, 29), True
        needs = of_an_operator(api)
        looking = asyncio.create_task(needs.keep_looking())
        await api.until_calls(1)
        api.away = False
        async with asyncio.timeout(20):
            while "is too old" not in needs.why():  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.001)
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
