"""Keeps a cluster's objects up to date by lists: the first one, and one now and then beside the watch."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence

from lora_operator.kube import Json, Kube, KubeError
from lora_operator.observe.cluster import Cluster

log = logging.getLogger(__name__)

FIRST_RELIST_SECONDS = 5.0


class Following:
    """Lists into `cluster`; `changed` is called when a list had news.

    `why` tells what is known to be missing: a list that fails says nothing more then.
    """

    def __init__(
        self,
        kube: Kube,
        cluster: Cluster,
        namespaces: tuple[str, ...],
        changed: Callable[[], None],
        why: Callable[[], str] = lambda: "",
    ) -> None:
        self._kube = kube
        self._cluster = cluster
        self._namespaces = namespaces
        self._changed = changed
        self._why = why

    async def list(self) -> bool:
        """Whether there was news. Raises KubeError."""
        adapters, adapters_at = await self._kube.list_adapters(self._namespaces)
        pods, pods_at = await self._kube.list_pods(self._namespaces)
        endpoints = await self._endpoints()
        changed = self._cluster.adapters.replace(adapters, adapters_at)
        if endpoints is not None:
            changed |= self._cluster.endpoints.replace(*endpoints)
        return self._cluster.pods.replace(pods, pods_at) or changed

    async def _endpoints(self) -> tuple[Sequence[Json], str] | None:
        """None where they cannot be had: their definition may be younger than the cluster's, and status says it too."""
        try:
            return await self._kube.list_endpoints(self._namespaces)
        except KubeError as error:
            if error.status not in (403, 404):
                raise
            log.debug("LoraEndpoints cannot be listed: %s", error)
            return None

    async def list_until_it_works(self, stop: asyncio.Event, retry_seconds: float) -> None:
        """Or until `stop` is set."""
        said = ""
        while not stop.is_set():
            try:
                if await self.list():
                    self._changed()
                return
            except KubeError as error:
                if str(error) != said and not self._why():
                    log.error("cannot list what to look after, trying again: %s", error)
                    said = str(error)
                await asyncio.sleep(retry_seconds)

    async def keep_listing(self, seconds: float, first_seconds: float = FIRST_RELIST_SECONDS) -> None:
        """Until cancelled: an object that was deleted while a watch was broken sends no event."""
        # the watch began a moment after the first list: what was deleted in between is only seen by one more
        pause = min(first_seconds, seconds)
        while True:
            await asyncio.sleep(pause * random.uniform(0.9, 1.1))
            pause = seconds
            try:
                if await self.list():
                    self._changed()
            except KubeError as error:
                if not self._why():
                    log.warning("the periodic list failed, the watches go on: %s", error)
