"""What a pod says about itself: identity, life of its vLLM container, limits, and what about that is nonsense. Pure.

Each limit comes from the first of: the pod's annotation, vLLM's command line in the container, the operator's default.
A pod that contradicts itself is described all the same, with `problems` that say what to correct.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeVar

from lora_operator.api.quantity import parse_quantity
from lora_operator.api.well_known import GROUP, POD_LABEL
from lora_operator.vllm.command import EngineCommand, SecretKeyRef, choose_container, read_command
from lora_operator.vllm.hidden import is_hidden, shown

RUNTIME_UPDATING = "VLLM_ALLOW_RUNTIME_LORA_UPDATING"
API_KEY_VARIABLE = "VLLM_API_KEY"
AGENT_PORT_NAME = "lora-agent"
LORAS_MAX = 100_000
RANK_MAX = 4096
MEMORY_BYTES_MAX = 2**62
PROBLEMS_MAX = 10
VALUE_SHOWN_MAX = 60
MARK_LENGTH = 12  # as kubectl and crictl shorten ids

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PodDefaults:
    """What counts where neither annotation nor command line says anything. They are vLLM's own, where it has one.

    `max_cpu_loras` None means as many as max_loras; `memory_bytes` None means no budget.
    """

    base_model: str | None = None
    port: int = 8000
    memory_bytes: int | None = None
    max_loras: int = 1
    max_cpu_loras: int | None = None
    max_lora_rank: int = 16
    adapter_root: str = "/adapters"


@dataclass(frozen=True, slots=True)
class ApiKeyRef:
    """Where the engine's API key is: in a Secret, or (literal) in the pod itself. Exactly one is set."""

    secret: SecretKeyRef | None = None
    literal: str | None = field(default=None, repr=False)


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
    port: int
    memory_bytes: int | None
    max_loras: int
    max_cpu_loras: int
    max_lora_rank: int
    adapter_root: str
    agent_port: int | None  # None where the pod has no agent
    api_key_ref: ApiKeyRef | None
    prefix_caching: bool
    opted_in: bool  # has the label production-stack.vllm-project/lora: enabled
    lora_disabled: str | None  # why vLLM there cannot load adapters, where the pod shows that it cannot
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
    metadata, spec, status = _map(pod.get("metadata")), _map(pod.get("spec")), _map(pod.get("status"))
    labels = {key: value for key, value in _map(metadata.get("labels")).items() if isinstance(value, str)}
    containers = containers_of(spec)
    container = choose_container(containers) or {}
    container_name = _text(container.get("name")) or ""
    command = read_command(container)
    limits = _Limits(_map(metadata.get("annotations")), command, container_name, defaults)
    max_loras, max_cpu_loras = limits.slots()
    states = map(_map, (*_list(status.get("containerStatuses")), *_list(status.get("initContainerStatuses"))))
    state = next((state for state in states if state.get("name") == container_name), {})
    running = _map(state.get("state")).get("running")
    conditions = {c.get("type"): c.get("status") for c in map(_map, _list(status.get("conditions")))
                  if isinstance(c.get("type"), str)}  # fmt: skip
    gates = (_text(_map(gate).get("conditionType")) for gate in _list(spec.get("readinessGates")))
    restarts = state.get("restartCount")
    namespace, name = _text(metadata.get("namespace")) or "", _text(metadata.get("name")) or ""
    return PodDescription(
        key=f"{namespace}/{name}",
        uid=_text(metadata.get("uid")) or "",
        namespace=namespace,
        name=name,
        ip=_text(status.get("podIP")),
        node=_text(spec.get("nodeName")),
        labels=MappingProxyType(labels),
        phase=_text(status.get("phase")) or "",
        terminating=bool(metadata.get("deletionTimestamp")),
        ready=conditions.get("Ready") == "True",
        containers_ready=conditions.get("ContainersReady") == "True",
        readiness_gates=tuple(gate for gate in gates if gate),
        container=container_name,
        container_id=_text(state.get("containerID")),
        container_started_at=_text(_map(running).get("startedAt")),
        container_running=isinstance(running, Mapping),
        restart_count=restarts if isinstance(restarts, int) else 0,
        probed_ready=conditions.get("Ready") == "True" and bool(container.get("readinessProbe")),
        release_hint=_tag(_text(container.get("image")) or ""),
        base_models=limits.base_models(),
        port=limits.number("port", "port", defaults.port, 65535),
        memory_bytes=limits.memory_bytes(),
        max_loras=max_loras,
        max_cpu_loras=max_cpu_loras,
        max_lora_rank=limits.number("max-lora-rank", "max-lora-rank", defaults.max_lora_rank, RANK_MAX),
        adapter_root=limits.adapter_root(),
        agent_port=limits.agent_port(containers),
        api_key_ref=_api_key(command),
        prefix_caching=command.switch("enable-prefix-caching") is not False or command.open_ended,
        opted_in=labels.get(POD_LABEL) == "enabled",
        lora_disabled=limits.lora_disabled(),
        problems=tuple(limits.problems[:PROBLEMS_MAX]),
    )


def containers_of(spec: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Those of a pod that go on running: its containers, and after them its native sidecars, which are init containers
    (Kubernetes 1.29): an agent, a proxy, or the engine itself."""
    first = [one for one in _list(spec.get("initContainers")) if _map(one).get("restartPolicy") == "Always"]
    return [one for one in (*_list(spec.get("containers")), *first) if isinstance(one, Mapping)]


class _Limits:
    """Reads limits one by one and collects what is wrong with them."""

    def __init__(
        self, annotations: Mapping[str, Any], command: EngineCommand, container: str, defaults: PodDefaults
    ) -> None:
        self._annotations = annotations
        self._command = command
        self._container = container
        self._defaults = defaults
        self.problems: list[str] = []

    def slots(self) -> tuple[int, int]:
        """max_loras and max_cpu_loras. vLLM does not start with fewer of the latter."""
        max_loras = self.number("max-loras", "max-loras", self._defaults.max_loras, LORAS_MAX)
        fallback = max(self._defaults.max_cpu_loras or max_loras, max_loras)
        max_cpu_loras = self.number("max-cpu-loras", "max-cpu-loras", fallback, LORAS_MAX)
        if max_cpu_loras < max_loras:
            self.problems.append(
                f"max-cpu-loras is {max_cpu_loras} and max-loras is {max_loras}: vLLM needs max-cpu-loras to be "
                f"at least max-loras; correct the annotations {GROUP}/max-cpu-loras and {GROUP}/max-loras, "
                "or vLLM's arguments"
            )
        return max_loras, max_cpu_loras

    def number(self, annotation: str, option: str, default: int, most: int) -> int:
        """A whole number from 1 to `most`."""
        expected = f"a whole number from 1 to {most}"

        def parse(text: str) -> int:
            text = text.strip()
            if not (text.isascii() and text.isdigit()) or len(text) > 12 or not 1 <= int(text) <= most:
                raise ValueError
            return int(text)

        annotated = self._annotation(annotation, parse, expected)
        if annotated is not None:
            return annotated
        if option not in self._command.options:
            return default
        value = self._command.value(option)
        if value is not None and is_hidden(value):
            self.problems.append(
                f"argument --{option} of container {self._container!r} is {_show(shown(value))!r}, which the pod does "
                f"not show; say the number in the annotation {GROUP}/{annotation}"
            )
            return default
        try:
            return parse(value or "")
        except ValueError:
            self.problems.append(
                f"argument --{option} of container {self._container!r} is {_show(value or '')!r}: expected {expected}"
            )
            return default

    def base_models(self) -> tuple[str, ...]:
        """The names that requests for the base model may use."""

        def parse(text: str) -> str:
            text = text.strip()
            if not text or len(text) > 512 or not text.isprintable() or "," in text:
                raise ValueError
            return text

        annotated = self._annotation("base-model", parse, "the name of one base model")
        if annotated is not None:
            return (annotated,)
        served = tuple(dict.fromkeys(self._command.options.get("served-model-name", ())))
        names = served or ((self._command.model,) if self._command.model else ())
        seen = tuple(name for name in names if name and not is_hidden(name))
        return seen or ((self._defaults.base_model,) if self._defaults.base_model else ())

    def memory_bytes(self) -> int | None:
        def parse(text: str) -> int:
            count = parse_quantity(text.strip())
            if not 0 < count <= MEMORY_BYTES_MAX:
                raise ValueError
            return count

        annotated = self._annotation("lora-memory", parse, "an amount of memory above zero, such as 2Gi or 500M")
        return self._defaults.memory_bytes if annotated is None else annotated

    def agent_port(self, containers: Sequence[Mapping[str, Any]]) -> int | None:
        """The port called `lora-agent` of any container, or what the annotation says."""

        def parse(text: str) -> int:
            if not (text.isascii() and text.isdigit()) or len(text) > 5 or not 1 <= int(text) <= 65535:
                raise ValueError
            return int(text)

        annotated = self._annotation("agent-port", parse, "a port, from 1 to 65535")
        if annotated is not None:
            return annotated
        for port in (port for container in containers for port in map(_map, _list(container.get("ports")))):
            number = port.get("containerPort")
            if port.get("name") == AGENT_PORT_NAME and isinstance(number, int) and 1 <= number <= 65535:
                return number
        return None

    def lora_disabled(self) -> str | None:
        """Why the engine loads no adapters, where that is certain; the annotation overrules what the pod looks like."""

        def parse(text: str) -> bool:
            return {"true": True, "false": False}[text.strip().lower()]

        annotated = self._annotation("lora-enabled", parse, "true or false")
        if annotated is not None:
            return None if annotated else f"annotation {GROUP}/lora-enabled is false"
        return _lora_disabled(self._command, self._container)

    def adapter_root(self) -> str:
        def parse(text: str) -> str:
            text = text.strip()
            if not text.startswith("/") or ".." in text.split("/") or not text.isprintable() or len(text) > 1024:
                raise ValueError
            return "/" + posixpath.normpath(text).lstrip("/")

        expected = "the absolute path at which the adapter volume is mounted in the container, without '..'"
        return self._annotation("adapter-root", parse, expected) or self._defaults.adapter_root

    def _annotation(self, name: str, parse: Callable[[str], T], expected: str) -> T | None:
        value = self._annotations.get(f"{GROUP}/{name}")
        if value is None:
            return None
        try:
            if isinstance(value, str):
                return parse(value)
        except (ValueError, KeyError, OverflowError):
            pass
        self.problems.append(f"annotation {GROUP}/{name} is {_show(str(value))!r}: expected {expected}")
        return None


def _api_key(command: EngineCommand) -> ApiKeyRef | None:
    """`--api-key` wins over the variable, as in vLLM. None where there is none, or where the pod does not show it."""
    value = command.value("api-key") or command.environment.values.get(API_KEY_VARIABLE) or ""
    if not value:
        return None
    if not is_hidden(value):
        return ApiKeyRef(literal=value)
    secret = command.secret(value)
    return ApiKeyRef(secret=secret) if secret is not None else None


def _lora_disabled(command: EngineCommand, container: str) -> str | None:
    """What the pod shows for certain; what the image may set is left for the engine to say."""
    enabled = command.switch("enable-lora")
    overrule = f'if it has it all the same, say so in the annotation {GROUP}/lora-enabled: "true"'
    if (enabled is False and not command.open_ended) or (enabled is None and command.visible):
        return f"container {container!r} runs vLLM without --enable-lora; add it to its arguments, or {overrule}"
    updating = command.environment.values.get(RUNTIME_UPDATING)
    if updating is not None and not is_hidden(updating) and updating.strip().lower() not in ("1", "true"):
        return f"container {container!r} has {RUNTIME_UPDATING}={_show(updating)!r}; set it to True, or {overrule}"
    return None


def _tag(image: str) -> str | None:
    tag = image.split("@", 1)[0].rsplit("/", 1)[-1].partition(":")[2]
    return tag or None


def _show(value: str) -> str:
    value = "".join(character if character.isprintable() else "?" for character in value[: VALUE_SHOWN_MAX + 1])
    return value if len(value) <= VALUE_SHOWN_MAX else value[: VALUE_SHOWN_MAX - 1] + "…"


def _map(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> list[Any] | tuple[Any, ...]:
    return value if isinstance(value, (list, tuple)) else ()


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
