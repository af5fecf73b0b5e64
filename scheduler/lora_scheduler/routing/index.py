"""All that routing knows, arranged so that a pick looks at a handful of pods however many there are.

index = Index.of(endpoints, now=0.0)
index.observe("default/vllm-0", EngineLoad(at=1.0, running=3, waiting=0), now=1.0)
answer = pick(index, RoutingRequest(("support",)), now=1.2, chance=random.Random(7))
index.sent(answer.endpoint.pod, now=1.2)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from lora_scheduler.routing.errors import InvalidRules
from lora_scheduler.routing.model import Endpoint, EndpointState, EngineLoad, HoldingState, RoutingRequest
from lora_scheduler.routing.pool import Pool
from lora_scheduler.routing.slots import Members, Slot

EMPTY: Sequence[Slot] = ()


class Index:
    """Endpoints by adapter and by base model. Change it as the fleet changes; reading is `pick`'s affair.

    `stale_seconds`: metrics older than that count as unknown. `half_life_seconds`: how fast requests that were sent to
    a pod since its last metrics are forgotten, as nobody says when they end.
    """

    def __init__(self, *, stale_seconds: float = 10.0, half_life_seconds: float = 10.0) -> None:
        for what, seconds in (("stale_seconds", stale_seconds), ("half_life_seconds", half_life_seconds)):
            if not (math.isfinite(seconds) and seconds > 0):
                raise InvalidRules(f"{what} is {seconds}; use a number of seconds above 0")
        self._stale, self._half_life = stale_seconds, half_life_seconds
        self._slots: dict[str, Slot] = {}
        self._pools: dict[str, Pool] = {}
        self._holders: dict[str, Members] = {}
        self._loading: dict[str, Members] = {}
        self._running: dict[str, Members] = {}
        self._waiting: dict[str, Members] = {}
        self._known: dict[str, str] = {}

    @classmethod
    def of(
        cls, endpoints: Iterable[Endpoint], *, now: float, stale_seconds: float = 10.0, half_life_seconds: float = 10.0
    ) -> Index:
        """The same index whatever order they come in."""
        index = cls(stale_seconds=stale_seconds, half_life_seconds=half_life_seconds)
        for endpoint in sorted(endpoints, key=lambda endpoint: endpoint.pod):
            index.put(endpoint, now=now)
        return index

    # what changes

    def know(self, adapter: str, base_model: str) -> None:
        """The adapter exists, whether any pod holds it or not. Pods that hold one need not be announced so."""
        self._known[adapter] = base_model

    def forget(self, adapter: str) -> None:
        """It exists no longer, as far as one knows without asking pods."""
        self._known.pop(adapter, None)

    def put(self, endpoint: Endpoint, *, now: float) -> None:
        """A new pod, or a new state of one. Its metrics stay unless it brings newer ones."""
        slot = self._slots.get(endpoint.pod)
        if slot is None:
            slot = self._slots[endpoint.pod] = Slot(endpoint)
        else:
            self._leave(slot, now)
            slot.adopt(endpoint)
        if endpoint.load is not None and (slot.load is None or endpoint.load.at >= slot.load.at):
            slot.observe(endpoint.load)
            slot.sent = 0.0
        self._join(slot, now)

    def remove(self, pod: str, *, now: float) -> None:
        """The pod is gone, or was never there."""
        slot = self._slots.pop(pod, None)
        if slot is not None:
            self._leave(slot, now)

    def observe(self, pod: str, load: EngineLoad, *, now: float) -> None:
        """Metrics of a pod; of one that is not in the index they are of no use."""
        slot = self._slots.get(pod)
        if slot is None:
            return
        if slot.endpoint.state is not EndpointState.SERVING:
            slot.observe(load)
            slot.sent = 0.0
            return
        self._change_active(slot, add=False)
        self._pools[slot.endpoint.base_model].observe(slot, load, now)
        self._change_active(slot, add=True)

    def sent(self, pod: str, *, now: float) -> None:
        """A request goes there: it counts until the next metrics."""
        slot = self._slots.get(pod)
        if slot is not None and slot.endpoint.state is EndpointState.SERVING:
            self._pools[slot.endpoint.base_model].sent(slot, now)

    def done(self, pod: str, *, now: float) -> None:
        """A request has ended there. Whoever cannot tell leaves it out: then metrics alone say so."""
        slot = self._slots.get(pod)
        if slot is not None and slot.endpoint.state is EndpointState.SERVING:
            self._pools[slot.endpoint.base_model].done(slot, now)

    # what is there

    def __len__(self) -> int:
        return len(self._slots)

    def endpoint(self, pod: str) -> Endpoint | None:
        """The pod as it was last put."""
        slot = self._slots.get(pod)
        return None if slot is None else slot.endpoint

    def slot(self, pod: str) -> Slot | None:
        """The pod, for policies."""
        return self._slots.get(pod)

    def endpoints(self) -> list[Endpoint]:
        """All pods as they were last put."""
        return [slot.endpoint for slot in self._slots.values()]

    def observed_at(self, pod: str) -> float | None:
        """When the pod's metrics were taken that count, or would if they were not too old; None without any."""
        slot = self._slots.get(pod)
        return None if slot is None or slot.load is None else slot.load.at

    def pods_of(self, adapter: str) -> tuple[Endpoint, ...]:
        """Those that take requests for it, by pod."""
        return tuple(sorted((slot.endpoint for slot in self.holding(adapter)), key=lambda endpoint: endpoint.pod))

    def holding(self, adapter: str) -> Sequence[Slot]:
        members = self._holders.get(adapter)
        return EMPTY if members is None else members.slots

    def loading(self, adapter: str) -> Sequence[Slot]:
        """Pods that take requests, where the adapter is on its way."""
        members = self._loading.get(adapter)
        return EMPTY if members is None else members.slots

    def running(self, adapter: str) -> Sequence[Slot]:
        """Holders where requests for it were running when last heard of (perhaps long ago)."""
        members = self._running.get(adapter)
        return EMPTY if members is None else members.slots

    def waiting(self, adapter: str) -> Sequence[Slot]:
        """Holders where requests for it were waiting when last heard of."""
        members = self._waiting.get(adapter)
        return EMPTY if members is None else members.slots

    def pool(self, base_model: str) -> Pool | None:
        return self._pools.get(base_model)

    def base_model(self, ask: RoutingRequest) -> str:
        """Of the request's first adapter, which must be known, or the one that it names."""
        if not ask.adapters:
            return ask.base_model
        adapter = ask.adapters[0]
        if adapter in self._known:
            return self._known[adapter]
        return (self._holders.get(adapter) or self._loading[adapter]).slots[0].endpoint.base_model

    def unknown(self, ask: RoutingRequest) -> tuple[str, ...]:
        """Those of the request's names that nobody has heard of."""
        if not ask.adapters:
            return () if ask.base_model in self._pools else (ask.base_model,)
        return tuple(
            adapter
            for adapter in ask.adapters
            if adapter not in self._known and adapter not in self._holders and adapter not in self._loading
        )

    # how both stay the same

    def _join(self, slot: Slot, now: float) -> None:
        endpoint = slot.endpoint
        pool = self._pools.get(endpoint.base_model)
        if pool is None:
            pool = self._pools[endpoint.base_model] = Pool(self._stale, self._half_life)
        if endpoint.state is not EndpointState.SERVING:
            return
        pool.join(slot, now)
        for adapter in slot.held:
            self._holders.setdefault(adapter, Members()).add(slot)
        for adapter in _on_their_way(slot):
            self._loading.setdefault(adapter, Members()).add(slot)
        self._change_active(slot, add=True)

    def _leave(self, slot: Slot, now: float) -> None:
        if slot.endpoint.state is not EndpointState.SERVING:
            return
        self._change_active(slot, add=False)
        for adapter in slot.held:
            _drop(self._holders, adapter, slot)
        for adapter in _on_their_way(slot):
            _drop(self._loading, adapter, slot)
        self._pools[slot.endpoint.base_model].leave(slot, now)

    def _change_active(self, slot: Slot, *, add: bool) -> None:
        load = slot.load
        if load is None:
            return
        for names, members in ((load.running_adapters, self._running), (load.waiting_adapters, self._waiting)):
            for adapter in sorted(slot.names[name] for name in names if name in slot.names):
                if add:
                    members.setdefault(adapter, Members()).add(slot)
                else:
                    _drop(members, adapter, slot)


def _on_their_way(slot: Slot) -> list[str]:
    """Each once: where one version serves, another may be on its way."""
    loading = (holding.adapter for holding in slot.endpoint.holdings if holding.state is HoldingState.LOADING)
    return [adapter for adapter in dict.fromkeys(loading) if adapter not in slot.held]


def _drop(members: dict[str, Members], adapter: str, slot: Slot) -> None:
    """Keeps no empty sets: adapters come and go for as long as the process lives."""
    own = members[adapter]
    own.discard(slot)
    if not own:
        del members[adapter]
