"""Which way the files take to a pod."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from lora_operator.desired.adapters import DesiredAdapter
from lora_operator.fetch.manifest import FetchManifest
from lora_operator.informers.records import PodRecord

Report = Callable[[int], None]  # how many bytes are there
Locate = Callable[[DesiredAdapter], Awaitable[Path | FetchManifest]]  # raises SourceError


class Delivery(Protocol):
    """One way. Raises StoreError, FetchError, SourceError or AgentError, which all have `reason` and `retryable`."""

    async def bring(self, record: PodRecord, wanted: DesiredAdapter, report: Report) -> None:
        """Return when the version is whole where the pod's engine reads it, and stays there for as long as needed."""
        ...  # pragma: no cover

    async def prefetch(self, record: PodRecord, wanted: DesiredAdapter) -> None:
        """Bring the files early, for a load that is to come; what is never loaded goes first where room is needed."""
        ...  # pragma: no cover


class DeliveryRouter:
    """The agent where a pod has one, else the shared volume."""

    def __init__(self, shared: Delivery, agent: Delivery) -> None:
        self._shared = shared
        self._agent = agent

    def of(self, record: PodRecord) -> Delivery:
        return self._shared if record.pod.agent_port is None else self._agent

    async def bring(self, record: PodRecord, wanted: DesiredAdapter, report: Report) -> None:
        """See `Delivery`."""
        await self.of(record).bring(record, wanted, report)

    async def prefetch(self, record: PodRecord, wanted: DesiredAdapter) -> None:
        """See `Delivery`."""
        await self.of(record).prefetch(record, wanted)
