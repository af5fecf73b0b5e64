"""Keeps a ConfigMap for each LoraAdapter that says of which base model its adapters are: the form in which llm-d's
payload processor and the body-based router of the Gateway API inference extension read it."""

from __future__ import annotations

from lora_operator.exports.own_objects import Json, Kind, OwnObjects, of_adapter
from lora_operator.exports.services import export_name
from lora_operator.informers.cache import Cluster
from lora_operator.kube.client import Kube
from lora_operator.kube.write_queue import Writes
from lora_operator.router.entries import Entry

CONFIG_MAPS = Kind("ConfigMap", "configmaps", "", "v1", "base-model")
LABELS = {"inference.llm-d.ai/ipp-managed": "true", "inference.networking.k8s.io/bbr-managed": "true"}


class BaseModelMaps:
    """See `exports.exports.Export`. Not `kept`: there should be none, and what is left of them is removed."""

    def __init__(
        self, kube: Kube, cluster: Cluster, writes: Writes, namespaces: tuple[str, ...], *, kept: bool,
        relist_seconds: float,
    ) -> None:  # fmt: skip
        self._cluster = cluster
        self._kept = kept
        self._names: dict[str, set[str]] = {}  # by key of a LoraAdapter, its adapters
        self._resources: dict[str, str] = {}  # by key of a ConfigMap, the LoraAdapter
        self._maps = OwnObjects(kube, CONFIG_MAPS, namespaces, writes, self._map, relist_seconds=relist_seconds)
        self.objects = (self._maps,)

    def look(self, before: Entry | None, after: Entry | None) -> None:
        """An adapter's line in the table is another one, or is there for the first time."""
        for entry in (before, after) if self._kept else ():
            if entry is None:
                continue
            resource = f"{entry.namespace}/{entry.resource}"
            names = self._names.setdefault(resource, set())
            (names.add if entry is after else names.discard)(entry.name)
            key = f"{entry.namespace}/{export_name(entry.resource)}"
            self._resources[key] = resource
            if not names:
                del self._names[resource], self._resources[key]
            self._maps.look(key)

    async def flush(self, pod: str, name: str) -> None:
        """Nothing: an adapter that a pod gives up has its base model still."""

    def _map(self, key: str) -> Json | None:
        key_of_resource = self._resources.get(key, "")
        resource, names = self._cluster.adapters.get(key_of_resource), self._names.get(key_of_resource)
        if resource is None or resource.spec is None or resource.deleted_at is not None or not names:
            return None
        metadata = of_adapter(resource.namespace, key.partition("/")[2], resource.name, resource.uid)
        # as YAML that no name can break: 1.0 and true are strings in it
        adapters = "".join(f'- "{name}"\n' for name in sorted(names))
        content = {"data": {"baseModel": resource.spec.base_model, "adapters": adapters}}
        return CONFIG_MAPS.body({**metadata, "labels": LABELS}, content)
