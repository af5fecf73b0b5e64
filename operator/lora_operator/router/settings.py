"""What a person can choose about the router: flags of `lora-operator router`, each with an environment variable."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass

from lora_operator.options import SettingsError, option, read_options

ENVIRONMENT_PREFIX = "LORA_ROUTER_"
PORT = 8082


@dataclass(frozen=True, slots=True)
class RouterSettings:
    """All times are in seconds."""

    namespaces: tuple[str, ...] = option((), "watch only these namespaces (repeat; default: all)", tuple)
    host: str = option("0.0.0.0", "address to serve on")  # noqa: S104 - routers come from outside
    port: int = option(PORT, "port of the router API", int, least=1, most=65535)
    heartbeat_seconds: float = option(10.0, "time between two events on a quiet stream", float, least=0.05)
    slow_seconds: float = option(
        10.0, "how long a client of the stream may leave its socket full before it is cut off", float, least=0.05
    )
    load_seconds: float = option(
        1.0, "time between two looks at an engine's metrics, from which picks know how busy each pod is (0: off, only "
        "what was handed out counts)", float, most=4.0,
    )  # fmt: skip
    streams: int = option(1000, "most change streams at a time", int, least=1)
    change_log: int = option(20_000, "changes that are kept for streams to be resumed from", int, least=1)
    relist_seconds: float = option(300.0, "time between two full lists of resources and pods", float, least=1.0)
    log_format: str = option("json", "json or console", choices=("json", "console"))
    log_level: str = option("info", "debug, info, warning or error", choices=("debug", "info", "warning", "error"))
    kubeconfig: str = option("", "kubeconfig file (default: in-cluster account, then KUBECONFIG, then ~/.kube/config)")


def from_arguments(arguments: argparse.Namespace, environment: Mapping[str, str] | None = None) -> RouterSettings:
    """See `read_options`.

    Raises:
        SettingsError: a value cannot be converted or makes no sense.
    """
    settings = read_options(RouterSettings, arguments, environment, ENVIRONMENT_PREFIX)
    if not all(settings.namespaces):
        raise SettingsError("--namespace: a namespace's name is empty; leave the flag out to watch all namespaces")
    return settings
