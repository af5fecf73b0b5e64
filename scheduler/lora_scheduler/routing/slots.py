"""What an index keeps for each pod, and sets of those that one can draw from."""

from __future__ import annotations

from lora_scheduler.routing.model import Endpoint, EndpointState, EngineLoad, HoldingState


class Slot:
    """A pod as the index knows it. `sent`: requests sent there since its metrics were taken, as of `sent_at`."""

    __slots__ = (
        "active",
        "counted",
        "endpoint",
        "fresh",
        "gpu_slots",
        "held",
        "load",
        "names",
        "pod",
        "requests",
        "sent",
        "sent_at",
    )

    def __init__(self, endpoint: Endpoint) -> None:
        self.pod = endpoint.pod
        self.endpoint = endpoint
        self.load: EngineLoad | None = None
        self.requests = 0  # by the metrics
        self.fresh = False  # whether the metrics are
        self.counted = False  # whether they are part of the pool's mean
        self.sent = 0.0
        self.sent_at = 0.0
        self.active: frozenset[str] = frozenset()  # engine names, running or waiting
        self.gpu_slots = endpoint.gpu_slots
        self.held: dict[str, str] = {}
        self.names: dict[str, str] = {}
        self.adopt(endpoint)

    def adopt(self, endpoint: Endpoint) -> None:
        """Another state of the same pod."""
        self.endpoint = endpoint
        serving = endpoint.state is EndpointState.SERVING
        self.held = {}  # adapter -> engine name, of what takes requests
        for holding in endpoint.holdings:
            if serving and holding.state is HoldingState.SERVING:
                self.held.setdefault(holding.adapter, holding.engine_name)
        self.names = {name: adapter for adapter, name in self.held.items()}
        self._limit()

    def observe(self, load: EngineLoad) -> None:
        self.load = load
        self.requests = load.requests or 0
        self.active = load.running_adapters | load.waiting_adapters
        self._limit()

    def _limit(self) -> None:
        self.gpu_slots = (self.load.max_loras if self.load else 0) or self.endpoint.gpu_slots

    @property
    def cache_usage(self) -> float:
        """0 where it is not known."""
        return (self.load.kv_cache_usage if self.fresh and self.load else None) or 0.0

    def batches(self, adapters: tuple[str, ...]) -> bool:
        """Whether its next batch has a place for these adapters: an engine makes further ones wait, without fairness.

        Without fresh metrics, or where the number of places is not known, there is no reason to doubt.
        """
        if not self.fresh or not self.gpu_slots or len(self.active) < self.gpu_slots:
            return True
        return self.runs(adapters)

    def runs(self, adapters: tuple[str, ...]) -> bool:
        """Whether requests for all of these were running or waiting when it was last heard of."""
        return all(self.held.get(adapter) in self.active for adapter in adapters)


class Members:
    """A set of slots with constant-time changes, and a list to draw from; its order depends on nothing but the order
    of the changes."""

    __slots__ = ("_places", "slots")

    def __init__(self) -> None:
        self.slots: list[Slot] = []
        self._places: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.slots)

    def add(self, slot: Slot) -> None:
        """It must not be in yet."""
        self._places[slot.pod] = len(self.slots)
        self.slots.append(slot)

    def discard(self, slot: Slot) -> None:
        """The last one takes its place; one that is not in changes nothing."""
        place = self._places.pop(slot.pod, None)
        if place is not None:
            last = self.slots.pop()
            if last is not slot:
                self.slots[place] = last
                self._places[last.pod] = place
