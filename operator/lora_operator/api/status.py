"""What the operator reports: the status of a LoraAdapter. Nothing in it changes by the second."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field, PlainSerializer

from lora_operator.api.fields import Cut, Kubernetes, Model

MAX_PODS_PER_FAILURE = 16
MAX_ASSIGNMENTS = 64

Name = Annotated[str, Cut(253)]
Message = Annotated[str, Cut(1024)]
Reason = Annotated[str, Cut(128)]
Count = Annotated[int, Field(ge=0, json_schema_extra={"format": "int32"})]
Bytes = Annotated[int, Field(ge=0, json_schema_extra={"format": "int64"})]
Generation = Annotated[int, Field(ge=0, json_schema_extra={"format": "int64"})]


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


Time = Annotated[datetime, PlainSerializer(_rfc3339, return_type=str)]


class Phase(StrEnum):
    """A summary of the conditions, for people."""

    PENDING = "Pending"
    LOADING = "Loading"
    READY = "Ready"
    PARTIAL = "Partial"
    FAILED = "Failed"


class ConditionType(StrEnum):
    """The conditions that the operator writes; `Ready` sums up the others."""

    SOURCE_READY = "SourceReady"
    SCHEDULED = "Scheduled"
    LOADED = "Loaded"
    READY = "Ready"


class ConditionStatus(StrEnum):
    """What a condition says."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(Model):
    """One observation."""

    type: Name
    """SourceReady, Scheduled, Loaded or Ready."""
    status: ConditionStatus
    """True, False or Unknown."""
    observed_generation: Generation | None = None
    """The generation of the spec that this was observed for."""
    last_transition_time: Time
    """When the status last changed."""
    reason: Annotated[Reason, Field(min_length=1)]
    """Why, as one word in CamelCase for programs."""
    message: Message = ""
    """Why, for people."""


class PodFailure(Model):
    """Why one pod does not hold the adapter."""

    pod: Name
    """The pod's name."""
    reason: Reason
    """Why, as one word in CamelCase for programs."""
    message: Annotated[str, Cut(512)] = ""
    """Why, for people."""


class FailedAdapter(Model):
    """An adapter that is not where it should be."""

    name: Name
    """The adapter's name."""
    reason: Reason
    """Why, in a few words for people."""
    code: Reason | None = None
    """Why, as one word in CamelCase for programs."""
    message: Message | None = None
    """Why, in full, and what to do about it."""
    pods: Annotated[tuple[PodFailure, ...], Cut(MAX_PODS_PER_FAILURE), Kubernetes(list_type="atomic")] = ()
    """Why not on these pods; at most 16 are listed."""


class EngineName(Model):
    """An adapter that a pod's engine knows by another name."""

    name: Name
    """The adapter's name."""
    engine_name: Name
    """The name that the engine must be asked for."""


class PodAssignment(Model):
    """A pod, and the adapters that it holds and can answer for."""

    pod: Name
    """The pod's name."""
    address: Annotated[str, Cut(64)] | None = None
    """Where the pod's engine answers, as ip:port."""
    container: Annotated[str, Cut(64)] | None = None
    """The first characters of the id of the engine's container: one that was started since has forgotten its
    adapters."""
    adapters: Annotated[tuple[Name, ...], Cut(1000), Kubernetes(list_type="atomic")] = ()
    """The adapters on it."""
    engine_names: Annotated[tuple[EngineName, ...], Cut(1000), Kubernetes(list_type="atomic")] = ()
    """Only those adapters that this engine knows by a versioned name."""


class AdapterStatus(Model):
    """One selected adapter, as it was found at the source, and how many replicas of it there are."""

    name: Name
    """The adapter's name."""
    fingerprint: Annotated[str, Cut(128)] | None = None
    """Identifies the files' content."""
    bytes: Bytes | None = None
    """The memory of one replica."""
    rank: Count | None = None
    """The LoRA rank."""
    replicas: Count = 0
    """Replicas wanted."""
    loaded: Count = 0
    """Replicas that answer."""


class LoraAdapterStatus(Model):
    """What is so."""

    observed_generation: Generation | None = None
    """The generation of the spec that this status is about."""
    phase: Phase | None = None
    """A summary for people: Pending, Loading, Ready, Partial or Failed. Programs read the condition Ready."""
    summary: Annotated[str, Cut(32)] | None = None
    """Loaded and wanted adapters, such as 1/2."""
    conditions: Annotated[tuple[Condition, ...], Cut(16), Kubernetes(list_type="map", list_keys=("type",))] = ()
    """SourceReady, Scheduled, Loaded, and Ready, which sums them up."""
    loaded_adapters: Annotated[tuple[Name, ...], Cut(1000), Kubernetes(list_type="atomic")] = ()
    """The adapters that have as many replicas as wanted."""
    # lists with one writer are atomic: of a map, managedFields would repeat every key
    failed_adapters: Annotated[tuple[FailedAdapter, ...], Cut(1000), Kubernetes(list_type="atomic")] = ()
    """The adapters that have not, and why."""
    pod_assignments: Annotated[tuple[PodAssignment, ...], Cut(2000), Kubernetes(list_type="atomic")] = ()
    """Where each adapter can be reached: at most 64 pods are listed, and fewer where they hold very many adapters. Each
    pod's LoraEndpoint says it in full."""
    pods: Count | None = None
    """The pods that hold at least one of the adapters, those beyond the list as well."""
    adapters: Annotated[tuple[AdapterStatus, ...], Cut(1000), Kubernetes(list_type="atomic")] = ()
    """Each selected adapter."""
    replicas: Count | None = None
    """Replicas of each adapter at the moment, for the scale subresource."""
    selector: Annotated[str, Cut(4096)] | None = None
    """The label selector of the pods that may hold the adapters, for the scale subresource."""
    truncated: bool | None = None
    """True if a list was cut to keep the object small; the message of the condition Ready says so too."""

    def condition(self, type_: ConditionType) -> Condition | None:
        """The condition of that type, if there is one."""
        return next((one for one in self.conditions if one.type == type_), None)
