"""What goes over the wire, as models: requests are checked against them, the OpenAPI document is made of them, and the
tests hold every answer against them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic.alias_generators import to_camel

from lora_operator.router.entries import Entry, Why

AdapterName = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=r"^[^/,\x00-\x1f\x7f]+$")]
Namespace = Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
BaseModelName = Annotated[str, StringConstraints(min_length=1, max_length=512, pattern=r"^[^\x00-\x1f\x7f]+$")]
PodName = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$")]
Limit = Annotated[int, Field(ge=1, le=1000)]
Token = Annotated[str, StringConstraints(max_length=1024, pattern=r"^[!-~]*$")]
Version = Annotated[str, Field(description="`epoch-number`; equal versions, equal tables. Opaque to clients.")]


class Wire(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")


class PodAnswer(Wire):
    """A pod that answers for the adapter."""

    pod: str
    address: Annotated[str, Field(description="ip:port of its engine")]
    engine_name: Annotated[str, Field(description="the `model` to ask this engine for")]
    ready: Literal[True] = True


class WithheldPod(Wire):
    """A pod that holds the adapter and must not be sent requests now."""

    pod: str
    state: Why


class Adapter(Wire):
    """One adapter. `reason` and `message` say why no pod answers for it; absent if one does."""

    namespace: str
    name: str
    base_model: str
    resource: Annotated[str, Field(description="the LoraAdapter that declares it")]
    pods: list[PodAnswer]
    withheld: list[WithheldPod] = []
    reason: str | None = None
    message: str | None = None
    on_demand: Annotated[bool, Field(description="it is loaded when it is asked for; absent: no")] = False


class AdapterList(Wire):
    version: Version
    adapters: list[Adapter]
    next: Annotated[str | None, Field(alias="continue", description="for the next page; absent on the last")] = None


class AdapterPods(Adapter):
    version: Version


class PickRequest(Wire):
    """Where should a request go? Give `adapter`, or what it uses at once: `adapters` and `shared`."""

    adapter: AdapterName | None = None
    adapters: Annotated[
        list[AdapterName], Field(max_length=16, description="the tenant's own adapters, all on one pod")
    ] = []
    shared: Annotated[
        list[AdapterName], Field(max_length=16, description="further ones, which others use as well: they weigh less")
    ] = []
    namespace: Annotated[Namespace | None, Field(description="needed where several have an adapter of this name")] = (
        None
    )
    policy: Annotated[
        str | None, Field(max_length=64, description="default: what the router is set to, most often lora-affinity")
    ] = None
    key: Annotated[
        str | None, Field(max_length=1024, description="requests of one key go to one pod, for policy `hash`")
    ] = None
    avoid: Annotated[list[PodName], Field(max_length=64, description="pods that have just failed")] = []
    wait_seconds: Annotated[
        float, Field(ge=0, le=120, description="how long to wait for a pod that answers, where there is none")
    ] = 0.0
    prompt: Annotated[
        str | None, Field(description="what will be asked: a pod that has its beginning in its cache is preferred")
    ] = None
    messages: Annotated[list[dict[str, Any]] | None, Field(max_length=1000, description="the same of a chat")] = None
    session: Annotated[
        str | None, Field(max_length=1024, description="requests of one session should go where the last one went")
    ] = None
    may_load: Annotated[
        bool, Field(description="with adapters: the caller can have loaded what the pod lacks (`missing`)")
    ] = False
    explain: Annotated[bool, Field(description="also what each pod scores that holds any of it")] = False

    @model_validator(mode="after")
    def _names_what_it_uses(self) -> PickRequest:
        several = [*self.adapters, *self.shared]
        if (self.adapter is None) == (not several):
            raise ValueError("give adapter, or adapters and shared, and not both")
        if len(set(several)) < len(several):
            raise ValueError("an adapter is named twice in adapters and shared; name each once")
        hints = (self.key, self.prompt, self.messages, self.session)
        if several and (self.wait_seconds or any(hint is not None for hint in hints)):
            raise ValueError("waitSeconds, key, prompt, messages and session are for one adapter; give adapter instead")
        if self.may_load and not several:
            raise ValueError("mayLoad is for adapters and shared")
        return self


class CandidatePod(Wire):
    """A pod that holds some of what is asked for. The terms add up to `score`; `requests` are estimated to be there."""

    pod: str
    address: str
    score: float
    own: float
    shared: float
    free_slot: float
    prefix: float
    queue_depth: float
    requests: float
    missing: list[str]


class PickAnswer(Wire):
    """With several adapters `adapter` and `engineName` are of the first, and `engineNames` has all that are there."""

    namespace: str
    adapter: str
    base_model: str
    pod: str
    address: str
    engine_name: str
    engine_names: dict[str, str] | None = None
    missing: list[str] | None = None
    policy: str
    candidates: list[CandidatePod] | None = None
    version: Version


class KnownWorker(Wire):
    """A worker in front of a pod that the router knows: what it holds is in the table."""

    pod: PodName
    namespace: Namespace


class StatedWorker(Wire):
    """A worker that says what it holds."""

    base_model: BaseModelName
    adapters: Annotated[list[AdapterName], Field(max_length=10_000)] = []
    running: Annotated[list[AdapterName], Field(max_length=1000, description="adapters that are in its batch")] = []
    max_loras: Annotated[int, Field(ge=0, le=100_000, description="adapters in one batch; 0: not known")] = 0
    free_slots: Annotated[int, Field(ge=0, le=100_000, description="further adapters that it could load")] = 0
    namespace: Annotated[Namespace, Field(description="of its adapters")] = "default"


class Job(Wire):
    """A job that waits."""

    key: Annotated[str, Field(min_length=1, max_length=1024, description="the caller's name for it")]
    adapters: Annotated[list[AdapterName], Field(max_length=16)] = []
    shared: Annotated[list[AdapterName], Field(max_length=16)] = []
    base_model: Annotated[
        BaseModelName | None, Field(description="default: that of its adapters, as far as the router knows")
    ] = None
    waited_seconds: Annotated[float, Field(ge=0, le=1e9)] = 0.0
    may_load: Annotated[bool, Field(description="the worker may load what it lacks")] = False


class MatchRequest(Wire):
    """Which of these jobs should this worker take?"""

    worker: KnownWorker | StatedWorker
    jobs: Annotated[list[Job], Field(max_length=256)]
    fair_seconds: Annotated[
        float, Field(ge=0, le=1e9, description="what has waited for longer comes first, the oldest before all")
    ] = 2.0

    @model_validator(mode="after")
    def _names_each_once(self) -> MatchRequest:
        for job in self.jobs:
            if len({*job.adapters, *job.shared}) < len(job.adapters) + len(job.shared):
                raise ValueError(f"job {job.key} names an adapter twice; name each once")
        return self


class MatchAnswer(Wire):
    """`job` null: none of them is anything for this worker now. `missing` has to be loaded first."""

    job: str | None
    score: float | None = None
    overdue: bool | None = None
    engine_names: dict[str, str] | None = None
    missing: list[str] | None = None
    version: Version


class LoadingAnswer(Wire):
    """It was asked for, that is recorded, and no pod has it yet: come again after `Retry-After`."""

    state: Literal["loading"] = "loading"
    namespace: str
    adapter: str
    base_model: str
    reason: str
    message: str
    version: Version


class MessagePart(BaseModel):
    """A part of a message; only texts count."""

    model_config = ConfigDict(extra="ignore")

    type: str = "text"
    text: str | None = None


class Message(BaseModel):
    """A message as OpenAI's chat API has it; what is not named here does not count."""

    model_config = ConfigDict(extra="ignore")

    role: str
    content: str | list[MessagePart] | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content if part.text)
        return self.content or ""


class SelectRequest(Wire):
    """Which adapter of a base model is this text for? Give `text`, or the `messages` of a chat."""

    base_model: BaseModelName
    text: str | None = None
    messages: Annotated[list[Message] | None, Field(max_length=1000, description="those of the user count")] = None
    namespace: Annotated[Namespace | None, Field(description="only its adapters; default: of all namespaces")] = None
    method: Annotated[
        Literal["keywords", "semantic", "auto"],
        Field(description="auto: by keywords, then by meaning if that did not say and the router has a model"),
    ] = "auto"
    threshold: Annotated[
        float | None,
        Field(
            gt=0,
            le=1000,
            description="least score of an adapter: 1 (default) is a whole keyword; a cosine for semantic",
        ),
    ] = None

    @model_validator(mode="after")
    def _has_one_text(self) -> SelectRequest:
        if (self.text is None) == (self.messages is None):
            raise ValueError("give text or messages, and not both")
        return self


class SelectAnswer(Wire):
    """`adapter` null: none reached the threshold, ask the base model. `score`, `matched`: of the best one all the same.

    `endpoint`: a pod for the request. Where no pod answers for the adapter, `reason` and `message` say why.
    """

    adapter: str | None
    namespace: str | None = None
    base_model: str
    method: Literal["keywords", "semantic"]
    score: float
    matched: Annotated[
        list[str], Field(description="keywords that were found, or the line of a description that is nearest")
    ]
    endpoint: PodAnswer | None = None
    reason: str | None = None
    message: str | None = None
    version: Version


class Readiness(Wire):
    """How good the table is."""

    ready: bool
    version: Version
    adapters: int
    age_seconds: Annotated[
        float | None, Field(description="since the API server last answered; what changed since is not in the table")
    ]
    api_server: Literal["Reachable", "Away", "Unknown"]
    message: str = ""


class ProblemDocument(BaseModel):
    """An error (RFC 9457)."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str


class Snapshot(Wire):
    """`event: snapshot`: a part of all adapters; more follow while `more` is true. Replaces what the client had."""

    version: Version
    adapters: list[Adapter]
    first: bool
    more: bool


class ChangeEvent(Wire):
    """`event: change`: `adapter` as it is now, or (`deleted`) unknown from now on."""

    version: Version
    type: Literal["Set", "Deleted"]
    namespace: str
    name: str
    adapter: Adapter | None = None


class Reset(Wire):
    """`event: reset`: what was asked to be resumed is too old or of another replica; a snapshot follows."""

    status: Literal[410] = 410
    reason: str


class Heartbeat(Wire):
    """`event: heartbeat`: the stream lives, and the table is as old as this."""

    version: Version
    age_seconds: float | None


def adapter_json(entry: Entry) -> dict[str, Any]:
    """An entry as the model `Adapter` has it; by hand, since it is done for every line of the table."""
    body: dict[str, Any] = {
        "namespace": entry.namespace,
        "name": entry.name,
        "baseModel": entry.base_model,
        "resource": entry.resource,
        "pods": [
            {"pod": one.pod, "address": one.address, "engineName": one.engine_name, "ready": True}
            for one in entry.endpoints
        ],
    }
    if entry.withheld:
        body["withheld"] = [{"pod": one.pod, "state": one.state.value} for one in entry.withheld]
    if not entry.endpoints:
        body["reason"], body["message"] = entry.reason, entry.message
    if entry.on_demand:
        body["onDemand"] = True
    return body
