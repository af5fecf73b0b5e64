"""The frozen values that routing works on: pods with what they hold and how busy they are, a request, the answers.

Adapters, base models and pods are named by keys that are opaque to this library: whoever routes for several namespaces
puts the namespace into the keys. Times are seconds of any one clock, and are passed in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from lora_scheduler.routing.errors import InvalidAsk, InvalidEndpoint


class EndpointState(StrEnum):
    """Whether a pod takes requests at all."""

    SERVING = "Serving"
    DRAINING = "Draining"  # about to go, or to be restarted: takes no new request
    UNREADY = "Unready"


class HoldingState(StrEnum):
    """How far an adapter has come on a pod. All take a slot there; only a serving one takes requests."""

    SERVING = "Serving"  # the engine lists it
    LOADING = "Loading"  # on its way
    WITHDRAWN = "Withdrawn"  # still there, and about to be unloaded


@dataclass(frozen=True, slots=True)
class Holding:
    """An adapter on a pod; `engine_name` is what the engine there knows it by."""

    adapter: str
    engine_name: str
    state: HoldingState = HoldingState.SERVING


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """What an engine's metrics said `at` a time. None and empty: they do not say.

    `running_adapters`, `waiting_adapters` are engine names (`vllm:lora_requests_info`): activity, never residency. Some
    releases report one set under both labels; give it as running. `max_loras` wins over the endpoint's `gpu_slots`
    unless it is 0.
    """

    at: float
    running: int | None = None
    waiting: int | None = None
    kv_cache_usage: float | None = None
    running_adapters: frozenset[str] = frozenset()
    waiting_adapters: frozenset[str] = frozenset()
    max_loras: int | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.at):
            raise InvalidEndpoint(f"metrics were taken at {self.at}; give seconds of the clock that `now` is read from")
        for what, number in (
            ("running", self.running),
            ("waiting", self.waiting),
            ("kv_cache_usage", self.kv_cache_usage),
            ("max_loras", self.max_loras),
        ):
            if number is not None and not (math.isfinite(number) and number >= 0):
                raise InvalidEndpoint(f"metrics say {what} is {number}; give 0 or more, or None if that is not known")

    @property
    def requests(self) -> int | None:
        """Running and waiting ones; None if neither is known."""
        if self.running is None and self.waiting is None:
            return None
        return (self.running or 0) + (self.waiting or 0)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A pod that serves `base_model`, with what it holds.

    `host_slots`: how many adapters it can hold (vLLM's max_cpu_loras). `evictable`: how many of its holdings may be
    unloaded when another is asked for. `gpu_slots`: how many adapters fit in one batch (max_loras); 0: not known.
    """

    pod: str
    address: str
    base_model: str
    holdings: tuple[Holding, ...] = ()
    state: EndpointState = EndpointState.SERVING
    host_slots: int = 1
    gpu_slots: int = 0
    evictable: int = 0
    load: EngineLoad | None = None

    def __post_init__(self) -> None:
        for what, number in (
            ("host_slots", self.host_slots),
            ("gpu_slots", self.gpu_slots),
            ("evictable", self.evictable),
        ):
            if number < 0:
                raise InvalidEndpoint(f"pod {self.pod!r} has {what} {number}; use 0 or more")

    @property
    def free_slots(self) -> int:
        """How many more adapters it can hold without unloading one."""
        return max(0, self.host_slots - len(self.holdings))

    @property
    def room(self) -> int:
        """How many more adapters it can hold if it unloads what may go."""
        return self.free_slots + min(self.evictable, len(self.holdings))


@dataclass(frozen=True, slots=True)
class RoutingRequest:
    """A request: for one adapter, for several at once, or for the base model alone.

    `may_load`: whoever asks can have an adapter loaded before the request is sent on; without it no answer is ever a
    pod that lacks one. `shared`: those of `adapters` that are not the asking tenant's own. `avoid`: pods that must not
    be the answer (they just failed); `among`: the only ones that may be. `cached`: pod -> about
    how many thousand tokens of the prompt need not be computed there (below 0: others are being computed); 0 for those
    that are not in it.
    """

    adapters: tuple[str, ...] = ()
    base_model: str = ""
    may_load: bool = False
    shared: frozenset[str] = frozenset()
    avoid: frozenset[str] = frozenset()
    among: frozenset[str] | None = None
    cached: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        if not self.adapters and not self.base_model:
            raise InvalidAsk("the request names neither an adapter nor a base model; name what it is for")
        if len(set(self.adapters)) != len(self.adapters):
            raise InvalidAsk(f"the request names an adapter twice: {', '.join(self.adapters)}; name each once")


@dataclass(frozen=True, slots=True)
class Picked:
    """Send it there.

    `names`: adapter -> what that engine knows it by. `missing`: adapters that have to be loaded there first, empty
    unless the request `may_load`. `load`: requests that are estimated to be there. `spill`: the pod that should get a
    replica too (it may be on its way), since all that hold the adapter are busier than they should be.
    """

    endpoint: Endpoint
    names: Mapping[str, str]
    missing: tuple[str, ...] = ()
    load: float = 0.0
    score: float = 0.0
    spill: str | None = None

    @property
    def warm(self) -> bool:
        """Whether nothing has to be loaded."""
        return not self.missing


@dataclass(frozen=True, slots=True)
class NotLoaded:
    """No pod that may be the answer holds all of it.

    `adapters`: those that no such pod holds; all of the request's if only no pod holds them together. `loading`: pods
    where that is about to change; `loadable`: some pods that have room, the least busy first.
    """

    adapters: tuple[str, ...]
    base_model: str
    loading: tuple[str, ...] = ()
    loadable: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nobody has ever heard of these adapters, or of this base model."""

    names: tuple[str, ...]


Answer = Picked | NotLoaded | Unknown
