"""On which ports an engine listens: how many servers its command line asks for, and where it does not tell, what the
kubelet's probes of its container and the ports that this names do. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lora_operator.informers.loose_json import listing, mapping, text
from lora_operator.vllm.command import EngineCommand

# With it vLLM runs a server for each local rank, on ports one after the other (read: 0.33).
A_PORT_FOR_EACH_RANK = "data-parallel-multi-port-external-lb"
RANKS_MAX = 64  # on one pod

_PROBES = ("readinessProbe", "startupProbe", "livenessProbe")
_OWN_PATHS = ("/health", "/v1/models", "/ping", "/version")
_NAMES = ("http", "https", "http1", "http-port", "user-port", "user-http", "api", "openai", "vllm", "serving", "serve",
          "engine", "container-port", "http-api", "web")  # fmt: skip


def engine_port(container: Mapping[str, Any]) -> int | None:
    """The port that the pod shows for its engine; None where it shows none, or several without telling them apart."""
    probes = [mapping(container.get(name)) for name in _PROBES]
    requests = [mapping(probe.get("httpGet")) for probe in probes]
    own = [request for request in requests if text(request.get("path")) in _OWN_PATHS]
    sockets = [mapping(probe.get("tcpSocket")) for probe in probes]
    ports = dict(_named(container))
    for asked in (*own, *requests, *sockets):
        port = asked.get("port")
        number = ports.get(port) if isinstance(port, str) and not port.isdigit() else _number(port)
        if number is not None:
            return number
    named = [number for name, number in ports.items() if name.lower() in _NAMES]
    if named:
        return named[0]
    numbers = {number for _, number in _named(container)}
    return numbers.pop() if len(numbers) == 1 else None


def ranks(command: EngineCommand) -> int | None:
    """How many servers the engine has, each on a port of its own; None where the command line does not tell."""
    if not command.switch(A_PORT_FOR_EACH_RANK):
        return 1
    local = command.value("data-parallel-size-local") or command.value("dpl") or ""
    count = int(local) if local.isascii() and local.isdigit() and len(local) < 4 else 0
    return count if 1 <= count <= RANKS_MAX else None


def is_probed_by_tls(container: Mapping[str, Any]) -> bool:
    """Whether the kubelet speaks TLS to the container."""
    probes = (mapping(mapping(container.get(name)).get("httpGet")) for name in _PROBES)
    return any(probe.get("scheme") == "HTTPS" for probe in probes)


def _named(container: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    for index, port in enumerate(map(mapping, listing(container.get("ports")))):
        number = _number(port.get("containerPort"))
        if number is not None and port.get("protocol", "TCP") == "TCP":
            yield text(port.get("name")) or f"({index})", number


def _number(port: object) -> int | None:
    if isinstance(port, str) and port.isascii() and port.isdigit() and len(port) <= 5:
        port = int(port)
    if isinstance(port, int) and not isinstance(port, bool) and 1 <= port <= 65535:
        return port
    return None
