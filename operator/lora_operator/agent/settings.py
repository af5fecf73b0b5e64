"""What a person can choose about the agent: flags of `lora-operator agent`, each with an environment variable."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lora_operator.cache.policies import POLICIES
from lora_operator.process.authorities import check_ca_file
from lora_operator.settings.options import ENDPOINT_HELP, HOST_HELP, SettingsError, option, read_options, size

ENVIRONMENT_PREFIX = "LORA_AGENT_"


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """All times are in seconds."""

    root: Path = option(  # noqa: RUF009 - a Path is immutable
        Path("/adapters"), "folder of the adapters, the same volume that the vLLM container mounts", Path
    )
    token_file: str = option("", "file with the token that the operator sends, most often a mounted Secret (required)")
    pod: str = option("", "namespace/name of this pod (required; from the downward API)")
    pod_uid: str = option(
        "", "uid of this pod (from the downward API): an agent that starts anew knows by it that its pod was open"
    )
    engine_port: int = option(8000, "port of vLLM in this pod; 0: do not look whether it listens", int, most=65535)
    ready_seconds: float = option(
        60.0, "/readyz says yes at the latest so long after vLLM listens, whatever adapters are lacking", float
    )
    silence_seconds: float = option(
        30.0, "and so long after it where the operator says nothing (it repeats itself every 5 s)", float, least=6
    )
    cache_bytes: int = option(50 << 30, "how much the folder may hold, for example 50Gi", size, least=1)
    ttl: float = option(7 * 86400.0, "how long a version that nobody uses stays", float, least=60)
    cache_policy: str = option("lru", "which version goes first where room is needed", choices=tuple(sorted(POLICIES)))
    bytes_per_second: int | None = option(
        None, "most bytes per second that this agent fetches, for example 100M (default: no limit)", size, least=1
    )
    connections: int = option(16, "requests at a time, over all fetches", int, least=1, most=1024)
    allowed_hosts: tuple[str, ...] = option(
        (), "hosts that adapters may come from, *.example.com for all below (repeat; default: any)", tuple
    )
    deny_private: bool = option(
        False, "fetch from addresses of the open internet only, but for private hosts (cloud metadata: never)", bool
    )
    private_hosts: tuple[str, ...] = option(
        (), "hosts that adapters may come from though their addresses are private (repeat)", tuple
    )
    ca_file: str = option(
        "", "PEM file with certificates of authorities that are believed beside the system's, for stores that adapters "
        "come from (default: none; read again when it changes)",
    )  # fmt: skip
    host: str = option("", f"address to listen on{HOST_HELP}")
    port: int = option(8090, "port to listen on; call the container's port lora-agent", int, least=1, most=65535)
    otlp_endpoint: str = option("", ENDPOINT_HELP)
    log_format: str = option("json", "json or console", choices=("json", "console"))
    log_level: str = option("info", "debug, info, warning or error", choices=("debug", "info", "warning", "error"))


def from_arguments(arguments: argparse.Namespace, environment: Mapping[str, str] | None = None) -> AgentSettings:
    """See `read_options`.

    Raises:
        SettingsError: a value is missing, cannot be converted or makes no sense.
    """
    settings = read_options(AgentSettings, arguments, environment, ENVIRONMENT_PREFIX)
    if not settings.root.is_absolute():
        raise SettingsError(f"--root: {settings.root} is not an absolute path")
    if not settings.token_file:
        raise SettingsError("--token-file is missing: name the file with the token that the operator sends")
    namespace, _, name = settings.pod.partition("/")
    if not namespace or not name or "/" in name:
        raise SettingsError(f"--pod: {settings.pod!r} is not namespace/name of the pod that this agent is in")
    if not re.fullmatch(r"[A-Za-z0-9-]{0,64}", settings.pod_uid, re.ASCII):
        raise SettingsError(f"--pod-uid: {settings.pod_uid[:80]!r} is no uid of a pod")
    try:
        check_ca_file(settings.ca_file)
    except ValueError as error:
        raise SettingsError(f"--ca-file: {error}") from error
    return settings
