"""What a person can choose about the operator: flags of `lora-operator run`, each with an environment variable.

`Settings` is frozen and made once; modules take the values they need as arguments.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lora_operator.api.quota import Quota, parse_quota
from lora_operator.api.well_known import ROUTER_PORT
from lora_operator.process.authorities import check_ca_file
from lora_operator.settings.options import (
    ENDPOINT_HELP,
    HOST_HELP,
    SettingsError,
    add_options,
    option,
    read_options,
    size,
)
from lora_operator.settings.routing_rules import (
    POLICY_HELP,
    POLICY_NAMES,
    PREFIX_BLOCKS,
    PREFIX_HELP,
    THRESHOLD_HELP,
    WEIGHTS_HELP,
    rules_of,
)
from lora_scheduler import Policy
from lora_scheduler.policies import POLICIES

__all__ = ["Settings", "SettingsError", "add_arguments", "from_arguments"]


@dataclass(frozen=True, slots=True)
class Settings:
    """All times are in seconds."""

    adapter_root: Path = option(  # noqa: RUF009 - a Path is immutable
        Path("/adapters"),
        "folder of the shared adapter volume, as the operator sees it; pods say their own mount path in the annotation "
        "production-stack.vllm-project/adapter-root (default: the same path)",
        Path,
    )
    namespaces: tuple[str, ...] = option((), "watch only these namespaces (repeat; default: all)", tuple)
    local_roots: tuple[str, ...] = option(
        (), "folders that adapterSource type local may read from (repeat; default: any absolute path)", tuple
    )
    base_model_configs: tuple[str, ...] = option(
        (),
        "NAME=PATH of a base model's config.json, so that adapters are checked against its layer shapes (repeat)",
        tuple,
    )
    policy: str = option("balanced", "placement policy: balanced, binpack or spread", choices=tuple(sorted(POLICIES)))
    rebalance_epsilon: float = option(
        0.1,
        "how much more than the mean load a pod may have before replicas move to others, where demand is known; 0.1 is "
        "10 percent (0: nothing that serves is moved for the sake of load)",
        float,
    )
    max_moves: int = option(
        0, "most replicas that may be on their way at once for the sake of load or spread (0: 2, and one more for "
        "every 50 pods)", int,
    )  # fmt: skip
    versioned_names: bool = option(
        True,
        "on engine releases whose prefix cache is keyed by the adapter's name (0.12 to 0.30), serve a new version "
        "under an engine name of its own, shown in status as engineNames; off: those pods refuse such a roll-out",
        bool,
    )
    probe_seconds: float = option(
        0.95, "time between two probes of a pod's /v1/models in a small fleet", float, least=0.05
    )
    probes_per_second: float = option(60.0, "most probes per second over the whole fleet", float, least=0.1)
    probe_timeout: float = option(2.0, "how long a pod may take to answer a probe", float, least=0.05)
    probe_failures: int = option(
        3, "how many probes in a row an engine may at least fail to answer before its adapters are placed elsewhere, "
        "see --hold-seconds; one that refuses connections has ended, and is not waited for", int, least=1,
    )  # fmt: skip
    hold_seconds: float = option(
        10.0, "how long an engine may at least fail to answer before its adapters are placed elsewhere", float
    )
    engine_tls_verify: bool = option(
        True, "whether the certificates of engines that speak TLS have to be signed by a CA of the system or in "
        "--ca-file; their names are not compared", bool,
    )  # fmt: skip
    load_timeout: float = option(120.0, "how long an engine may take to load an adapter", float, least=0.1)
    unload_timeout: float = option(30.0, "how long an engine may take to unload an adapter", float, least=0.1)
    withdraw_seconds: float = option(
        0.5,
        "how long an adapter is out of status before it is unloaded from a pod, so that routers let go first; one that "
        "was deleted goes at once where its engine has had nothing to do for a minute",
        float,
    )
    retry_seconds: float = option(
        1.0, "first delay after a failed load; doubles with every further failure", float, least=0.05
    )
    retry_max_seconds: float = option(300.0, "longest delay between two attempts", float, least=0.05)
    fresh_concurrency: int = option(8, "loads at a time on a pod that serves nobody yet", int, least=1)
    source_seconds: float = option(10.0, "time between two looks at an adapter source", float, least=0.05)
    settle_seconds: float = option(
        2.0, "how long changed files of a local source must be left alone before they count as a new version", float
    )
    demand_seconds: float = option(
        10.0,
        "time between two looks at an engine's metrics, from which the demand of each adapter is measured (0: off, all "
        "adapters count the same)",
        float,
    )
    demand_half_life: float = option(60.0, "how fast earlier demand fades from the measured one", float, least=0.1)
    on_demand_seconds: float = option(
        300.0,
        "how long an adapter with loadOnStartup: false is wanted after it was last asked for or used; later it stays "
        "loaded until another needs its room",
        float,
        least=1.0,
    )
    requests_namespace: str = option(
        "",
        "namespace of the ConfigMap lora-operator-requests, in which routers record who was asked for (default: "
        "that of the operator's pod, else lora-operator-system)",
    )
    relist_seconds: float = option(300.0, "time between two full lists of resources and pods", float, least=1.0)
    finalizer_seconds: float = option(
        60.0, "how long the deletion of a LoraAdapter waits for engines that do not answer", float
    )
    retain_seconds: float = option(3600.0, "how long files that no pod has loaded stay in the adapter volume", float)
    status_quiet_seconds: float = option(
        0.25, "how long an intermediate state must last before it is written into status", float
    )
    gate_seconds: float = option(
        60.0, "a pod's readiness gate opens at the latest so long after its engine is up, whatever it lacks", float
    )
    plan_max_age: float = option(60.0, "age of the last plan from which /healthz answers 503", float, least=20.0)
    cache_bytes: int | None = option(
        None, "budget of the adapter volume, for example 50Gi; versions that nobody uses make room (default: none)",
        size,
    )  # fmt: skip
    bytes_per_second: int | None = option(
        None, "most bytes per second that the operator itself fetches, for example 100M (default: no limit)", size
    )
    allowed_hosts: tuple[str, ...] = option(
        (), "hosts that adapters may come from, *.example.com for all below (repeat; default: any)", tuple
    )
    credential_hosts: tuple[str, ...] = option(
        (),
        "hosts that the Secrets of all sources may be sent to, *.example.com for all below (repeat; default: those "
        "that a Secret names in its annotation production-stack.vllm-project/hosts, the hub, Azure; S3 needs none)",
        tuple,
    )
    secrets_to_agents: bool = option(
        False,
        "send agents the token of an http or huggingface source, or the SAS of an azure one, where the store gives "
        "files to nobody else; off: such adapters are refused on pods with an agent (SecretNotForAgents)",
        bool,
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
    quotas: tuple[str, ...] = option(
        (),
        "NAME=adapters:20,bytes:50Gi: what a namespace (or an owner in its namespace) may have, * for every other "
        "namespace (repeat, in the environment with ';' between them); a ConfigMap lora-operator-quota narrows it",
        tuple,
        separator=";",
    )
    agent_token_file: str = option(
        "",
        "file with the token that agents accept, most often a mounted Secret, or a folder with such a file for each "
        "namespace, called like it, so that no namespace learns another's token; needed where pods have agents",
    )
    host: str = option("", f"address to serve health, metrics and the router API on{HOST_HELP}")
    health_port: int = option(8081, "port of /healthz and /readyz (0: off)", int, most=65535)
    metrics_port: int = option(8080, "port of /metrics (0: off)", int, most=65535)
    router_port: int = option(
        ROUTER_PORT,
        "port of the router API, which `lora-operator router` serves as well (0: off)",
        int,
        most=65535,
    )
    injection_port: int = option(
        0,
        "port of the webhook that puts agents into pods which ask for one by the label "
        "production-stack.vllm-project/agent: inject, for clusters without MutatingAdmissionPolicy (0: off)",
        int,
        most=65535,
    )
    injection_tls_cert: str = option("", "PEM file with the webhook's certificate; it may be renewed in place")
    injection_tls_key: str = option("", "PEM file with its key")
    injected_parts: str = option(
        "", "JSON file with the agent and the volumes that the webhook puts into pods, as the chart writes it"
    )
    adapter_services: str = option(
        "none", "keep a Service with EndpointSlices for each adapter, of the pods that have it: ClusterIP or Headless; "
        "remove: delete those that there are. Needs --router-port, and rights that the chart gives with its value "
        "adapterServices", choices=("none", "ClusterIP", "Headless", "remove"),
    )  # fmt: skip
    base_model_maps: str = option(
        "none", "keep: a ConfigMap for each LoraAdapter that says of which base model its adapters are, as llm-d's "
        "payload processor reads it; remove: delete those that there are. Needs --router-port, and rights that the "
        "chart gives with its value baseModelMaps", choices=("none", "keep", "remove"),
    )  # fmt: skip
    mark_pods: bool = option(
        False, "note on pods, in the annotation production-stack.vllm-project/models, a digest of the adapters that "
        "their engines list: production-stack's router asks an engine again when its pod changes", bool,
    )  # fmt: skip
    load_seconds: float = option(
        1.0, "with --router-port: time between two looks at an engine's metrics, from which picks know how busy each "
        "pod is (0: off)", float, most=4.0,
    )  # fmt: skip
    routing_policy: str = option("lora-affinity", f"with --router-port: {POLICY_HELP}", choices=POLICY_NAMES)
    routing_threshold: float = option(0.999, f"with --router-port, {THRESHOLD_HELP}", float, most=1.0)
    routing_weights: str = option("", f"with --router-port: {WEIGHTS_HELP}")
    prefix_blocks: int = option(PREFIX_BLOCKS, f"with --router-port: {PREFIX_HELP}", int)
    log_format: str = option("json", "json or console", choices=("json", "console"))
    log_level: str = option("info", "debug, info, warning or error", choices=("debug", "info", "warning", "error"))
    otlp_endpoint: str = option("", ENDPOINT_HELP)
    leader_election: bool = option(
        True, "act only while a Lease is held, so that several operators can run and one at a time acts", bool
    )
    lease_name: str = option(
        "lora-operator", "name of that Lease; operators of different namespaces need different ones"
    )
    lease_namespace: str = option("", "its namespace (default: that of the operator's pod, else lora-operator-system)")
    lease_seconds: float = option(
        15.0, "how long the others wait after the last renewal; the holder gives up after two thirds", float, least=0.5
    )
    kubeconfig: str = option("", "kubeconfig file (default: in-cluster account, then KUBECONFIG, then ~/.kube/config)")


def placement_policy(settings: Settings) -> Policy:
    """How the placement library is to choose."""
    return Policy(
        settings.policy,
        rebalance_epsilon=settings.rebalance_epsilon or None,
        max_moves=settings.max_moves or None,
        demand_half_life=settings.demand_half_life,
    )


def quotas_of(settings: Settings) -> dict[str, Quota]:
    """The quotas by namespace or owner. Raises SettingsError."""
    try:
        return dict(parse_quota(text) for text in settings.quotas)
    except ValueError as error:
        raise SettingsError(f"--quota: {error}") from error


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add one flag per setting."""
    add_options(parser, Settings)


def from_arguments(arguments: argparse.Namespace, environment: Mapping[str, str] | None = None) -> Settings:
    """See `read_options`.

    Raises:
        SettingsError: a value cannot be converted or makes no sense.
    """
    settings = read_options(Settings, arguments, environment)
    if not settings.adapter_root.is_absolute():
        raise SettingsError(f"--adapter-root: {settings.adapter_root} is not an absolute path")
    if not all(settings.namespaces):
        raise SettingsError("--namespace: a namespace's name is empty; leave the flag out to watch all namespaces")
    quotas_of(settings)
    rules_of(settings.routing_policy, settings.routing_threshold, settings.routing_weights)
    try:
        check_ca_file(settings.ca_file)
    except ValueError as error:
        raise SettingsError(f"--ca-file: {error}") from error
    if settings.injection_port:
        for flag in ("injection_tls_cert", "injection_tls_key", "injected_parts"):
            if not getattr(settings, flag):
                raise SettingsError(f"--injection-port: the webhook needs --{flag.replace('_', '-')} too")
    for flag in ("adapter_services", "base_model_maps"):
        if getattr(settings, flag) != "none" and not settings.router_port:
            raise SettingsError(f"--{flag.replace('_', '-')}: it is made of the routing table, and needs --router-port")
    for entry in settings.base_model_configs:
        if "=" not in entry:
            raise SettingsError(f"--base-model-config: {entry!r} is not NAME=PATH")
    return settings
