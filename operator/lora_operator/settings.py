"""What a person can choose about the operator: flags of `lora-operator run`, each with an environment variable.

`Settings` is frozen and made once; modules take the values they need as arguments.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from lora_scheduler.policies import POLICIES

GROUP = "production-stack.vllm-project"
VERSION = "v1alpha1"
PLURAL = "loraadapters"
FINALIZER = f"{GROUP}/unload"
REFRESH_ANNOTATION = f"{GROUP}/refresh"
SERVED_ANNOTATION = f"{GROUP}/served-versions"
GATE = f"{GROUP}/adapters-loaded"
POD_LABEL = f"{GROUP}/lora"

ENVIRONMENT_PREFIX = "LORA_OPERATOR_"


class SettingsError(Exception):
    """A flag or environment variable has a value that cannot be used; the message says which and why."""


def _option(default: Any, text: str, kind: Any = str, **extra: Any) -> Any:
    metadata = {"help": text, "kind": kind, **extra}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class Settings:
    """All times are in seconds."""

    adapter_root: Path = _option(  # noqa: RUF009 - a Path is immutable
        Path("/adapters"),
        "folder of the shared adapter volume, as the operator sees it; pods say their own mount path in the annotation "
        "production-stack.vllm-project/adapter-root (default: the same path)",
        Path,
    )
    namespaces: tuple[str, ...] = _option((), "watch only these namespaces (repeat; default: all)", tuple)
    local_roots: tuple[str, ...] = _option(
        (), "folders that adapterSource type local may read from (repeat; default: any absolute path)", tuple
    )
    base_model_configs: tuple[str, ...] = _option(
        (),
        "NAME=PATH of a base model's config.json, so that adapters are checked against its layer shapes (repeat)",
        tuple,
    )
    policy: str = _option("balanced", "placement policy: balanced, binpack or spread", choices=tuple(sorted(POLICIES)))
    versioned_names: bool = _option(
        True,
        "on engine releases whose prefix cache is keyed by the adapter's name (0.12 to 0.30), serve a new version "
        "under an engine name of its own, shown in status as engineNames; off: those pods refuse such a roll-out",
        bool,
    )
    probe_seconds: float = _option(
        0.95, "time between two looks at a pod's /v1/models in a small fleet", float, least=0.05
    )
    probes_per_second: float = _option(60.0, "most looks per second over the whole fleet", float, least=0.1)
    probe_timeout: float = _option(2.0, "how long a pod may take to answer a look", float, least=0.05)
    hold_seconds: float = _option(
        10.0, "how long an engine may fail to answer before its adapters are placed elsewhere as well", float
    )
    load_timeout: float = _option(120.0, "how long an engine may take to load an adapter", float, least=0.1)
    unload_timeout: float = _option(30.0, "how long an engine may take to unload an adapter", float, least=0.1)
    withdraw_seconds: float = _option(
        0.5,
        "how long an adapter is out of status before it is unloaded from a pod, so that routers let go first",
        float,
    )
    retry_seconds: float = _option(
        1.0, "first delay after a failed load; doubles with every further failure", float, least=0.05
    )
    retry_max_seconds: float = _option(300.0, "longest delay between two attempts", float, least=0.05)
    fresh_concurrency: int = _option(8, "loads at a time on a pod that serves nobody yet", int, least=1)
    source_seconds: float = _option(10.0, "time between two looks at an adapter source", float, least=0.05)
    settle_seconds: float = _option(
        2.0, "how long changed files of a local source must be left alone before they count as a new version", float
    )
    demand_seconds: float = _option(
        10.0,
        "time between two looks at an engine's metrics, from which the demand of each adapter is measured (0: off, all "
        "adapters count the same)",
        float,
    )
    demand_half_life: float = _option(60.0, "how fast earlier demand fades from the measured one", float, least=0.1)
    relist_seconds: float = _option(300.0, "time between two full lists of resources and pods", float, least=1.0)
    finalizer_seconds: float = _option(
        60.0, "how long the deletion of a LoraAdapter waits for engines that do not answer", float
    )
    retain_seconds: float = _option(3600.0, "how long files that no pod has loaded stay in the adapter volume", float)
    status_quiet_seconds: float = _option(
        0.25, "how long an intermediate state must last before it is written into status", float
    )
    plan_max_age: float = _option(60.0, "age of the last plan from which /healthz answers 503", float, least=20.0)
    host: str = _option("0.0.0.0", "address to serve health and metrics on")  # noqa: S104 - kubelet and scrapers come from outside
    health_port: int = _option(8081, "port of /healthz and /readyz (0: off)", int, most=65535)
    metrics_port: int = _option(8080, "port of /metrics (0: off)", int, most=65535)
    log_format: str = _option("json", "json or console", choices=("json", "console"))
    log_level: str = _option("info", "debug, info, warning or error", choices=("debug", "info", "warning", "error"))
    kubeconfig: str = _option("", "kubeconfig file (default: in-cluster account, then KUBECONFIG, then ~/.kube/config)")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add one flag per setting; its help names the environment variable and the default."""
    for item in fields(Settings):
        flag = "--" + item.name.replace("_", "-")
        if item.name in ("namespaces", "local_roots", "base_model_configs"):
            flag = flag.removesuffix("s")
        default = "" if item.default in ((), "") else f" (default: {item.default})"
        text = f"{item.metadata['help']}{default} [{ENVIRONMENT_PREFIX}{item.name.upper()}]".replace("%", "%%")
        kind = item.metadata["kind"]
        common: dict[str, Any] = {"dest": item.name, "default": None, "help": text}
        if kind is tuple:
            parser.add_argument(flag, action="append", metavar="VALUE", **common)
        elif kind is bool:
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, **common)
        else:
            parser.add_argument(flag, choices=item.metadata.get("choices"), type=kind, **common)


def from_arguments(arguments: argparse.Namespace, environment: Mapping[str, str] | None = None) -> Settings:
    """Flags win over the environment, the environment over defaults.

    Raises:
        SettingsError: a value cannot be converted or makes no sense.
    """
    environment = os.environ if environment is None else environment
    values: dict[str, Any] = {}
    for item in fields(Settings):
        value = getattr(arguments, item.name, None)
        origin = "--" + item.name.replace("_", "-")
        if value is None:
            origin = ENVIRONMENT_PREFIX + item.name.upper()
            text = environment.get(origin)
            if text is None:
                continue
            value = _convert(origin, text, item.metadata["kind"])
        if isinstance(value, list):
            value = tuple(value)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            _check_number(origin, value, item.metadata.get("least", 0), item.metadata.get("most"))
        choices: Sequence[str] | None = item.metadata.get("choices")
        if choices and value not in choices:
            raise SettingsError(f"{origin}: {value!r} is none of {', '.join(choices)}")
        values[item.name] = value
    settings = Settings(**values)
    if not settings.adapter_root.is_absolute():
        raise SettingsError(f"--adapter-root: {settings.adapter_root} is not an absolute path")
    if not all(settings.namespaces):
        raise SettingsError("--namespace: a namespace's name is empty; leave the flag out to watch all namespaces")
    for entry in settings.base_model_configs:
        if "=" not in entry:
            raise SettingsError(f"--base-model-config: {entry!r} is not NAME=PATH")
    return settings


def _check_number(origin: str, value: float, least: float, most: float | None) -> None:
    if not math.isfinite(value) or value < least:
        raise SettingsError(f"{origin}: {value} cannot be used; give {least:g} or more")
    if most is not None and value > most:
        raise SettingsError(f"{origin}: {value} is too much; give at most {most:g}")


def _convert(origin: str, text: str, kind: Any) -> Any:
    if kind is tuple:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if kind is bool:
        if text.lower() not in ("true", "false", "1", "0"):
            raise SettingsError(f"{origin}: {text!r} is neither true nor false")
        return text.lower() in ("true", "1")
    try:
        return kind(text)
    except ValueError as error:
        raise SettingsError(f"{origin}: {text!r} is not a {kind.__name__}") from error
