"""A pod is out of an adapter's slices before anybody unloads it there."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from lora_operator.execution.withdrawals import Withdrawals
from lora_operator.exports.adapter_services import AdapterServices
from lora_operator.exports.services import service, slices
from lora_operator.informers.cache import Cluster
from lora_operator.informers.pod_description import PodDefaults
from lora_operator.kube.client import KubeError
from lora_operator.kube.events import Recorder
from lora_operator.kube.write_queue import Writes
from lora_operator.router.entries import Endpoint, Entry
from lora_operator.router.table import RoutingTable
from tests.core.api_server import ApiServer, an_api_server
from tests.exports.test_own_objects import synced

SLICE = "/apis/discovery.k8s.io/v1/namespaces/ns/endpointslices/lora-sql-ipv4-8000"
KEY = ("ns", "sql")


def an_entry(*pods: str) -> Entry:
    return Entry("ns", "sql", "tiny", "la", tuple(Endpoint(pod, f"10.0.0.{pod[1:]}:8000", "sql") for pod in pods))


def a_fleet(api: ApiServer, writes: Writes, table: RoutingTable) -> AdapterServices:
    """Pods p1 and p2 have sql, and its Service says so."""
    cluster = Cluster(PodDefaults())
    resource: dict[str, Any] = {"name": "la", "namespace": "ns", "uid": "u", "resourceVersion": "1"}
    cluster.adapters.put({"metadata": resource})
    for number in (1, 2):
        metadata = {"name": f"p{number}", "namespace": "ns", "uid": f"p{number}", "resourceVersion": "1"}
        cluster.pods.put({"metadata": metadata, "status": {"podIP": f"10.0.0.{number}"}})
    made = AdapterServices(
        api.kube, cluster, table, writes, Recorder(api.kube, writes), ("ns",), style="ClusterIP", relist_seconds=300
    )
    entry = an_entry("p1", "p2")
    for objects, body in zip(
        made.objects, (service(entry, "u", "ClusterIP"), *slices(entry, "u", cluster.pods.get).values()), strict=True
    ):
        body["metadata"] |= {"uid": "own", "resourceVersion": "1"}
        objects.there.put(body if objects.kind.kind == "Service" else api.put(SLICE, body))
        synced(objects)
    table.listen(lambda: made.look(*((change := table.since(table.version - 1) or [])[0].before, change[0].after)))
    table.update([(KEY, entry)])
    return made


async def test_who_is_to_unload_waits_until_the_slice_leads_to_the_pod_no_more() -> None:
    async with an_api_server() as api:
        writes, table = Writes(), RoutingTable()
        services = a_fleet(api, writes, table)
        async with asyncio.timeout(30):
            while not writes.idle:  # noqa: ASYNC110 - what it waits for has no event
                await asyncio.sleep(0.005)
            assert api.writes() == [], "all is as it should be"
            stall = api.stall = asyncio.Event()
            table.update([(KEY, an_entry("p2"))])
            flushed = asyncio.create_task(services.flush("ns/p1", "sql"))
            await api.until_calls(1)
            assert not flushed.done()
            api.stall = None
            stall.set()
            await flushed
        assert api.writes() == [SLICE]
        assert [one["addresses"] for one in api.bodies[0]["endpoints"]] == [["10.0.0.2"]]
        await writes.stop(0.1)


async def test_what_cannot_be_taken_out_of_slices_is_not_unloaded() -> None:
    async def nothing(*_: object) -> None: ...

    async def refused(pod: str, name: str) -> None:
        raise KubeError(0, "the API server is away")

    told = SimpleNamespace(counting=lambda pod, name: (), says=lambda pod, name: True, flush=nothing)
    withdrawals = Withdrawals(cast(Any, told), cast(Any, told), cast(Any, told), nothing, refused)
    with pytest.raises(KubeError, match="away"):
        await withdrawals.withdraw("ns/p1", "sql")
