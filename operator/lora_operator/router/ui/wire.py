"""What `/v1/fleet` answers, as models: the OpenAPI document is made of them, and tests hold answers against them."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from lora_operator.router.wire import Version, Wire


class PodState(StrEnum):
    """Whether the pod can take requests."""

    READY = "Ready"
    NOT_READY = "NotReady"
    TERMINATING = "Terminating"


class FleetPod(Wire):
    """A pod that takes part, and its limits. `memoryBytes` null: it declares no budget."""

    namespace: str
    name: str
    node: str
    address: Annotated[str, Field(description="ip:port of its engine; empty before it has one")]
    base_models: list[str]
    memory_bytes: int | None
    gpu_slots: Annotated[int, Field(description="vLLM's max_loras")]
    host_slots: Annotated[int, Field(description="vLLM's max_cpu_loras: adapters that may be loaded at a time")]
    max_rank: int
    state: PodState
    leaving: Annotated[bool, Field(description="takes part no more, and is being rid of what it holds")]
    problems: Annotated[list[str], Field(description="what is wrong with its own statements")]


class Refused(Wire):
    """Why one pod does not hold the adapter."""

    pod: str
    reason: str
    message: str


class FleetAdapter(Wire):
    """One adapter of a LoraAdapter. Null: not known."""

    name: str
    bytes: int | None
    rank: int | None
    wanted: Annotated[int, Field(description="replicas wanted")]
    loaded: Annotated[int, Field(description="replicas that answer")]


class FailedAdapter(Wire):
    """An adapter that is not where it should be."""

    name: str
    reason: Annotated[str, Field(description="one word in CamelCase")]
    message: str
    pods: Annotated[list[Refused], Field(description="why not on these pods; at most 16")]


class FleetResource(Wire):
    """A LoraAdapter. `reason` and `message` are those of its condition Ready, or what is wrong with its spec."""

    namespace: str
    name: str
    base_model: str
    ready: bool
    deleting: bool
    reason: str
    message: str
    adapters: list[FleetAdapter]
    failed: list[FailedAdapter]


class UnderWay(Wire):
    """A load or unload that is happening now."""

    namespace: str
    pod: str
    name: Annotated[str, Field(description="of the adapter")]
    stage: Literal["Fetching", "Loading", "Withdrawing", "Unloading"]
    fetched_percent: int
    bytes: int


class Key(Wire):
    namespace: str
    name: str


class FleetAnswer(Wire):
    """All pods and LoraAdapters, or (`whole` false) those that changed since the version that was asked with."""

    version: Version
    whole: bool
    age_seconds: Annotated[float | None, Field(description="since the API server last answered")]
    api_server: Literal["Reachable", "Away", "Unknown"]
    under_way: Annotated[
        list[UnderWay] | None,
        Field(description="always all of them; null where it is not known: only the operator that leads knows it"),
    ]
    pods: list[FleetPod]
    pods_gone: list[Key]
    resources: list[FleetResource]
    resources_gone: list[Key]
