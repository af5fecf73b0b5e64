"""One operator at a time: who holds the Lease acts, and stops before anybody else may begin."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from lora_operator.kube.client import Kube, KubeError
from lora_operator.kube.lease import Elector, LeaseLost, LeaseTimes
from tests.core.api_server import ApiServer, an_api_server

PATH = "/apis/coordination.k8s.io/v1/namespaces/ns/leases/lora-operator"
TIMES = LeaseTimes(15.0, 10.0, 0.005)


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def two() -> AsyncIterator[tuple[ApiServer, Clock, Elector, Elector]]:
    async with an_api_server() as api:
        clock = Clock()
        yield api, clock, an_elector(api.kube, "a", clock), an_elector(api.kube, "b", clock)


def an_elector(kube: Kube, identity: str, clock: Clock) -> Elector:
    return Elector(kube, "ns", "lora-operator", identity, times=TIMES, clock=clock)


async def soon(elector: Elector) -> bool:
    """Whether it gets the Lease within some attempts."""
    for _ in range(5):
        if await elector._attempt():
            return True
    return False


async def test_the_first_leads_and_the_second_stands_by_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with two() as (api, _, first, second):
        assert not first.standing_by()
        assert await soon(first) and first.held() and not first.standing_by()
        assert not await soon(second) and not second.held() and second.standing_by()
        assert caplog.text.count("standing by: Lease ns/lora-operator is held by a") == 1
        with pytest.raises(LeaseLost):
            second.check()
        spec = api.objects[PATH]["spec"]
        assert (spec["holderIdentity"], spec["leaseTransitions"], spec["leaseDurationSeconds"]) == ("a", 1, 15)


async def test_one_that_was_told_to_wait_for_less_waits_for_as_long_as_the_holder_may_act() -> None:
    async with an_api_server() as api:
        clock = Clock()
        holder = Elector(api.kube, "ns", "lora-operator", "a", times=LeaseTimes(1.9, 1.3, 0.005), clock=clock)
        hasty = Elector(api.kube, "ns", "lora-operator", "b", times=LeaseTimes(0.5, 0.3, 0.005), clock=clock)
        await holder.acquire()
        assert not await soon(hasty)
        clock.now += 1.2
        assert holder.held() and not await soon(hasty)
        clock.now += 0.8
        assert not holder.held() and await soon(hasty)


async def test_one_that_ends_in_order_lets_the_next_begin_at_once() -> None:
    async with two() as (_, _, first, second):
        await first.acquire()
        await first.release()
        assert not first.held()
        assert await soon(second)


async def test_the_next_begins_only_when_the_holder_must_have_given_up() -> None:
    async with two() as (_, clock, first, second):
        await first.acquire()
        assert not await soon(second)
        clock.now += 10.0
        assert not first.held()  # it may not act any more …
        assert not await soon(second)  # … and nobody else yet
        clock.now += 5.0
        assert await soon(second)


async def test_a_holder_that_renews_is_never_taken_for_dead() -> None:
    async with two() as (_, clock, first, second):
        await first.acquire()
        for _ in range(10):
            assert not await soon(second)
            clock.now += 9.0
            assert await first._attempt()
        assert not await soon(second)


async def test_a_holder_that_was_paused_finds_out_and_does_not_take_it_back() -> None:
    async with two() as (_, clock, first, second):
        await first.acquire()
        assert not await soon(second)
        clock.now += 20.0
        assert await soon(second)
        with pytest.raises(LeaseLost):
            first.check()
        with pytest.raises(LeaseLost):
            async with asyncio.timeout(60):
                await first.keep()
        assert second.held()
        await first.release()  # what is not ours is not released
        assert second.held() and not await soon(first)


async def test_a_holder_whose_api_server_is_away_ends_after_the_deadline() -> None:
    async with two() as (api, clock, first, _):
        await first.acquire()
        api.away = True
        keeping = asyncio.create_task(first.keep())
        await asyncio.sleep(0.05)
        assert not keeping.done()
        clock.now += 11.0
        with pytest.raises(LeaseLost):
            async with asyncio.timeout(60):
                await keeping


async def test_the_next_container_of_the_same_pod_goes_on_at_once() -> None:
    async with two() as (api, clock, first, _):
        await first.acquire()
        again = an_elector(api.kube, "a", clock)
        assert await soon(again)
        assert api.objects[PATH]["spec"]["leaseTransitions"] == 1


async def test_two_that_ask_at_the_same_time_do_not_both_get_it() -> None:
    async with two() as (_, _, first, second):
        won = await asyncio.gather(first._attempt(), second._attempt())
        assert sum(won) <= 1


async def test_writes_are_refused_once_the_lease_is_lost() -> None:
    async with two() as (api, clock, first, _):
        kube = api.kube.fenced(first.check)
        await first.acquire()
        await kube.create_event("ns", {"metadata": {}})
        clock.now += 11.0
        with pytest.raises(KubeError, match="another may be acting"):
            await kube.create_event("ns", {"metadata": {}})
        assert (await kube.call("GET", PATH))["spec"]["holderIdentity"] == "a"  # reading is free


async def test_a_right_that_is_missing_is_told_once_with_what_to_do(caplog: pytest.LogCaptureFixture) -> None:
    async with two() as (api, _, first, _):
        api.objects[PATH] = {"metadata": {"resourceVersion": "1", "name": "lora-operator"}, "spec": {}}
        api.forbid = True
        assert not await soon(first)
        assert caplog.text.count("--no-leader-election") == 1
