"""Writes and reads LoraAdapters. Server-side apply, with a field manager of the library's own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from lora_library.cluster.resources import MANAGED_BY, MANAGER, OWNER_LABEL, owner_label
from lora_library.names import resource_prefix
from lora_operator.api.well_known import GROUP, PLURAL, VERSION
from lora_operator.kube.client import APPLY, Kube, KubeError

FRESH_SECONDS = 1.0
MOST_KEPT = 1000
MOST_AT_ONCE = 16


class Adapters:
    """The LoraAdapters of one namespace that are the library's. Raises KubeError."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self._kube = kube
        self._path = f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{PLURAL}"
        self._read: dict[str, tuple[float, asyncio.Task[Mapping[str, Any]]]] = {}
        self._at_once = asyncio.Semaphore(MOST_AT_ONCE)

    async def names_of(self, subject: str) -> set[str]:
        """Those of one owner that there are. What somebody else has given our labels is not ours to delete."""
        selector = f"{MANAGED_BY}={MANAGER},{OWNER_LABEL}={owner_label(subject)}"
        found = await self._kube.call("GET", self._path, query={"labelSelector": selector, "limit": "500"})
        names = {str(each["metadata"]["name"]) for each in found.get("items") or ()}
        return {name for name in names if name.startswith(resource_prefix(subject))}

    async def apply(self, body: Mapping[str, Any]) -> None:
        name = body["metadata"]["name"]
        query = {"fieldManager": MANAGER, "force": "true"}
        await self._kube.call("PATCH", f"{self._path}/{name}", query=query, body=dict(body), content_type=APPLY)
        self._read.pop(name, None)

    async def delete(self, name: str) -> None:
        try:
            await self._kube.call("DELETE", f"{self._path}/{name}")
        except KubeError as error:
            if error.status != 404:
                raise
        self._read.pop(name, None)

    async def get(self, name: str) -> Mapping[str, Any]:
        """Of a moment ago, for people; {} where there is none, or where it cannot be said."""
        asked_at, asked = self._read.get(name, (0.0, None))
        if asked is None or time.monotonic() - asked_at >= FRESH_SECONDS:
            while len(self._read) >= MOST_KEPT:
                self._read.pop(next(iter(self._read)))
            # one question for all who ask: a list shows hundreds of adapters of one LoraAdapter
            asked = asyncio.create_task(self._ask(name))
            self._read[name] = (time.monotonic(), asked)
        return await asyncio.shield(asked)

    async def _ask(self, name: str) -> Mapping[str, Any]:
        async with self._at_once:
            try:
                return await self._kube.call("GET", f"{self._path}/{name}")
            except KubeError:
                return {}
