"""What users write: the spec of a LoraAdapter, with its defaults and bounds."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from lora_operator.api import rules as words
from lora_operator.api.fields import Kubernetes, Model, Rule, cel_string
from lora_operator.api.quantity import PATTERN as QUANTITY_PATTERN
from lora_operator.api.quantity import parse_quantity
from lora_scheduler.model import PreemptionPolicy, ReplicaPolicy, Requirement, Selector


class SourceType(StrEnum):
    """Where the files of the adapters are."""

    HUGGINGFACE = "huggingface"
    S3 = "s3"
    AZURE = "azure"
    LOCAL = "local"
    HTTP = "http"


class BaseModelCheck(StrEnum):
    """What of an adapter is compared with the base model."""

    NAME = "Name"
    SKIP = "Skip"


class SelectorOperator(StrEnum):
    """How a requirement of a label selector compares."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


class Fallback(StrEnum):
    """What answers requests for an adapter that no pod answers for."""

    NONE = "None"
    BASE_MODEL = "BaseModel"


class _MemoryQuantity:
    """An int-or-string of Kubernetes that is a positive amount of memory."""

    message = "memory must be a positive number of bytes or a quantity such as 512Mi or 2Gi"

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def check(value: int | str) -> int | str:
            try:
                positive = parse_quantity(value) > 0
            except ValueError:
                positive = False
            if not positive:
                raise PydanticCustomError("quantity", "{message}", {"message": self.message})
            return value

        return core_schema.no_info_after_validator_function(check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        # The rule looks for a digit that is not 0 before any exponent: quantity() knows no int.
        matches = f"self.matches({cel_string(f'^{QUANTITY_PATTERN}$')}) && self.matches('^[0.]*[1-9]')"
        return {
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "x-kubernetes-int-or-string": True,
            "maxLength": 32,
            "x-kubernetes-validations": [
                {"rule": f"type(self) == int ? self > 0 : ({matches})", "message": self.message}
            ],
        }


class LabelRequirement(Model):
    """One requirement of a label selector."""

    rules: ClassVar[tuple[Rule, ...]] = words.EXPRESSION_RULES

    key: Annotated[str, words.LABEL_KEY]
    """The label's key."""
    operator: SelectorOperator
    """In, NotIn, Exists or DoesNotExist."""
    values: Annotated[
        tuple[Annotated[str, words.LABEL_VALUE], ...], Field(max_length=64), Kubernetes(list_type="atomic")
    ] = ()
    """The values to compare with; empty for Exists and DoesNotExist."""

    def to_string(self) -> str:
        match self.operator:
            case SelectorOperator.EXISTS:
                return self.key
            case SelectorOperator.DOES_NOT_EXIST:
                return f"!{self.key}"
            case _:
                return f"{self.key} {self.operator.lower()} ({','.join(self.values)})"


class PodSelector(Model):
    """A label selector; all of its requirements must hold."""

    match_labels: Annotated[
        dict[Annotated[str, Field(max_length=317)], Annotated[str, words.LABEL_VALUE]], Field(max_length=64)
    ] = Field(default_factory=dict)
    """Labels that a pod must have, with these values."""
    match_expressions: Annotated[
        tuple[LabelRequirement, ...], Field(max_length=64), Kubernetes(list_type="atomic")
    ] = ()
    """Further requirements on a pod's labels."""

    def for_placement(self) -> Selector:
        """The same as a value of the placement library."""
        return Selector(
            match_labels=tuple(sorted(self.match_labels.items())),
            match_expressions=tuple(
                Requirement(key=one.key, operator=one.operator.value, values=one.values)
                for one in self.match_expressions
            ),
        )

    def to_string(self) -> str:
        """The selector in the notation of `kubectl -l`, which the scale subresource wants; empty selects everything."""
        labels = [f"{key}={value}" for key, value in sorted(self.match_labels.items())]
        return ",".join([*labels, *(one.to_string() for one in self.match_expressions)])


class AdapterSource(Model):
    """Where the adapters come from, and which of those found there are meant."""

    rules: ClassVar[tuple[Rule, ...]] = words.SOURCE_RULES

    type: SourceType
    """huggingface, s3, azure, local or http."""
    repository: Annotated[str, Field(min_length=1, max_length=1024)]
    """huggingface: org/repo, or org for all its PEFT repositories of this base model; s3: bucket[/prefix]; azure:
    account/container[/prefix] or the container's URL; local: an absolute folder; http: the URL of a folder that has
    adapter_config.json, or of a .tar, .tar.gz or .zip."""
    revision: Annotated[str, words.REVISION] | None = None
    """huggingface: branch, tag or commit; s3 and azure: version id, where the store has versions."""
    endpoint: Annotated[str, words.ENDPOINT] | None = None
    """Another endpoint: an S3-compatible store, Azurite, or a mirror of Hugging Face."""
    region: Annotated[str, words.REGION] | None = None
    """The region of an S3 bucket."""
    pattern: Annotated[str, words.PATTERN] | None = None
    """A glob over adapter names. An adapter is selected if it passes all of pattern, prefix and adapters that are
    given."""
    prefix: Annotated[str, words.PREFIX] = ""
    """The beginning of the names to select."""
    adapters: Annotated[
        tuple[Annotated[str, words.ADAPTER_NAME], ...], Field(max_length=1000), Kubernetes(list_type="set")
    ] = ()
    """The names to select; one that the source does not have is reported in status.failedAdapters. Empty selects
    all."""
    max_adapters: Annotated[int, Field(ge=1, le=1000, json_schema_extra={"format": "int32"})] = 100
    """The most adapters that this resource may stand for; if the source has more that are selected, it is refused."""


class SecretReference(Model):
    """A Secret in the same namespace."""

    name: Annotated[str, words.SECRET_NAME]
    """The Secret's name. Keys: token (huggingface, http); AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and
    AWS_SESSION_TOKEN (s3); AZURE_STORAGE_ACCOUNT_KEY, AZURE_STORAGE_SAS_TOKEN or AZURE_STORAGE_CONNECTION_STRING."""


class DeploymentConfig(Model):
    """On how many pods, and on which."""

    rules: ClassVar[tuple[Rule, ...]] = words.DEPLOYMENT_RULES

    replicas: Annotated[int, Field(ge=0, le=2000, json_schema_extra={"format": "int32"})] = 1
    """Replicas of each adapter, on distinct pods; 0 unloads. Under replicaPolicy Auto, the least."""
    replica_policy: ReplicaPolicy = ReplicaPolicy.FIXED
    """Fixed: as many as replicas says. AllPods: one on every eligible pod. Auto: follows demand between replicas and
    maxReplicas."""
    max_replicas: Annotated[int, Field(ge=1, le=2000, json_schema_extra={"format": "int32"})] | None = None
    """The most replicas of each adapter under replicaPolicy Auto."""
    max_surge: Annotated[int, Field(ge=0, le=2000, json_schema_extra={"format": "int32"})] = 1
    """How many replicas more than wanted an update of each adapter may have at a time, where other pods have the room;
    then none has to be taken away first. The only replica that answers has that always."""
    load_on_startup: bool = True
    """False: the adapters are read and checked, and loaded when a router is asked for them; unused ones make room for
    others."""
    pod_selector: Annotated[PodSelector, Kubernetes(map_type="atomic")] = PodSelector()
    """Which pods of this namespace may hold the adapters; empty selects those that take part by their label and serve
    the base model."""


class ResourceRequirements(Model):
    """What one replica of an adapter takes."""

    memory: Annotated[int | str, _MemoryQuantity()] | None = None
    """Memory of one replica, which counts against the pod's lora-memory: bytes, or a quantity such as 512Mi. Measured
    from the adapter's files when absent."""

    @property
    def memory_bytes(self) -> int | None:
        return None if self.memory is None else parse_quantity(self.memory)


class SchedulingConfig(Model):
    """How the adapters compete for room, and how their replicas are spread."""

    priority: Annotated[int, Field(ge=-1_000_000_000, le=1_000_000_000, json_schema_extra={"format": "int32"})] = 0
    """Who gets room that is scarce: adapters of a higher priority first."""
    preemption_policy: PreemptionPolicy = PreemptionPolicy.LOWER_PRIORITY
    """LowerPriority: may take the room of adapters of strictly lower priority. None: waits for free room."""
    resource_requirements: ResourceRequirements = ResourceRequirements()
    """What one replica takes of a pod."""
    topology_key: Annotated[str, words.LABEL_KEY] = "kubernetes.io/hostname"
    """Spread the replicas of each adapter over the values of this label of nodes, for example
    topology.kubernetes.io/zone."""


KeywordList = tuple[Annotated[str, words.KEYWORD], ...]
Description = Annotated[str, Field(min_length=1, max_length=1000)]
Precedence = Annotated[int, Field(ge=-1000, le=1000, json_schema_extra={"format": "int32"})]


class AdapterSelection(Model):
    """What requests one adapter is for."""

    name: Annotated[str, words.ADAPTER_NAME]
    """The adapter's name."""
    description: Description | None = None
    """What it is good at, instead of what is said of all adapters."""
    keywords: Annotated[KeywordList, Field(max_length=25), Kubernetes(list_type="set")] = ()
    """Further keywords, of this adapter alone."""
    priority: Precedence | None = None
    """Instead of the one that all adapters share."""


class SelectionConfig(Model):
    """What requests the adapters are for, so that they can be chosen by a request's text."""

    description: Description | None = None
    """What the adapters are good at. Each line is compared with a text by its meaning: a first one that says what they
    do, and some that are requests for them, as users would write them."""
    keywords: Annotated[KeywordList, Field(max_length=50), Kubernetes(list_type="set")] = ()
    """What a text has that is for them: words, phrases, and either with the wildcards *, ? and [...]."""
    priority: Precedence = 0
    """Of adapters that fit equally well, the highest is chosen."""
    adapters: Annotated[
        tuple[AdapterSelection, ...], Field(max_length=100), Kubernetes(list_type="map", list_keys=("name",))
    ] = ()
    """What is to be said of single adapters, where there are several."""


class LoraAdapterSpec(Model):
    """What is wanted."""

    rules: ClassVar[tuple[Rule, ...]] = words.SPEC_RULES

    base_model: Annotated[
        str,
        words.BASE_MODEL,
        Kubernetes(
            immutable="baseModel is immutable: for another base model, delete this LoraAdapter and create a new one"
        ),
    ]
    """The model id that the pods serve. Immutable."""
    base_model_check: BaseModelCheck = BaseModelCheck.NAME
    """Name refuses adapters whose config names another model as the one that they were trained on, where the layer
    shapes of the base model are not known. Skip takes them: the same model has many names."""
    adapter_source: AdapterSource
    """Where the adapters come from."""
    served_name: Annotated[str, words.SERVED_NAME] | None = None
    """What requests call the adapter, in place of its name at the source. Where there are several adapters, write
    {name} for that name, as in team-a-{name}, or {slug} for one in which hyphens stand for what a name may not have."""
    credentials_secret_ref: SecretReference | None = None
    """The Secret with the source's credentials; not needed for a public source."""
    deployment_config: DeploymentConfig = DeploymentConfig()
    """On how many pods, and on which."""
    scheduling_config: SchedulingConfig = SchedulingConfig()
    """Priority, preemption, memory and spread."""
    selection: SelectionConfig | None = None
    """What requests the adapters are for. Routers choose by it when they are given a text instead of an adapter."""
    fallback: Fallback = Fallback.NONE
    """What becomes of requests through the gateway for an adapter that no pod answers for, and that is not loaded in
    time. None: they are refused. BaseModel: the base model answers, and the header x-lora-fallback says why."""
    owner: Annotated[str, words.OWNER] | None = None
    """Whose quota, if that owner has one, the adapters count for beside the namespace's."""
