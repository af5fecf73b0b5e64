"""What a person can choose about the router: flags of `lora-operator router`, each with an environment variable."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module

from lora_operator.api.well_known import ROUTER_PORT
from lora_operator.settings.options import HOST_HELP, SettingsError, option, read_options, size
from lora_operator.settings.routing_rules import (
    POLICY_HELP,
    POLICY_NAMES,
    PREFIX_BLOCKS,
    PREFIX_HELP,
    THRESHOLD_HELP,
    WEIGHTS_HELP,
    rules_of,
)

ENVIRONMENT_PREFIX = "LORA_ROUTER_"


@dataclass(frozen=True, slots=True)
class RouterSettings:
    """All times are in seconds."""

    namespaces: tuple[str, ...] = option((), "watch only these namespaces (repeat; default: all)", tuple)
    host: str = option("", f"address to serve on{HOST_HELP}")
    port: int = option(ROUTER_PORT, "port of the router API", int, least=1, most=65535)
    heartbeat_seconds: float = option(10.0, "time between two events on a quiet stream", float, least=0.05)
    slow_seconds: float = option(
        10.0, "how long a client of the stream may leave its socket full before it is cut off", float, least=0.05
    )
    load_seconds: float = option(
        1.0, "time between two looks at an engine's metrics, from which picks know how busy each pod is (0: off, only "
        "what was handed out counts)", float, most=4.0,
    )  # fmt: skip
    routing_policy: str = option("lora-affinity", POLICY_HELP, choices=POLICY_NAMES)
    routing_threshold: float = option(0.999, THRESHOLD_HELP, float, most=1.0)
    routing_weights: str = option("", WEIGHTS_HELP)
    prefix_blocks: int = option(PREFIX_BLOCKS, PREFIX_HELP, int)
    session_header: str = option(
        "x-session-id", "header of requests through the picker that says which belong together (empty: none; a body's "
        "prompt_cache_key and user do so as well)",
    )  # fmt: skip
    embedding_model: str = option(
        "", "folder of a sentence-transformers model, by which POST /v1/select compares texts by meaning; needs the "
        "extra semantic, and 1 GB of memory (default: none, it compares keywords)",
    )  # fmt: skip
    streams: int = option(1000, "most change streams at a time", int, least=1)
    change_log: int = option(20_000, "changes that are kept for streams to be resumed from", int, least=1)
    requests_namespace: str = option(
        "", "as of `lora-operator run`: namespace of the ConfigMap lora-operator-requests (default: that of this pod, "
        "else lora-operator-system)",
    )  # fmt: skip
    on_demand_seconds: float = option(
        300.0, "as of `lora-operator run`: how long an adapter with loadOnStartup: false is wanted after it was asked "
        "for; the record of one that is in use is renewed each third of it", float, least=1.0,
    )  # fmt: skip
    relist_seconds: float = option(300.0, "time between two full lists of resources and pods", float, least=1.0)
    picker_port: int = option(0, "port of the endpoint picker for Envoy (0: off)", int, most=65535)
    picker_namespace: str = option(
        "", "the only namespace whose adapters the picker serves (default: what the header x-lora-namespace says, or "
        "the one that has an adapter of the name)"
    )  # fmt: skip
    picker_wait_seconds: float = option(
        30.0, "how long a request waits for an adapter that is loaded on demand", float, most=120.0
    )
    picker_body_bytes: int = option(
        16 << 20, "largest body of a request through the picker, for example 16Mi", size, least=1
    )
    picker_endpoints: int = option(
        1, "most endpoints in an answer; more than one only for gateways that try them in turn", int, least=1, most=16
    )
    picker_auto_model: str = option(
        "auto", "model that stands for a choice: the request is answered by the adapter that it is for by its text, as "
        "spec.selection of LoraAdapters says, unless something really has this name (empty: none)",
    )  # fmt: skip
    picker_auto_default: str = option(
        "", "model that answers such a request where no adapter fits (default: their base model, if all have one)"
    )
    picker_owner_claim: str = option(
        "", "claim of the token that names the owner of the adapters that may be asked for; a gateway has verified the "
        "token and shows it in the metadata of Envoy's jwt_authn, key `token` (default: everybody may ask for all)"
    )  # fmt: skip
    picker_owner_prefix: str = option(
        "", "put before what that claim says, such as u. (then nobody can be called like a namespace); the library's "
        "--oidc-subject-prefix has to be the same",
    )  # fmt: skip
    picker_keys: str = option(
        "", "instead, folder of API keys: each file is named like an owner and has the owner's keys, one a line"
    )
    picker_shared_owners: tuple[str, ...] = option((), "owner whose adapters all may ask for (repeat)", tuple)
    picker_tls_cert: str = option("", "certificate that the picker shows, a PEM file that may be renewed in place")
    picker_tls_key: str = option("", "its private key, a PEM file")
    picker_self_signed: bool = option(
        False, "show a certificate that is made at the start, for gateways that encrypt and do not check it", bool
    )
    picker_drain_seconds: float = option(
        5.0, "how long the picker goes on answering after SIGTERM while it says that it is not ready", float, most=300.0
    )
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
    rules_of(settings.routing_policy, settings.routing_threshold, settings.routing_weights)
    if settings.picker_port:
        _check_picker(settings)
    return settings


def _check_picker(settings: RouterSettings) -> None:
    """Raises SettingsError."""
    try:
        for library in ("cryptography", "google.protobuf.message", "grpclib.server"):
            import_module(library)
    except ImportError as error:
        text = f"--picker-port: a library is missing ({error}); install the extra: pip install 'lora-operator[envoy]'"
        raise SettingsError(text) from error
    if settings.picker_owner_claim and settings.picker_keys:
        raise SettingsError("--picker-owner-claim and --picker-keys: owners are known by one of them; give one")
    if settings.picker_port == settings.port:
        raise SettingsError(f"--picker-port: {settings.port} is the port of the router API; choose another")
    if bool(settings.picker_tls_cert) != bool(settings.picker_tls_key):
        raise SettingsError("--picker-tls-cert and --picker-tls-key belong together; give both or neither")
    if settings.picker_tls_cert and settings.picker_self_signed:
        raise SettingsError("--picker-self-signed: there is a certificate in --picker-tls-cert; give one of the two")
    if settings.picker_namespace and settings.namespaces and settings.picker_namespace not in settings.namespaces:
        raise SettingsError(
            f"--picker-namespace: {settings.picker_namespace} is not watched; name it with --namespace too"
        )
