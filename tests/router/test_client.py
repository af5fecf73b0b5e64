"""The copy of the table follows the server through changes, resets and restarts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from lora_operator.router.api import RouterApi
from lora_operator.router.client import TableCopy
from lora_operator.router.freshness import Freshness
from lora_operator.router.streams import StreamLimits
from lora_operator.router.ui.fleet import Fleet as FleetView
from lora_operator.router.wire import adapter_json
from tests.router.fleet import NAMESPACE, Fleet, a_fleet
from tests.router.serving import served


@asynccontextmanager
async def following(copy: TableCopy) -> AsyncIterator[None]:
    task = asyncio.create_task(copy.run())
    try:
        async with asyncio.timeout(60):
            yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def same(copy: TableCopy, fleet: Fleet) -> bool:
    return copy.version == fleet.table.tag and copy.adapters == {e.key: adapter_json(e) for e in fleet.table.after()}


async def test_it_is_a_copy_of_the_table() -> None:
    async with served(a_fleet()) as api:
        copy = TableCopy(api.url)
        async with following(copy):
            await copy.until(lambda copy: same(copy, api.fleet))
            assert [one["pod"] for one in copy.pods(NAMESPACE, "sql")] == ["vllm-0", "vllm-1"]
            assert copy.pods(NAMESPACE, "nobody") == []
            api.fleet.pod("vllm-0", "10.0.0.1", ready=False)
            api.fleet.refresh()
            await copy.until(lambda copy: same(copy, api.fleet))
            api.fleet.drop_adapter("two")
            api.fleet.refresh()
            await copy.until(lambda copy: same(copy, api.fleet))
            assert copy.adapters == {}


async def test_a_large_snapshot_comes_in_pages_and_counts_when_it_is_whole() -> None:
    fleet = Fleet()
    fleet.pod("vllm-0")
    fleet.adapter("many", {"vllm-0": {f"a{number:04}": f"a{number:04}" for number in range(2000)}})
    fleet.refresh()
    async with served(fleet) as api:
        copy = TableCopy(api.url)
        async with following(copy):
            await copy.until(lambda copy: True)
            assert len(copy.adapters) == 2000


async def test_it_takes_up_where_it_was_when_a_stream_breaks() -> None:
    async with served(a_fleet(), StreamLimits(heartbeat_seconds=60)) as api:
        copy = TableCopy(api.url, silence_seconds=0.1)  # so that a quiet stream counts as broken
        async with following(copy):
            await api.until_metric('router_streams_ended_total{reason="ClientGone"} 1.0')
            api.fleet.pod("vllm-0", "10.0.0.1", ready=False)
            api.fleet.refresh()
            await copy.until(lambda copy: same(copy, api.fleet))
            assert copy.resets == 0


async def test_it_goes_to_another_replica_and_keeps_what_it_has_until_then(unused_tcp_port: int) -> None:
    fleet = a_fleet(epoch="first")
    async with served(a_fleet(epoch="second")) as other:
        api = RouterApi(fleet.table, Freshness(), FleetView(fleet.cluster, fleet.table.epoch))
        fleet.table.set_loaded()
        runner = web.AppRunner(api.application(), access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", unused_tcp_port).start()
        copy = TableCopy([f"http://127.0.0.1:{unused_tcp_port}", other.url])
        async with following(copy):
            await copy.until(lambda copy: same(copy, fleet))
            api.streams.stop()
            await runner.cleanup()
            assert copy.pods(NAMESPACE, "sql")
            await copy.until(lambda copy: same(copy, other.fleet))
            assert copy.resets == 1


async def test_it_waits_for_a_server_that_has_no_table_yet() -> None:
    async with served(a_fleet(), loaded=False) as api:
        copy = TableCopy(api.url)
        async with following(copy):
            async with api.session.get(f"{api.url}/readyz") as answer:
                assert answer.status == 503
            await api.until_metric('requests_total{route="/v1/watch",status="503"}')
            assert (copy.version, copy.adapters) == ("", {})
            api.fleet.table.set_loaded()
            await copy.until(lambda copy: same(copy, api.fleet))
