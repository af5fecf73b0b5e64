"""LoraAdapter v1alpha1: read one with `parse`, write its status with `LoraAdapterStatus(...).to_dict()`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import Field, ValidationError

from lora_operator.api.fields import Model
from lora_operator.api.spec import (
    AdapterSource,
    BaseModelCheck,
    DeploymentConfig,
    LabelRequirement,
    LoraAdapterSpec,
    PodSelector,
    ResourceRequirements,
    SchedulingConfig,
    SecretReference,
    SelectorOperator,
    SourceType,
)
from lora_operator.api.status import (
    AdapterStatus,
    Condition,
    ConditionStatus,
    ConditionType,
    EngineName,
    FailedAdapter,
    LoraAdapterStatus,
    Phase,
    PodAssignment,
    PodFailure,
)
from lora_operator.api.well_known import GROUP, PLURAL, VERSION

__all__ = [
    "API_VERSION",
    "CATEGORY",
    "GROUP",
    "KIND",
    "PLURAL",
    "SHORT_NAME",
    "SINGULAR",
    "VERSION",
    "AdapterSource",
    "AdapterStatus",
    "BaseModelCheck",
    "Condition",
    "ConditionStatus",
    "ConditionType",
    "DeploymentConfig",
    "EngineName",
    "FailedAdapter",
    "InvalidLoraAdapter",
    "LabelRequirement",
    "LoraAdapter",
    "LoraAdapterSpec",
    "LoraAdapterStatus",
    "ObjectMeta",
    "Phase",
    "PodAssignment",
    "PodFailure",
    "PodSelector",
    "ResourceRequirements",
    "SchedulingConfig",
    "SecretReference",
    "SelectorOperator",
    "SourceType",
    "parse",
]

API_VERSION = f"{GROUP}/{VERSION}"
KIND = "LoraAdapter"
SINGULAR = "loraadapter"
SHORT_NAME = "la"
CATEGORY = "lora"


class InvalidLoraAdapter(ValueError):
    """An object that the API server holds but that breaks the rules, as an older CRD may have let in.

    `name` is `namespace/name`, `field` the first field that is wrong (`spec.adapterSource.type`), `problem` what is
    wrong with it, `generation` the generation that was read (None where even that cannot be told).
    """

    def __init__(self, name: str, field: str, problem: str, generation: int | None = None) -> None:
        super().__init__(f"LoraAdapter {name}: {field}: {problem}; correct the field and apply the resource again")
        self.name = name
        self.field = field
        self.problem = problem
        self.generation = generation


class ObjectMeta(Model):
    """The part of an object's metadata that the operator reads."""

    name: str
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    finalizers: tuple[str, ...] = ()


class LoraAdapter(Model):
    """One or more LoRA adapters of a source that should be loaded on vLLM pods."""

    metadata: ObjectMeta
    spec: LoraAdapterSpec
    status: LoraAdapterStatus = LoraAdapterStatus()

    @property
    def key(self) -> str:
        """`namespace/name`, as in messages."""
        return f"{self.metadata.namespace}/{self.metadata.name}"

    @property
    def owner(self) -> str:
        """The tenant: who the spec says, or the namespace."""
        return self.spec.owner or self.metadata.namespace


def parse(body: Mapping[str, Any]) -> LoraAdapter:
    """A LoraAdapter from what the API server sent.

    A status that cannot be read counts as none, for the operator writes it anew. Raises InvalidLoraAdapter.
    """
    content = dict(body)
    try:
        status = LoraAdapterStatus.model_validate(content.pop("status", None) or {})
    except ValidationError:
        status = LoraAdapterStatus()
    try:
        return LoraAdapter.model_validate({**content, "status": status})
    except ValidationError as error:
        raise _explain(content, error) from error


def _explain(content: Mapping[str, Any], error: ValidationError) -> InvalidLoraAdapter:
    first = error.errors(include_url=False, include_input=False)[0]
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).removeprefix(".")
    field = path + first.get("ctx", {}).get("field", "")
    meta = content.get("metadata")
    meta = meta if isinstance(meta, Mapping) else {}
    generation = meta.get("generation")
    return InvalidLoraAdapter(
        f"{meta.get('namespace', '?')}/{meta.get('name', '?')}",
        field,
        first["msg"],
        generation if isinstance(generation, int) else None,
    )
