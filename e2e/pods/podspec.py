"""From a pod's specification to what its containers are started with. Pure: folders and addresses come in as values."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.pods.programs import Program
from e2e.pods.volumes import parts_of

Json = dict[str, Any]
_REFERENCE = re.compile(r"\$(\$)?\(([A-Za-z_][A-Za-z0-9_.-]*)\)")
_FIELDS = {
    "metadata.name": lambda pod, ip: pod["metadata"]["name"],
    "metadata.namespace": lambda pod, ip: pod["metadata"]["namespace"],
    "metadata.uid": lambda pod, ip: pod["metadata"]["uid"],
    "spec.nodeName": lambda pod, ip: pod["spec"].get("nodeName", ""),
    "spec.serviceAccountName": lambda pod, ip: pod["spec"].get("serviceAccountName", ""),
    "status.podIP": lambda pod, ip: ip,
    "status.hostIP": lambda pod, ip: ip,
}


class SpecError(Exception):
    """A container asks for something that is not there or not played; the message says what."""


@dataclass(frozen=True, slots=True)
class Liveness:
    """What is asked of a container that has started, and when it is ended for not answering."""

    url: str
    period_seconds: float
    timeout_seconds: float
    failure_threshold: int
    grace_seconds: float  # of its end

    @classmethod
    def of(cls, pod: Json, container: Json, ip: str) -> Liveness | None:
        """None where the container has no probe by HTTP."""
        probe = container.get("livenessProbe") or {}
        if (url := _url(container, probe, ip)) is None:
            return None
        grace = probe.get("terminationGracePeriodSeconds", pod["spec"].get("terminationGracePeriodSeconds", 30))
        return cls(
            url,
            period_seconds=float(probe.get("periodSeconds") or 10),
            timeout_seconds=float(probe.get("timeoutSeconds") or 1),
            failure_threshold=int(probe.get("failureThreshold") or 3),
            grace_seconds=float(grace),
        )


@dataclass(frozen=True, slots=True)
class Launch:
    """What one container is started with. `probe` is the URL to ask for readiness, None where running is enough;
    `startup` the one that has to answer before that is asked."""

    command: tuple[str, ...]
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    probe: str | None
    failure_threshold: int
    startup: str | None = None
    liveness: Liveness | None = None


def sidecars_of(pod: Json) -> list[Json]:
    """Its native sidecars, in the order in which they are started. Other init containers are not played."""
    return [item for item in pod["spec"].get("initContainers") or [] if item.get("restartPolicy") == "Always"]


def folder_of(pod: Json) -> str:
    """The name of the pod's own folder: readable, and different for every pod that ever was."""
    metadata = pod["metadata"]
    return f"{metadata['namespace']}_{metadata['name']}_{metadata['uid']}"


def own_folders(pod: Json, directory: Path) -> dict[str, Path]:
    """Volume name -> the folder that an emptyDir, or a volume of Secrets and ConfigMaps, is inside the pod's own."""
    names = [item["name"] for item in pod["spec"].get("volumes") or [] if "emptyDir" in item]
    return {name: directory / "volumes" / name for name in (*names, *parts_of(pod))}


def references(pod: Json) -> list[tuple[str, str, bool]]:
    """The Secrets and ConfigMaps that variables and volumes come from: (kind, name, optional), each once."""
    found: dict[tuple[str, str], bool] = {}
    for part in (part for parts in parts_of(pod).values() for part in parts):
        key = (part.kind, part.name)
        found[key] = found.get(key, True) and part.optional
    for container in (*sidecars_of(pod), *pod["spec"]["containers"]):
        for item in container.get("env") or []:
            for kind, field in (("secrets", "secretKeyRef"), ("configmaps", "configMapKeyRef")):
                if reference := (item.get("valueFrom") or {}).get(field):
                    key = (kind, reference["name"])
                    found[key] = found.get(key, True) and bool(reference.get("optional"))
    return [(kind, name, optional) for (kind, name), optional in found.items()]


def launch(
    pod: Json,
    container: Json,
    program: Program,
    *,
    ip: str,
    directory: Path,
    sources: Mapping[tuple[str, str], Json],
) -> Launch:
    """What to start for `container`. `sources`: (secrets or configmaps, name) -> the object.

    Raises:
        SpecError: an environment variable refers to what is not there.
    """
    paths = _paths(pod, container, directory)
    environment: dict[str, str] = {}
    for item in container.get("env") or []:
        value = _value(pod, item, ip, sources)
        if value is not None:
            environment[item["name"]] = _moved(_expanded(value, environment), paths)
    arguments = [_moved(_expanded(word, environment), paths) for word in container.get("args") or []]
    port = int(_option(arguments, "--port") or program.port)
    own = None if program.probe_path is None else f"http://{ip}:{port}{program.probe_path}"
    readiness = container.get("readinessProbe") or {}
    return Launch(
        command=program.command,
        arguments=(*arguments, "--host", ip),
        environment=environment,
        probe=_url(container, readiness, ip) or own,
        failure_threshold=int(readiness.get("failureThreshold") or 3),
        startup=_url(container, container.get("startupProbe") or {}, ip),
        liveness=Liveness.of(pod, container, ip),
    )


def _url(container: Json, probe: Json, ip: str) -> str | None:
    """What a probe asks for by HTTP; other kinds of probes are not played."""
    http = probe.get("httpGet")
    return f"http://{ip}:{_port(container, http['port'])}{http.get('path') or '/'}" if http else None


def _paths(pod: Json, container: Json, directory: Path) -> list[tuple[str, str]]:
    """(path in the container, path on this machine) for mounts where the two differ, the longest first."""
    own = own_folders(pod, directory)
    hosts = {item["name"]: item["hostPath"]["path"] for item in pod["spec"].get("volumes") or [] if "hostPath" in item}
    real = {**hosts, **{name: str(path) for name, path in own.items()}}
    mounts = container.get("volumeMounts") or []
    pairs = [
        (m["mountPath"].rstrip("/"), f"{real[m['name']]}/{m.get('subPath', '')}".rstrip("/"))
        for m in mounts
        if m["name"] in real
    ]
    return sorted((pair for pair in pairs if pair[0] != pair[1]), key=lambda pair: -len(pair[0]))


def _moved(text: str, paths: list[tuple[str, str]]) -> str:
    if not paths:
        return text
    there = dict(paths)
    # only whole path elements count: /data in /data/a and in --dir=/data, but not in /database or /srv/data
    pattern = r"(?<![\w./-])(" + "|".join(re.escape(path) for path, _ in paths) + r")(?![\w.-])"
    return re.sub(pattern, lambda match: there[match.group(1)], text)


def _value(pod: Json, item: Json, ip: str, sources: Mapping[tuple[str, str], Json]) -> str | None:
    source = item.get("valueFrom")
    if not source:
        return str(item.get("value", ""))
    if field := source.get("fieldRef"):
        return _field(pod, field["fieldPath"], ip)
    for kind, name in (("secrets", "secretKeyRef"), ("configmaps", "configMapKeyRef")):
        if reference := source.get(name):
            found = sources.get((kind, reference["name"]), {}).get("data") or {}
            if reference["key"] in found:
                text = str(found[reference["key"]])
                return base64.b64decode(text).decode() if kind == "secrets" else text
            if reference.get("optional"):
                return None
            raise SpecError(
                f"variable {item['name']}: {kind.removesuffix('s')} {reference['name']} has no key {reference['key']}"
            )
    raise SpecError(f"variable {item['name']}: valueFrom {', '.join(source)} is not played here")


def _field(pod: Json, path: str, ip: str) -> str:
    if path in _FIELDS:
        return str(_FIELDS[path](pod, ip))
    if match := re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path):
        return str((pod["metadata"].get(match[1]) or {}).get(match[2], ""))
    raise SpecError(f"field {path} is not played here; known are {', '.join(_FIELDS)}, labels and annotations")


def _expanded(text: str, environment: Mapping[str, str]) -> str:
    """`$(NAME)` as Kubernetes expands it: unknown names stay, `$$(NAME)` is `$(NAME)`."""
    return _REFERENCE.sub(lambda m: f"$({m[2]})" if m[1] else environment.get(m[2], m[0]), text)


def _option(arguments: list[str], name: str) -> str | None:
    for position, word in enumerate(arguments):
        if word == name and position + 1 < len(arguments):
            return arguments[position + 1]
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
    return None


def _port(container: Json, port: int | str) -> int:
    if isinstance(port, int) or port.isdigit():
        return int(port)
    for item in container.get("ports") or []:
        if item.get("name") == port:
            return int(item["containerPort"])
    raise SpecError(f"container {container['name']} has no port named {port!r}")
