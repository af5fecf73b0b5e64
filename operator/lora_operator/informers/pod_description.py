"""What a pod says about itself: identity, life of its vLLM container, limits, and what about that is nonsense. Pure.

Each limit comes from the first of: the pod's annotation, vLLM's command line in the container, the operator's default.
A pod that contradicts itself is described all the same, with `problems` that say what to correct.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from lora_operator.api.endpoint import Scheme
from lora_operator.api.well_known import GROUP, POD_LABEL
from lora_operator.informers.loose_json import listing, mapping, text
from lora_operator.informers.pod_engine import cannot_load, may_sleep, refuses_paths, why_silent
from lora_operator.informers.pod_group import is_follower, workers_lack_files
from lora_operator.informers.pod_limits import RANK_MAX, Limits, Naming, PodDefaults
from lora_operator.vllm.command import EngineCommand, SecretKeyRef, choose_container, read_command
from lora_operator.vllm.hidden import is_hidden

__all__ = ["ApiKeyRef", "Naming", "PodDefaults", "PodDescription", "containers_of", "describe", "takes_part"]

API_KEY_VARIABLE = "VLLM_API_KEY"
CONTAINER_ANNOTATION = f"{GROUP}/container"
PROBLEMS_MAX = 10
NAMES_SHOWN_MAX = 5
MARK_LENGTH = 12  # as kubectl and crictl shorten ids


@dataclass(frozen=True, slots=True)
class ApiKeyRef:
    """Where the engine's API key is: in a Secret, or (literal) in the pod itself. Exactly one is set.

    `guessed`: all of the Secret becomes variables of the container (`envFrom`), and the key may be among them.
    """

    secret: SecretKeyRef | None = None
    literal: str | None = field(default=None, repr=False)
    guessed: bool = False


@dataclass(frozen=True, slots=True)
class PodDescription:
    """One pod, reduced to what placement and the engine client need. Texts are empty where the pod lacks them."""

    key: str  # namespace/name
    uid: str
    namespace: str
    name: str
    ip: str | None
    node: str | None
    labels: Mapping[str, str]
    phase: str
    terminating: bool
    ready: bool  # the pod's condition Ready, which waits for readiness gates
    containers_ready: bool
    readiness_gates: tuple[str, ...]
    # the container that runs vLLM
    container: str
    container_id: str | None
    container_started_at: str | None  # RFC 3339; None unless it runs
    container_running: bool
    restart_count: int
    probed_ready: bool  # the pod is Ready, and its vLLM container by a probe of the kubelet's own
    release_hint: str | None  # the image's tag; what /version says counts
    # what it serves and how much of it
    base_models: tuple[str, ...]  # all names of the one base model; empty if the pod does not say
    named_by: Naming  # who says these names
    model: str | None  # what vLLM was given as the model, behind the names: a hub's name, or a path
    port: int
    further_ports: tuple[int, ...]  # of servers of further data-parallel ranks, each of which has to hold an adapter
    scheme: Scheme
    memory_bytes: int | None
    max_loras: int
    max_cpu_loras: int
    max_lora_rank: int
    adapter_root: str
    agent_port: int | None  # None where the pod has no agent
    api_key_ref: ApiKeyRef | None
    prefix_caching: bool
    target_modules: frozenset[str] | None  # to which alone the engine applies adapters; None for all
    honoured_features: frozenset[str]  # of adapters, which its engine serves whatever its release is known for
    caches_by_name: bool  # more of it than the prefix cache is keyed by an adapter's name alone
    may_sleep: bool  # its engine can be told to sleep, and then says so
    opted_in: bool  # has the label production-stack.vllm-project/lora: enabled
    lora_disabled: str | None  # why vLLM there cannot load adapters, where the pod shows that it cannot
    workers_lack_files: str  # why its engine's workers in other pods cannot read adapters, where the pod shows that
    why_silent: str  # why its engine is not expected to answer, where the pod shows that; if it does, all is well
    problems: tuple[str, ...]

    @property
    def container_mark(self) -> str:
        """The first characters of the id of its container (after `containerd://`), empty if it has none yet."""
        return (self.container_id or "").rpartition("://")[2][:MARK_LENGTH]

    @property
    def lora_enabled(self) -> bool:
        return self.lora_disabled is None


def takes_part(description: PodDescription) -> bool:
    """Whether the pod asks to be managed by its label. One that matches an adapter's podSelector takes part as well."""
    return description.opted_in


def describe(pod: Mapping[str, Any], defaults: PodDefaults) -> PodDescription:
    """Describe a pod given as Kubernetes JSON. Never raises, whatever is in there."""
    metadata, spec, status = mapping(pod.get("metadata")), mapping(pod.get("spec")), mapping(pod.get("status"))
    labels = {key: value for key, value in mapping(metadata.get("labels")).items() if isinstance(value, str)}
    containers = containers_of(spec)
    annotations = mapping(metadata.get("annotations"))
    container, problems = _chosen(containers, annotations.get(CONTAINER_ANNOTATION))
    container_name = text(container.get("name")) or ""
    command = read_command(container)
    limits = Limits(annotations, command, container, defaults)
    max_loras, max_cpu_loras = limits.slots()
    names, named_by = limits.base_models()
    follower = named_by is not Naming.ANNOTATION and is_follower(command, labels)
    ports = limits.ports()
    root, agent_port, enabled = limits.adapter_root(), limits.agent_port(containers), limits.lora_enabled()
    tag = _tag(text(container.get("image")) or "")
    lacking = ""
    if enabled is not None:
        lora_disabled = None if enabled else f"annotation {GROUP}/lora-enabled is false"
    else:
        lora_disabled = cannot_load(command, container_name, ports) or refuses_paths(command, container, root)
        lacking = workers_lack_files(command, pod, container, root, has_agent=agent_port is not None)
    states = map(mapping, (*listing(status.get("containerStatuses")), *listing(status.get("initContainerStatuses"))))
    state = next((state for state in states if state.get("name") == container_name), {})
    running = mapping(state.get("state")).get("running")
    conditions = {c.get("type"): c.get("status") for c in map(mapping, listing(status.get("conditions")))
                  if isinstance(c.get("type"), str)}  # fmt: skip
    gates = (text(mapping(gate).get("conditionType")) for gate in listing(spec.get("readinessGates")))
    restarts = state.get("restartCount")
    namespace, name = text(metadata.get("namespace")) or "", text(metadata.get("name")) or ""
    return PodDescription(
        key=f"{namespace}/{name}",
        uid=text(metadata.get("uid")) or "",
        namespace=namespace,
        name=name,
        ip=text(status.get("podIP")),
        node=text(spec.get("nodeName")),
        labels=MappingProxyType(labels),
        phase=text(status.get("phase")) or "",
        terminating=bool(metadata.get("deletionTimestamp")),
        ready=conditions.get("Ready") == "True",
        containers_ready=conditions.get("ContainersReady") == "True",
        readiness_gates=tuple(gate for gate in gates if gate),
        container=container_name,
        container_id=text(state.get("containerID")),
        container_started_at=text(mapping(running).get("startedAt")),
        container_running=isinstance(running, Mapping),
        restart_count=restarts if isinstance(restarts, int) else 0,
        probed_ready=conditions.get("Ready") == "True" and bool(container.get("readinessProbe")),
        release_hint=tag,
        base_models=() if follower else names,
        named_by=named_by,
        model=command.model,
        port=ports[0],
        further_ports=ports[1:],
        scheme=limits.scheme(),
        memory_bytes=limits.memory_bytes(),
        max_loras=max_loras,
        max_cpu_loras=max_cpu_loras,
        max_lora_rank=limits.number("max-lora-rank", "max-lora-rank", defaults.max_lora_rank, RANK_MAX),
        adapter_root=root,
        agent_port=agent_port,
        api_key_ref=_api_key(command, container),
        prefix_caching=command.switch("enable-prefix-caching") is not False or command.open_ended,
        target_modules=limits.target_modules(),
        honoured_features=limits.honoured_features(),
        caches_by_name=bool(command.switch("enable-tower-connector-lora")),
        may_sleep=may_sleep(command),
        opted_in=labels.get(POD_LABEL) == "enabled",
        lora_disabled=lora_disabled,
        workers_lack_files=lacking,
        why_silent=why_silent(command, container_name, tag, labels),
        problems=(*problems, *limits.problems)[:PROBLEMS_MAX],
    )


def containers_of(spec: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Those of a pod that go on running: its containers, and after them its native sidecars, which are init containers
    (Kubernetes 1.29): an agent, a proxy, or the engine itself."""
    first = [one for one in listing(spec.get("initContainers")) if mapping(one).get("restartPolicy") == "Always"]
    return [one for one in (*listing(spec.get("containers")), *first) if isinstance(one, Mapping)]


def _chosen(containers: Sequence[Mapping[str, Any]], annotated: object) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """The container of the engine: the one that the annotation names, or the likeliest; and what is wrong about it."""
    named = next((container for container in containers if annotated and container.get("name") == annotated), None)
    if named is not None or annotated is None:
        return named or choose_container(containers) or {}, ()
    names = [str(container.get("name")) for container in containers[:NAMES_SHOWN_MAX]]
    shown = str(annotated).encode("ascii", "backslashreplace").decode()[:60]
    problem = f"annotation {CONTAINER_ANNOTATION} is {shown!r}: expected one of the pod's containers {names!r:.150}"
    return choose_container(containers) or {}, (problem,)


def _api_key(command: EngineCommand, container: Mapping[str, Any]) -> ApiKeyRef | None:
    """`--api-key` wins over the variable, as in vLLM. None where there is none, or where the pod does not show it."""
    if not command.value("api-key") and API_KEY_VARIABLE not in command.environment.values:
        return _guessed_api_key(container)
    value = command.value("api-key") or command.environment.values.get(API_KEY_VARIABLE) or ""
    if not value:
        return None
    if not is_hidden(value):
        return ApiKeyRef(literal=value)
    secret = command.secret(value)
    return ApiKeyRef(secret=secret) if secret is not None else None


def _guessed_api_key(container: Mapping[str, Any]) -> ApiKeyRef | None:
    """The last Secret whose keys all become variables, as the last one counts."""
    for source in map(mapping, reversed(listing(container.get("envFrom")))):
        name = text(mapping(source.get("secretRef")).get("name"))
        prefix = text(source.get("prefix")) or ""
        if name and API_KEY_VARIABLE.startswith(prefix):
            return ApiKeyRef(secret=SecretKeyRef(name, API_KEY_VARIABLE.removeprefix(prefix)), guessed=True)
    return None


def _tag(image: str) -> str | None:
    tag = image.split("@", 1)[0].rsplit("/", 1)[-1].partition(":")[2]
    return tag or None
