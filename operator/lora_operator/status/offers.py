"""Offers statuses to be written, round after round: only those that may be news."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from lora_operator.informers.cache import Cluster
from lora_operator.informers.records import Resource
from lora_operator.planning.fault_isolation import Isolation
from lora_operator.process.slices import in_slices
from lora_operator.status.aggregate import StatusInput
from lora_operator.status.endpoint_writer import EndpointWriter
from lora_operator.status.writer import StatusWriter


class Offers:
    """Remembers what it offered last."""

    def __init__(self, cluster: Cluster, publisher: StatusWriter, endpoints: EndpointWriter) -> None:
        self._cluster = cluster
        self._publisher = publisher
        self._endpoints = endpoints
        self._offered: dict[str, tuple[Resource, StatusInput]] = {}

    async def offer(
        self, inputs: Mapping[str, StatusInput], resources: Mapping[str, Resource], isolation: Isolation
    ) -> None:
        """Have status say it. `resources`: of which it was worked out."""
        offered: dict[str, tuple[Resource, StatusInput]] = {}
        news: list[tuple[str, StatusInput]] = []
        async for key, given in in_slices(inputs.items()):
            before = self._offered.get(key)
            if before is not None and before[0] is self._cluster.adapters.get(key) and before[1] is given:
                offered[key] = before
            else:
                news.append((key, given))
        now = asyncio.get_running_loop().time()
        async for key, given in in_slices(news):
            resource = self._cluster.adapters.get(key)
            if resource is None or resource.uid != resources[key].uid:
                continue  # gone, or another that has the name by now
            if self._too_early(resource, given):
                continue
            offered[key] = (resource, given)
            with isolation.around(f"the status of LoraAdapter {key}"):
                self._publisher.offer(resource, given, now, len(news))
        if offered.keys() != self._offered.keys():
            self._publisher.forget(set(inputs))
        self._offered = offered

    def _too_early(self, resource: Resource, given: StatusInput) -> bool:
        """Whether status would call ready what routers cannot know of yet."""
        if resource.published.condition("Ready").status == "True":
            return False
        if not all(state.complete for state in given.adapters):
            return False
        return self._endpoints.awaits((replica.pod, s.name) for s in given.adapters for replica in s.replicas)
