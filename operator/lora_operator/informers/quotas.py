"""The quotas that namespaces have: the operator's own settings, narrowed by a ConfigMap in the namespace."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from lora_operator.api.quota import WARN_AT, Quota, Quotas, Use, read_quota
from lora_operator.informers.polled import Polled
from lora_operator.informers.records import Resource
from lora_operator.kube.client import Kube, KubeError
from lora_operator.kube.events import Recorder

log = logging.getLogger(__name__)

CONFIG_MAP = "lora-operator-quota"
AGAIN_SECONDS = 30.0


class NamespaceQuotas:
    """Reads the ConfigMap of each namespace with LoraAdapters. A senseless one leaves the last good one in force."""

    def __init__(self, kube: Kube, given: Mapping[str, Quota], recorder: Recorder, changed: Callable[[], None]) -> None:
        self._given = MappingProxyType(dict(given))
        self._recorder = recorder
        self._maps = Polled(kube.config_map, _read, changed, again_seconds=AGAIN_SECONDS, retry_seconds=AGAIN_SECONDS)
        self._told: dict[str, str] = {}  # by namespace

    def sync_targets(self, resources: Iterable[Resource]) -> Quotas:
        """What counts now."""
        self._maps.sync_targets((resource.namespace, CONFIG_MAP) for resource in resources)
        narrowed = {namespace: quota for (namespace, _), quota in self._maps.values.items()}
        for (namespace, _), error in self._maps.errors.items():
            if isinstance(error, KubeError) and error.status in (403, 404):
                continue  # the usual case: there is none
            text = f"ConfigMap {CONFIG_MAP} in namespace {namespace} cannot be used: {error}"
            if self._told.get(namespace) != text:
                self._told[namespace] = text
                log.warning("%s", text)
        for namespace in [each for each in self._told if (each, CONFIG_MAP) not in self._maps.errors]:
            del self._told[namespace]
        return Quotas(self._given, MappingProxyType(narrowed))

    def reads(self, namespace: str) -> bool:
        """Whether nobody knows yet if the namespace has a ConfigMap, and what it says."""
        where = (namespace, CONFIG_MAP)
        error = self._maps.errors.get(where)
        away = isinstance(error, KubeError) and error.status not in (403, 404)
        return where not in self._maps.values and (error is None or away)

    async def first_reads(self, timeout: float) -> None:
        """Wait for what is being read just now."""
        await self._maps.first_reads(timeout)

    def warn(self, uses: Mapping[str, Use], resources: Iterable[Resource]) -> None:
        """A warning Event for the newest LoraAdapter of each namespace that has used up most of a quota."""
        near = [use for use in uses.values() if use.share >= WARN_AT]
        if not near:
            return
        newest: dict[str, Resource] = {}
        for resource in sorted(resources, key=lambda each: (each.created, each.key)):
            newest[resource.namespace] = resource
        for use in near:
            namespace = use.account.rpartition("namespace ")[2]
            if namespace in newest:
                self._recorder.emit(newest[namespace], "Warning", "QuotaNearlyUsed", f"{use}")

    async def stop(self) -> None:
        await self._maps.stop()


def _read(body: dict[str, Any]) -> Quota:
    data = body.get("data")
    return read_quota({str(key): str(value).strip() for key, value in (data if isinstance(data, dict) else {}).items()})
