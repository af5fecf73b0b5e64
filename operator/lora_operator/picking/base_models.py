"""Which pods serve a base model by itself, and the least busy of them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from lora_operator.informers.cache import Cluster
from lora_operator.informers.records import PodRecord
from lora_operator.router.picker import Picker
from lora_operator.vllm.client import Endpoint as EngineAddress
from lora_scheduler.routing import Picked, RoutingRequest, Rules, pick

LOOK_SECONDS = 1.0
RULES = Rules(policy="least-request")


@dataclass(frozen=True, slots=True)
class _Pool:
    """Pods of one namespace that answer to one name. `key`: what the index calls their base model."""

    namespace: str
    key: str
    addresses: dict[str, str]  # pod -> ip:port


class Bases:
    """Reads the cluster at most once in LOOK_SECONDS: pods do not change their models, and readiness is asked again."""

    def __init__(self, cluster: Cluster, picker: Picker, chance: random.Random | None = None) -> None:
        self._cluster = cluster
        self._picker = picker
        self._chance = chance or random.Random()
        self._named: dict[str, dict[str, _Pool]] = {}  # name -> namespace -> pool
        self._looked = float("-inf")

    def namespaces(self, name: str) -> tuple[str, ...]:
        """Those where pods serve a model of this name; of any name if it is empty."""
        self._look()
        pools = self._named.get(name, {}) if name else {n: None for one in self._named.values() for n in one}
        return tuple(sorted(pools))

    def names(self, namespace: str) -> tuple[str, ...]:
        """Of all models that pods of this namespace serve; of any if it is empty."""
        self._look()
        return tuple(sorted(name for name, pools in self._named.items() if not namespace or namespace in pools))

    def choose(self, namespace: str, name: str, subset: frozenset[str] | None) -> str | None:
        """The address (ip:port) of a pod that serves the model now (any model if `name` is empty), out of `subset` if
        that is given; None if there is none."""
        self._look()
        named = (name,) if name else self._named
        pools = [pool for one in named if (pool := self._named.get(one, {}).get(namespace)) is not None]
        if not pools:
            return None
        pool = pools[0] if len(pools) == 1 else self._chance.choice(pools)
        among = frozenset(self._now(pool, subset))
        if not among:
            return None
        now = self._picker.picked_at = self._picker.clock()
        index = self._picker.index
        answer = pick(
            index, RoutingRequest(base_model=pool.key, among=among), now=now, chance=self._chance, rules=RULES
        )
        if not isinstance(answer, Picked):  # pods that the index has no use for: they hold nothing and take no adapters
            return pool.addresses[self._chance.choice(sorted(among))]
        index.sent(answer.endpoint.pod, now=now)
        return answer.endpoint.address

    def _now(self, pool: _Pool, subset: frozenset[str] | None) -> Iterator[str]:
        for key, address in pool.addresses.items():
            record = self._cluster.pods.get(key)
            if record is not None and _address(record) == address and (subset is None or address in subset):
                yield key

    def _look(self) -> None:
        now = self._picker.clock()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        self._named = {}
        for record in self._cluster.pods.values():
            address, pod = _address(record), record.pod
            names = self._names(record) if address else ()
            for name in names:
                pools = self._named.setdefault(name, {})
                if pod.namespace not in pools:
                    pools[pod.namespace] = _Pool(pod.namespace, f"{pod.namespace}/{names[0]}", {})
                pools[pod.namespace].addresses[record.key] = address

    def _names(self, record: PodRecord) -> tuple[str, ...]:
        """Where the pod does not say them, as the operator has published that its engine lists them."""
        if record.pod.base_models:
            return record.pod.base_models
        endpoint = self._cluster.endpoints.get(record.key)
        return endpoint.said.base_models if endpoint is not None and endpoint.said.pod_uid == record.uid else ()


def _address(record: PodRecord) -> str:
    """Empty for a pod that takes no requests now."""
    pod = record.pod
    return str(EngineAddress(pod.ip, pod.port)) if pod.ip and pod.ready and not pod.terminating else ""
