"""Orders: fetched once however often they are sent, followed while they are under way, and typed when they fail."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import pytest

from e2e.stores.proxy import Fault
from lora_operator.agent import jobs
from lora_operator.artifacts import WEIGHTS_FILE
from lora_operator.fetch.manifest import FetchManifest
from lora_operator.fetch.pace import Bandwidth
from tests.agent.running import Agent, Answer, an_agent, place
from tests.fetch.ordered import CHUNK, WEIGHTS_URL, Case, an_order, is_whole


async def ended(agent: Agent, order: FetchManifest) -> Answer:
    """What comes of it when nobody sends anything more."""
    while (answer := await agent.ask("GET", place(order))).body["state"] == "Fetching":
        pass
    return answer


async def test_an_order_is_carried_out_and_the_version_is_whole(agent: Agent, case: Case) -> None:
    answer = await agent.fetch(case.order)
    assert answer.status == 200
    assert (answer.body["state"], answer.body["doneBytes"]) == ("Present", case.order.size_bytes)
    assert is_whole(agent.folder(case.order), case.files)


async def test_an_order_that_is_repeated_costs_no_byte(agent: Agent, case: Case) -> None:
    await agent.fetch(case.order)
    asked = len(case.store.seen)
    answer = await agent.fetch(case.order)
    assert (answer.status, answer.body["state"]) == (200, "Present")
    assert len(case.store.seen) == asked


async def test_all_who_ask_for_a_version_share_one_fetch(agent: Agent, case: Case) -> None:
    answers = await asyncio.gather(*(agent.fetch(case.order) for _ in range(10)))
    assert {(answer.status, answer.body["state"]) for answer in answers} == {(200, "Present")}
    assert case.store.sent_bytes == len(case.files[WEIGHTS_FILE])


async def test_who_does_not_wait_is_told_how_far_it_is(agent: Agent, case: Case) -> None:
    case.store.bandwidth = Bandwidth(150_000)
    first = await agent.fetch(case.order, wait=0)
    assert (first.status, first.body["state"]) == (202, "Fetching")
    assert first.body["sizeBytes"] == case.order.size_bytes
    seen = [first.body["doneBytes"]]
    while (answer := await agent.ask("GET", place(case.order))).body["state"] == "Fetching":
        seen.append(answer.body["doneBytes"])
    assert seen == sorted(seen)
    assert answer.body["doneBytes"] == case.order.size_bytes


async def test_a_caller_that_goes_away_does_not_end_the_fetch(agent: Agent, case: Case) -> None:
    case.store.bandwidth = Bandwidth(150_000)
    first = asyncio.create_task(agent.fetch(case.order))
    await case.store.asked.wait()
    first.cancel()
    answer = await agent.fetch(case.order)
    assert answer.body["state"] == "Present"
    assert case.store.sent_bytes == len(case.files[WEIGHTS_FILE])


async def test_fresh_links_of_a_new_order_are_taken_over_by_the_fetch_under_way(agent: Agent, case: Case) -> None:
    case.store.accepted = {"fresh"}
    told = await agent.fetch(case.order)  # it answers at once, as it wants fresh links
    assert (told.status, told.body["state"], told.body["wantsLinks"]) == (202, "Fetching", True)
    fresh = an_order(case.files, replace(case.link, url=case.store.url(WEIGHTS_URL, sig="fresh")))
    second = await agent.fetch(fresh)
    assert (second.body["state"], second.body["wantsLinks"]) == ("Present", False)
    assert is_whole(agent.folder(case.order), case.files)
    assert case.store.sent_bytes == len(case.files[WEIGHTS_FILE])


async def test_links_that_are_never_renewed_end_the_fetch_with_a_reason(
    agent: Agent, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "NEW_LINKS_SECONDS", 0.05)
    case.store.accepted = set()
    await agent.fetch(case.order)
    answer = await ended(agent, case.order)
    assert answer.body["problem"]["reason"] == "LinkExpired"
    assert answer.body["problem"]["retryable"] is True


async def test_a_link_that_has_run_out_before_it_came_waits_for_a_new_one(
    agent: Agent, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "NEW_LINKS_SECONDS", 0.05)
    old = an_order(case.files, replace(case.link, expires_at=time.time() - 1))
    assert (await agent.fetch(old)).body["wantsLinks"] is True
    assert (await ended(agent, old)).body["problem"]["reason"] == "LinkExpired"
    assert case.store.seen == []


async def test_a_failed_fetch_says_why_and_is_tried_again_when_it_is_asked_for_again(agent: Agent, case: Case) -> None:
    order = an_order(case.files, case.link, sha256="0" * 64)
    failed = await agent.fetch(order)
    assert (failed.status, failed.body["state"]) == (200, "Failed")
    problem = failed.body["problem"]
    assert problem["reason"] == "DigestMismatch" and "alpaca" in problem["message"]
    assert (await agent.ask("GET", place(order))).body["state"] == "Failed"
    again = await agent.fetch(case.order)
    assert again.body["state"] == "Present"
    assert (await agent.ask("GET", place(case.order))).body["problem"] is None


@pytest.mark.parametrize(
    ("fault", "reason", "retryable"),
    [
        (Fault(status=404), "NotFound", False),
        (Fault(status=403), "Forbidden", False),
        (Fault(status=500), "ServerError", True),
        (Fault(corrupt_at=9_000), "DigestMismatch", True),
        (Fault(size=2 << 40), "SizeMismatch", True),
        (Fault(redirect="http://169.254.169.254/latest/meta-data"), "ForbiddenAddress", False),
    ],
)
async def test_each_fault_of_a_store_has_its_reason(
    agent: Agent, case: Case, fault: Fault, reason: str, retryable: bool
) -> None:
    case.store.always = fault
    answer = await agent.fetch(case.order)
    while answer.body["wantsLinks"]:  # as the operator does
        answer = await agent.fetch(case.order)
    problem = answer.body["problem"]
    assert (problem["reason"], problem["retryable"]) == (reason, retryable), problem
    assert not agent.folder(case.order).exists()


async def test_what_was_asked_for_while_it_was_prefetched_counts_as_used(agent: Agent, case: Case) -> None:
    case.store.bandwidth = Bandwidth(150_000)
    early = await agent.fetch(case.order, wait=0, prefetch=True)
    assert (early.status, early.body["prefetched"]) == (202, True)
    answer = await agent.fetch(case.order)
    assert (answer.body["state"], answer.body["prefetched"]) == ("Present", False)


async def test_what_was_only_prefetched_is_shown_as_such_until_it_is_asked_for(agent: Agent, case: Case) -> None:
    assert (await agent.fetch(case.order, prefetch=True)).body["prefetched"] is True
    assert (await agent.fetch(case.order, prefetch=True)).body["prefetched"] is True
    assert (await agent.fetch(case.order)).body["prefetched"] is False


async def test_a_full_budget_has_a_reason_with_the_sums(tmp_path: Path, case: Case) -> None:
    async with an_agent(tmp_path, cache_bytes=CHUNK) as agent:
        problem = (await agent.fetch(case.order)).body["problem"]
    assert problem["reason"] == "LargerThanCache"
    assert str(case.order.size_bytes) in problem["message"] and str(CHUNK) in problem["message"]
    assert case.store.seen == []


async def test_two_agents_of_one_node_fetch_once(tmp_path: Path, case: Case) -> None:
    async with an_agent(tmp_path) as one, an_agent(tmp_path, pod="ns/vllm-1") as other:
        answers = await asyncio.gather(one.fetch(case.order), other.fetch(case.order))
        assert {answer.body["state"] for answer in answers} == {"Present"}
        assert case.store.sent_bytes == len(case.files[WEIGHTS_FILE])
        await one.loaded((case.order.name, case.order.fingerprint))
        refused = await other.ask("DELETE", place(case.order))
        assert (refused.status, refused.reason) == (409, "InUse")


async def test_an_agent_that_failed_sees_what_another_of_its_node_has_fetched(tmp_path: Path, case: Case) -> None:
    async with an_agent(tmp_path) as one, an_agent(tmp_path, pod="ns/vllm-1") as other:
        case.store.always = Fault(status=500)
        assert (await one.fetch(case.order)).body["state"] == "Failed"
        case.store.always = Fault()
        await other.fetch(case.order)
        assert (await one.ask("GET", place(case.order))).body["state"] == "Present"


async def test_failures_are_remembered_but_not_without_end(
    agent: Agent, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "MOST_FAILURES", 2)
    case.store.always = Fault(status=500)
    for number in range(5):
        await agent.fetch(FetchManifest(f"a{number}", case.order.fingerprint, case.order.files))
    listed = (await agent.ask("GET", "/v1/adapters")).body["entries"]
    assert [entry["name"] for entry in listed] == ["a2", "a3", "a4"]
