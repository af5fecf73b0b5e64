"""The limits of a pod, one by one, and what is wrong with them. Pure.

Each comes from the first of: the pod's annotation, vLLM's command line in the container, the operator's default.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from lora_operator.api.endpoint import Scheme
from lora_operator.api.quantity import parse_quantity
from lora_operator.api.well_known import GROUP
from lora_operator.informers.loose_json import listing, mapping, text
from lora_operator.informers.pod_ports import RANKS_MAX, engine_port, is_probed_by_tls, ranks
from lora_operator.vllm.command import EngineCommand
from lora_operator.vllm.hidden import is_hidden, shown

AGENT_PORT_NAME = "lora-agent"
LORAS_MAX = 100_000
RANK_MAX = 4096
PORT_MAX = 65535
MEMORY_BYTES_MAX = 2**62
VALUE_SHOWN_MAX = 60

T = TypeVar("T")


class Naming(StrEnum):
    """Who says what a pod's base model is called."""

    ANNOTATION = "Annotation"
    COMMAND = "Command"
    DEFAULT = "Default"  # the operator's; its engine knows better


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


class Limits:
    """Reads limits one by one and collects what is wrong with them."""

    def __init__(
        self,
        annotations: Mapping[str, Any],
        command: EngineCommand,
        container: Mapping[str, Any],
        defaults: PodDefaults,
    ) -> None:
        self._annotations = annotations
        self._command = command
        self._container = container
        self._name = text(container.get("name")) or ""
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
        expected, parse = _expected(most), _whole(most)
        annotated = self._annotation(annotation, parse, expected)
        if annotated is not None:
            return annotated
        return self._argument(annotation, option, default, most)

    def _argument(self, annotation: str, option: str, default: int, most: int) -> int:
        expected, parse = _expected(most), _whole(most)
        if option not in self._command.options:
            return default
        value = self._command.value(option)
        if value is not None and is_hidden(value):
            self.problems.append(
                f"argument --{option} of container {self._name!r} is {_short(shown(value))!r}, which the pod does "
                f"not show; say the number in the annotation {GROUP}/{annotation}"
            )
            return default
        try:
            return parse(value or "")
        except ValueError:
            self.problems.append(
                f"argument --{option} of container {self._name!r} is {_short(value or '')!r}: expected {expected}"
            )
            return default

    def ports(self) -> tuple[int, ...]:
        """One for each server: the annotation's, or vLLM's argument, or where that does not show it, what the kubelet's
        probes and the container's ports do; with those of further ranks behind it."""
        expected = (
            f"{_expected(PORT_MAX)}, or a range such as 8200-8207 (one server for each rank, {RANKS_MAX} at most)"
        )
        annotated = self._annotation("port", _ports, expected)
        if annotated is not None and len(annotated) > 1:
            return annotated
        value = self._command.value("port")
        unseen = is_hidden(value) if value is not None else not self._command.visible
        first = annotated[0] if annotated else engine_port(self._container) if unseen else None
        first = first or self._argument("port", "port", self._defaults.port, PORT_MAX)
        return tuple(range(first, min(first + (ranks(self._command) or 1), PORT_MAX + 1)))

    def base_models(self) -> tuple[tuple[str, ...], Naming]:
        """The names that requests for the base model may use, and who says so."""

        def parse(text: str) -> str:
            text = text.strip()
            if not text or len(text) > 512 or not text.isprintable() or "," in text:
                raise ValueError
            return text

        annotated = self._annotation("base-model", parse, "the name of one base model")
        if annotated is not None:
            return (annotated,), Naming.ANNOTATION
        served = tuple(dict.fromkeys(self._command.options.get("served-model-name", ())))
        names = served or ((self._command.model,) if self._command.model else ())
        seen = tuple(name for name in names if name and not is_hidden(name))
        if seen:
            return seen, Naming.COMMAND
        return ((self._defaults.base_model,) if self._defaults.base_model else ()), Naming.DEFAULT

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
        for port in (port for container in containers for port in map(mapping, listing(container.get("ports")))):
            number = port.get("containerPort")
            if port.get("name") == AGENT_PORT_NAME and isinstance(number, int) and 1 <= number <= 65535:
                return number
        return None

    def lora_enabled(self) -> bool | None:
        """What the annotation says, which overrules what the pod looks like."""

        def parse(text: str) -> bool:
            return {"true": True, "false": False}[text.strip().lower()]

        return self._annotation("lora-enabled", parse, "true or false")

    def target_modules(self) -> frozenset[str] | None:
        """The modules to which the engine applies adapters; None for all, or where it is not known."""

        annotated = self._annotation("lora-target-modules", _names, "names of modules with commas between them, or *")
        if annotated is not None:
            return None if "*" in annotated else annotated
        words = self._command.options.get("lora-target-modules", ())
        return frozenset(words) if words and not any(map(is_hidden, words)) else None

    def honoured_features(self) -> frozenset[str]:
        """Features of adapters that the engine serves, whatever its release is known for."""
        return self._annotation("lora-features", _names, "names of features with commas between them") or frozenset()

    def scheme(self) -> Scheme:
        """How the engine is spoken to: the annotation, vLLM's own certificate, or how the kubelet speaks to it."""
        annotated = self._annotation("scheme", lambda text: Scheme(text.strip().lower()), "http or https")
        if annotated is not None:
            return annotated
        secure = "ssl-certfile" in self._command.options or is_probed_by_tls(self._container)
        return Scheme.HTTPS if secure else Scheme.HTTP

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
        self.problems.append(f"annotation {GROUP}/{name} is {_short(str(value))!r}: expected {expected}")
        return None


def _expected(most: int) -> str:
    return f"a whole number from 1 to {most}"


def _whole(most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        text = text.strip()
        if not (text.isascii() and text.isdigit()) or len(text) > 12 or not 1 <= int(text) <= most:
            raise ValueError
        return int(text)

    return parse


def _ports(text: str) -> tuple[int, ...]:
    first, _, last = text.partition("-")
    begin = _whole(PORT_MAX)(first)
    end = _whole(PORT_MAX)(last) if last else begin
    if not begin <= end < begin + RANKS_MAX or text.endswith("-"):
        raise ValueError
    return tuple(range(begin, end + 1))


def _names(text: str) -> frozenset[str]:
    names = frozenset(filter(None, (name.strip() for name in text.split(","))))
    if not names or len(text) > 4096 or not text.isprintable():
        raise ValueError
    return names


def _short(value: str) -> str:
    value = "".join(character if character.isprintable() else "?" for character in value[: VALUE_SHOWN_MAX + 1])
    return value if len(value) <= VALUE_SHOWN_MAX else value[: VALUE_SHOWN_MAX - 1] + "…"
