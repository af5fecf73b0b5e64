"""The Lease and the network: a connection that hangs costs an attempt, an API server that is away costs the lead."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from kubernetes.aio.client.configuration import Configuration

from e2e.faults import FaultProxy
from lora_operator.kube import client as kube_module
from lora_operator.kube import connections
from lora_operator.kube.client import Kube, KubeError
from lora_operator.kube.connections import client_of
from lora_operator.kube.lease import Elector, LeaseLost, LeaseTimes
from tests.core.api_server import ApiServer, an_api_server

LEASES = "/apis/coordination.k8s.io/v1/namespaces/ns/leases"
PATIENT = LeaseTimes(9.0, 6.0, 0.05)
BRIEF = LeaseTimes(0.75, 0.5, 0.05)
FRUGAL = LeaseTimes(90.0, 60.0, 0.05)


@asynccontextmanager
async def through_a_network() -> AsyncIterator[tuple[ApiServer, FaultProxy, Kube]]:
    """A client of an API server behind a proxy."""
    async with an_api_server() as api:
        port = int(str(api.kube._client.configuration.host).rpartition(":")[2])
        with FaultProxy("127.0.0.1", port) as proxy:
            configuration = Configuration()
            configuration.host = f"http://127.0.0.1:{proxy.port}"
            kube = Kube(client_of(configuration))
            try:
                yield api, proxy, kube
            finally:
                await kube.close()


def renewals(api: ApiServer) -> int:
    return sum(method == "PUT" and "/leases/" in path for method, path in api.calls)


async def renewed(api: ApiServer, keeping: asyncio.Task[None]) -> None:
    """Wait for two more renewals; at once if the lead is lost."""
    wanted = renewals(api) + 2
    while renewals(api) < wanted and not keeping.done():  # noqa: ASYNC110 - as api.until_calls, or the end of a task
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("fault", ["silence", "half_open", "reset"])
async def test_a_connection_that_goes_silent_while_new_ones_work_does_not_cost_the_lead(fault: str) -> None:
    async with through_a_network() as (api, proxy, kube):
        elector = Elector(kube, "ns", "lora-operator", "a", times=PATIENT)
        await elector.acquire()
        keeping = asyncio.create_task(elector.keep())
        await renewed(api, keeping)
        assert getattr(proxy, fault)() == 1, "one connection"
        await renewed(api, keeping)
        assert not keeping.done() and elector.held() and proxy.accepted == 2
        keeping.cancel()


async def test_an_api_server_that_is_away_for_longer_than_the_deadline_costs_the_lead() -> None:
    async with through_a_network() as (_, proxy, kube):
        elector = Elector(kube, "ns", "lora-operator", "a", times=BRIEF)
        await elector.acquire()
        proxy.block = True
        proxy.silence()
        with pytest.raises(LeaseLost):
            async with asyncio.timeout(60):
                await elector.keep()


async def test_who_cannot_release_it_ends_all_the_same() -> None:
    async with through_a_network() as (api, proxy, kube):
        elector = Elector(kube, "ns", "lora-operator", "a", times=PATIENT)
        await elector.acquire()
        proxy.block = True
        proxy.silence()
        async with asyncio.timeout(60):
            await elector.release()
        assert not elector.held() and api.objects[f"{LEASES}/lora-operator"]["spec"]["holderIdentity"] == "a"


async def test_requests_that_hang_by_the_hundred_are_not_in_the_way_of_the_lease(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kube_module, "REQUEST_SECONDS", 600.0)
    async with through_a_network() as (api, proxy, kube):
        apart = kube.with_own_connections()
        elector = Elector(apart, "ns", "lora-operator", "a", times=FRUGAL)
        await elector.acquire()
        keeping = asyncio.create_task(elector.keep())
        await renewed(api, keeping)
        lease_is = proxy.accepted
        proxy.block = True  # for all that connect from now on
        many = [asyncio.create_task(kube.create_event("ns", {"metadata": {}})) for _ in range(300)]
        while proxy.accepted < lease_is + 100:  # noqa: ASYNC110 - as many as the client's pool has
            await asyncio.sleep(0.01)
        await renewed(api, keeping)
        assert not keeping.done() and elector.held()
        for task in (keeping, *many):
            task.cancel()
        await asyncio.gather(*many, return_exceptions=True)
        await apart.close()


async def test_a_renewal_is_one_request_and_reads_only_after_a_conflict() -> None:
    async with through_a_network() as (api, _, kube):
        elector = Elector(kube, "ns", "lora-operator", "a", times=PATIENT)
        await elector.acquire()
        api.calls.clear()
        for _ in range(3):
            assert await elector._attempt()
        assert [method for method, _ in api.calls] == ["PUT"] * 3
        body = api.objects[f"{LEASES}/lora-operator"]
        api.put(f"{LEASES}/lora-operator", body | {"metadata": body["metadata"] | {"labels": {"seen": "by-somebody"}}})
        api.calls.clear()
        assert await elector._attempt()
        assert [method for method, _ in api.calls] == ["PUT", "GET", "PUT"]
        assert api.objects[f"{LEASES}/lora-operator"]["metadata"]["labels"] == {"seen": "by-somebody"}


async def test_a_lease_that_was_deleted_is_made_again_and_the_lead_goes_on() -> None:
    async with through_a_network() as (api, _, kube):
        elector = Elector(kube, "ns", "lora-operator", "a", times=PATIENT)
        await elector.acquire()
        api.remove(f"{LEASES}/lora-operator")
        assert await elector._attempt() and elector.held()
        assert api.objects[f"{LEASES}/lora-operator"]["spec"]["holderIdentity"] == "a"


async def test_what_hangs_once_is_an_error_that_says_for_how_long(caplog: pytest.LogCaptureFixture) -> None:
    async with through_a_network() as (_, proxy, kube):
        proxy.block = True
        elector = Elector(kube, "ns", "lora-operator", "a", times=BRIEF)
        assert not await elector._attempt()
        assert "no answer within 0.2 s" in caplog.text
        with pytest.raises(KubeError):
            elector.check()


async def test_when_all_connections_go_silent_a_write_hangs_once_and_not_once_for_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "KEEPALIVE_SECONDS", 0.4)
    monkeypatch.setattr(kube_module, "REQUEST_SECONDS", 0.5)
    async with through_a_network() as (api, proxy, kube):
        stall = api.stall = asyncio.Event()
        many = [asyncio.create_task(kube.call("GET", f"/api/v1/nodes/n{number}")) for number in range(5)]
        await api.until_calls(5)
        stall.set()
        await asyncio.gather(*many, return_exceptions=True)
        assert proxy.silence() == 5
        with pytest.raises(KubeError, match="no answer within"):
            await kube.create_event("ns", {"metadata": {}})
        monkeypatch.setattr(kube_module, "REQUEST_SECONDS", 10.0)
        await kube.create_event("ns", {"metadata": {}})
        assert proxy.accepted == 6
