"""What each pod's LoraEndpoint should say: worked out anew only for pods of which something has changed. Pure.

Ready means: a request for each of these adapters is answered by the pod now. So it is made of what the engine lists,
without what is about to be unloaded, and with the LoraAdapter that stands for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from lora_operator.desired.adapters import Desired
from lora_operator.engines.liveness import EngineView, instance_of
from lora_operator.engines.ownership import OurModel, our_model
from lora_operator.informers.endpoints import Contents, HeldAdapter, Shared
from lora_operator.informers.holdings import Held, known_of
from lora_operator.informers.records import PodRecord
from lora_operator.planning.inflight import Ledger
from lora_operator.vllm.client import Endpoint, EngineModel
from lora_operator.vllm.engine_state import EngineState

Claim = tuple[str, str]  # the LoraAdapter's name, and the fingerprint of the version that it wants (empty: none)
Claims = Mapping[tuple[str, str], Claim]  # by namespace and public name

REMEMBERED = 200_000
MANY = 50


def claims_of(desired: Desired, held: Callable[[str], Held]) -> Claims:
    """Which LoraAdapter stands for each name: those that want it, then those that are deleted and have it still."""
    found = {
        (wanted.adapter.namespace, wanted.adapter.name): (wanted.resource.partition("/")[2], wanted.adapter.version)
        for wanted in desired.adapters.values()
    }
    for resource in desired.departing:
        for name in resource.published.names | known_of(resource.published, held(resource.key)).keys():
            found.setdefault((resource.namespace, name), (resource.name, ""))
    return found


class Endpoints:
    """Call `update` in each round: it costs a glance at each pod, and work for those that changed."""

    def __init__(self, shared: Shared | None = None) -> None:
        self._shared = shared or Shared()
        self._claims: Claims = {}
        self._bases: dict[str, _Basis] = {}
        self._contents: dict[str, Contents | None] = {}
        self._unclaimed: dict[str, set[str]] = {}  # by pod, names that nobody stands for
        self._ours: dict[tuple[EngineModel, str], OurModel | None] = {}

    def update(
        self, pods: Mapping[str, PodRecord], engines: Mapping[str, EngineView], ledger: Ledger, claims: Claims
    ) -> Mapping[str, Contents | None]:
        """By pod, what its LoraEndpoint should say.

        None where it is not known: what is published stays. A container that was replaced is told by its mark.
        """
        moved = _changed(self._claims, claims) if claims != self._claims else frozenset()
        self._claims = claims
        for key in [key for key in self._bases if key not in pods]:
            del self._bases[key], self._contents[key]
            self._unclaimed.pop(key, None)
        for key, record in pods.items():
            leaving = frozenset(effect.engine_name for effect in ledger.on(key) if effect.is_unload)
            basis, before = _Basis(record, engines.get(key), leaving), self._bases.get(key)
            known = self._contents.get(key)
            if before is None or (moved and self._concerns(key, basis, moved)) or not basis.goes_on_from(before):
                self._unclaimed.pop(key, None)
                made = self._contents_of(basis)
            elif known is not None and before.view is not None and basis.models is not before.models:
                # most of what happens to a pod is that it gets one more
                more = self._held(basis, basis.models[len(before.models) :], known.adapters)
                made = replace(known, adapters=more)
            else:
                made = known
            self._bases[key] = basis
            if made != known or key not in self._contents:
                self._contents[key] = made
        return MappingProxyType(self._contents)

    def _contents_of(self, basis: _Basis) -> Contents | None:
        pod, view = basis.record.pod, basis.view
        if view is None or view.state is EngineState.UNKNOWN or view.instance != instance_of(basis.record):
            return None
        return Contents(
            pod_uid=basis.record.uid,
            address=str(Endpoint(pod.ip, pod.port)) if pod.ip else "",
            container=pod.container_mark,
            base_models=pod.base_models,
            adapters=self._held(basis, basis.models, ()),
            scheme=pod.scheme.value,
        )

    def _held(
        self, basis: _Basis, models: Iterable[EngineModel], known: tuple[HeldAdapter, ...]
    ) -> tuple[HeldAdapter, ...]:
        """`known` and what these models add to it."""
        namespace = basis.record.pod.namespace
        found = {held.name: held for held in known}
        for model in models:
            ours = self._our_model(model, basis.record.pod.adapter_root)
            claim = self._claims.get((namespace, ours.name)) if ours is not None else None
            if ours is not None and claim is None:
                self._unclaimed.setdefault(basis.record.key, set()).add(ours.name)
            if ours is None or ours.partial or claim is None or ours.engine_name in basis.leaving:
                continue
            before = found.get(ours.name)
            # with two versions on one pod for a moment, the wanted one is the one to ask
            if before is None or (ours.fingerprint == claim[1] != before.version):
                found[ours.name] = self._shared.of(ours.name, ours.engine_name, ours.fingerprint, claim[0])
        return tuple(found[name] for name in sorted(found))

    def _our_model(self, model: EngineModel, root: str) -> OurModel | None:
        """The pods of a fleet list the same things from the same paths."""
        key = (model, root)
        if key not in self._ours:
            if len(self._ours) >= REMEMBERED:
                self._ours.clear()
            self._ours[key] = our_model(model, root)
        return self._ours[key]

    def _concerns(self, key: str, basis: _Basis, moved: frozenset[tuple[str, str]]) -> bool:
        """Whether the pod may list any of these: to look for many takes longer than to begin anew."""
        if len(moved) > MANY or basis.leaving:
            return True
        known, unclaimed = self._contents.get(key), self._unclaimed.get(key, ())
        names = (name for namespace, name in moved if namespace == basis.record.pod.namespace)
        return any(name in unclaimed or (known is not None and known.holds(name) is not None) for name in names)


@dataclass(frozen=True, slots=True)
class _Basis:
    """All that a pod's contents depend on beside the claims."""

    record: PodRecord
    view: EngineView | None
    leaving: frozenset[str]

    @property
    def models(self) -> tuple[EngineModel, ...]:
        """What the engine answers for. One that was told to end refuses requests, though it may still be listening."""
        if self.view is None or not self.view.keeps or self.record.pod.terminating:
            return ()
        return self.view.models

    def goes_on_from(self, before: _Basis) -> bool:
        """Whether nothing has changed but that the engine lists more than it did."""
        if self.record is not before.record or self.leaving != before.leaving:
            return False
        if self.view is before.view:
            return True
        if self.view is None or before.view is None or EngineState.UNKNOWN in (self.view.state, before.view.state):
            return False
        same = self.view.instance == before.view.instance
        return same and self.models[: len(before.models)] == before.models


def _changed(before: Claims, after: Claims) -> frozenset[tuple[str, str]]:
    return frozenset(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
