"""The agent way: each pod's (or node's) agent fetches what the operator orders, and keeps what is loaded."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from lora_operator.agent.wire import EntryBody, EvictedBody
from lora_operator.delivery.agent_client import AgentClient, AgentError
from lora_operator.delivery.ways import Locate, Report
from lora_operator.desired import Wanted
from lora_operator.fetch.order import FetchOrder
from lora_operator.observe.cluster import PodRecord
from lora_operator.observe.engines import incarnation_of
from lora_operator.vllm.answers import Endpoint

log = logging.getLogger(__name__)

RENEW_SECONDS = 60.0  # links that run out sooner are made anew before they are handed out
Key = tuple[str, str]


class Agents:
    """`loaded_on` gives all versions that a pod's engine lists or is about to get, None while nobody knows."""

    def __init__(
        self,
        client: AgentClient,
        locate: Locate,
        loaded_on: Callable[[str], frozenset[Key] | None],
        on_evicted: Callable[[PodRecord, EvictedBody], None],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._locate = locate
        self._loaded_on = loaded_on
        self._on_evicted = on_evicted
        self._clock = clock
        self._told: dict[str, tuple[str, frozenset[Key]]] = {}  # pod -> container, what its agent was told last
        self._telling: dict[str, asyncio.Task[None]] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def bring(self, record: PodRecord, wanted: Wanted, report: Report) -> None:
        """See `Delivery`."""
        await self._fetch(record, wanted, report, prefetch=False)
        key = (wanted.adapter.name, wanted.adapter.version)
        if key not in await self._tell(record, also=key):
            raise AgentError(
                "NotStored",
                f"{wanted.adapter.name} left the agent's disk before it was loaded: it is too small for what is wanted",
                retryable=True,
            )

    async def prefetch(self, record: PodRecord, wanted: Wanted) -> None:
        """See `Delivery`."""
        await self._fetch(record, wanted, lambda _: None, prefetch=True)

    def follow(self, pods: Mapping[str, PodRecord]) -> None:
        """Tell agents what their engines have, where that changed: files that nobody has loaded may go."""
        agents = {key: record for key, record in pods.items() if record.pod.agent_port and record.pod.ip}
        for table in (self._told, self._locks):
            for key in [key for key in table if key not in agents]:
                del table[key]
        for key, record in agents.items():
            loaded = self._loaded_on(key)
            if loaded is None or key in self._telling or self._told.get(key) == (incarnation_of(record), loaded):
                continue
            task = asyncio.create_task(self._tell_quietly(record), name=f"agent of {key}")
            self._telling[key] = task
            task.add_done_callback(lambda _, key=key: self._telling.pop(key, None))  # type: ignore[misc]

    async def stop(self) -> None:
        for task in list(self._telling.values()):
            task.cancel()
        await asyncio.gather(*self._telling.values(), return_exceptions=True)

    async def _fetch(self, record: PodRecord, wanted: Wanted, report: Report, *, prefetch: bool) -> None:
        order: FetchOrder | None = None
        while True:
            if order is None or self._runs_out(order):
                order = await self._order(wanted)
            entry = await self._client.fetch(_endpoint(record), order, prefetch=prefetch)
            if entry.state == "Present":
                return
            if entry.state == "Failed":
                raise _failed(entry)
            report(entry.done_bytes)
            if entry.wants_links:
                order = None

    async def _order(self, wanted: Wanted) -> FetchOrder:
        if wanted.found is None:
            raise AgentError(
                "SourceUnavailable",
                f"version {wanted.adapter.version} of {wanted.adapter.name} cannot be fetched, as its source cannot be "
                "read now; see the SourceReady condition",
                retryable=True,
            )
        located = await self._locate(wanted)
        if isinstance(located, Path):
            raise AgentError(
                "NotReachableByAgent",
                "the pod gets adapters through its agent, which cannot read folders of the operator: use a source of "
                "type http, s3, azure or huggingface, or pods that mount the adapter volume",
                retryable=False,
            )
        return located

    def _runs_out(self, order: FetchOrder) -> bool:
        return order.expires_at is not None and order.expires_at - self._clock() < RENEW_SECONDS

    async def _tell(self, record: PodRecord, also: Key | None = None) -> frozenset[Key]:
        """One at a time for each pod, so that no older list arrives after a newer one."""
        async with self._locks.setdefault(record.key, asyncio.Lock()):
            loaded = self._loaded_on(record.key)
            if loaded is None:
                raise AgentError(
                    "PodNotReady", f"what the engine of {record.key} has loaded is not known just now", retryable=True
                )
            versions = loaded | {also} if also is not None else loaded
            held = await self._client.loaded(_endpoint(record), versions)
            self._told[record.key] = (incarnation_of(record), versions)
            for gone in held.evicted:
                self._on_evicted(record, gone)
            return frozenset((version.name, version.fingerprint) for version in held.versions)

    async def _tell_quietly(self, record: PodRecord) -> None:
        try:
            await self._tell(record)
        except AgentError as error:
            log.debug("the agent of %s does not know what is loaded: %s", record.key, error)
            await asyncio.sleep(1.0)  # the next round tries again


def _endpoint(record: PodRecord) -> Endpoint:
    if record.pod.ip is None or record.pod.agent_port is None:
        raise AgentError("AgentUnreachable", f"pod {record.key} has no address yet", retryable=True)
    return Endpoint(record.pod.ip, record.pod.agent_port)


def _failed(entry: EntryBody) -> AgentError:
    if entry.problem is None:
        return AgentError("AgentFailed", "the agent gave no reason: see its log", retryable=True)
    problem = entry.problem
    return AgentError(
        problem.reason, problem.message, retryable=problem.retryable, retry_after_seconds=problem.retry_after_seconds
    )
