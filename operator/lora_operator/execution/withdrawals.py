"""Before an engine unloads an adapter, whoever sends requests there has to know: the pod's LoraEndpoint is written
without it, and the status of those LoraAdapters that routers still go by (see `informers.holdings`)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from lora_operator.informers.holdings import Holdings
from lora_operator.status.endpoint_writer import EndpointWriter
from lora_operator.status.writer import StatusWriter


class Withdrawals:
    """`next_cycle` returns when a cycle that began after the call has ended: what it offers leaves the adapter out.
    `exported` is called with pod and adapter, and returns when what else is made of it says so."""

    def __init__(
        self,
        holdings: Holdings,
        endpoints: EndpointWriter,
        publisher: StatusWriter,
        next_cycle: Callable[[], Awaitable[None]],
        exported: Callable[[str, str], Awaitable[None]],
    ) -> None:
        self._holdings = holdings
        self._endpoints = endpoints
        self._publisher = publisher
        self._next_cycle = next_cycle
        self._exported = exported

    async def withdraw(self, pod: str, name: str) -> bool:
        """Have it written that the pod does not hold the adapter; whether anybody may have been told that it does.

        Call it when the ledger has the unload. Raises KubeError where the API server is away.
        """
        resources = self._holdings.counting(pod, name)
        if not resources and not self._endpoints.says(pod, name):
            return False
        await self._next_cycle()
        await asyncio.gather(
            self._endpoints.flush(pod),
            self._exported(pod, name),
            *(self._publisher.flush(key) for key in sorted(resources)),
        )
        return True
