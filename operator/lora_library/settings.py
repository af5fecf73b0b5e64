"""What a person can choose about the library: flags of `lora-operator library`, each with an environment variable."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lora_operator.settings.options import HOST_HELP, SettingsError, option, read_options, size

ENVIRONMENT_PREFIX = "LORA_LIBRARY_"


@dataclass(frozen=True, slots=True)
class LibrarySettings:
    """All times are in seconds."""

    host: str = option("", f"address to serve on{HOST_HELP}")
    port: int = option(8092, "port of the API", int, least=1, most=65535)
    metrics_port: int = option(8080, "port of /metrics (0: off)", int, most=65535)
    public_url: str = option("", "where users have this service (default: as their requests say)")
    database: str = option(
        "/var/lib/lora-library/library.db", "path of the SQLite database, for one replica; or, for several, "
        "postgresql://user:password@host/name (a password is better set by the environment)",
    )  # fmt: skip
    store: str = option(
        "", "where the files of adapters go: s3://bucket/prefix, azure://account/container/prefix, or a folder on a "
        "volume that the operator mounts too; credentials come from the environment, as the stores' own tools have it",
    )  # fmt: skip
    store_endpoint: str = option("", "another endpoint: of an S3-compatible store, or of Azurite")
    store_region: str = option("", "the region of an S3 bucket")
    store_seen_at: str = option("", "the endpoint, or the folder, as the operator has it (default: the same)")
    work_folder: str = option("/tmp/lora-library", "a folder of this process alone for uploads under way")  # noqa: S108
    work_bytes: int = option(0, "most bytes of that folder, less a twentieth to spare (0: no bound)", size)
    namespace: str = option("", "namespace of the LoraAdapters that are written (default: that of this pod)")
    cluster: bool = option(True, "write LoraAdapters; without, adapters are kept and nobody is told", bool)
    requests_namespace: str = option(
        "", "as of `lora-operator run`: namespace of the ConfigMap lora-operator-requests, which says when adapters "
        "were used (default: that of this pod, else lora-operator-system)",
    )  # fmt: skip
    kubeconfig: str = option("", "kubeconfig file (default: the pod's own account, else the usual file)")
    credentials_secret: str = option("", "Secret of that namespace by which the operator reads the store")
    agent_port: int = option(
        8090, "port of the agents in the pods, whose metrics say what they have", int, least=1, most=65535
    )
    pod_selectors: tuple[str, ...] = option((), "label=value of the pods that may hold adapters (repeat)", tuple)
    base_models: tuple[str, ...] = option(
        (), "a base model that adapters may be for: its name, or name=path of its config.json, by which shapes are "
        "checked (repeat; default: whichever the adapter names)", tuple,
    )  # fmt: skip
    base_model_check: str = option(
        "Name", "Name refuses adapters that were trained on a model of another name, unless shapes are known; Skip "
        "takes them", choices=("Name", "Skip"),
    )  # fmt: skip
    gateway: str = option(
        "", "where people call adapters, for the examples of the web page, such as https://llm.example.com"
    )
    token_file: str = option("", "for development: a JSON file of tokens and whose they are")
    oidc_issuer: str = option("", "issuer of the OpenID tokens that are taken")
    oidc_audience: str = option("", "audience that those tokens must be for")
    oidc_jwks_url: str = option("", "where the issuer's keys are (default: what its discovery document says)")
    oidc_subject_claim: str = option("sub", "claim that says who it is")
    oidc_subject_prefix: str = option("", "put before that, where other tokens are taken too")
    oidc_groups_claim: str = option("groups", "claim that lists groups")
    token_review: bool = option(False, "take tokens of Kubernetes, looked at by TokenReview", bool)
    token_review_audience: str = option("", "audience that those must be for (default: the API server's)")
    admin_groups: tuple[str, ...] = option((), "who is in this group is an administrator (repeat)", tuple)
    quota_bytes: int = option(10 << 30, "bytes that each user may store", size)
    quota_adapters: int = option(100, "adapters that each user may have", int)
    upload_bytes: int = option(2 << 30, "the largest upload", size, least=1)
    uploads: int = option(256, "most uploads at a time", int, least=1)
    uploads_each: int = option(16, "most uploads of one user at a time", int, least=1)
    upload_rate: int = option(
        128 << 10, "least bytes a second of an upload or download where more than half of their places are taken, over "
        "a minute (an eighth of it else)", size,
    )  # fmt: skip
    downloads: int = option(64, "most downloads at a time", int, least=1)
    downloads_each: int = option(8, "most downloads of one user at a time", int, least=1)
    stall_seconds: float = option(
        30.0, "how long an upload may send nothing, or a download take nothing", float, least=1.0
    )
    versions: int = option(5, "versions of each adapter that are kept", int, least=1, most=100)
    restore_days: float = option(14.0, "how long what was deleted can be restored", float)
    scan_url: str = option("", "a malware scanner: each file is POSTed there, and waits in quarantine for its answer")
    scan_token: str = option("", "bearer token for it (better set by the environment)")
    scan_seconds: float = option(300.0, "how long it may take for one file", float, least=1.0)
    audit_days: float = option(365.0, "how long the audit log is kept", float, least=1.0)
    audit_entries: int = option(1_000_000, "most entries of the audit log", int, least=1)
    sweep_seconds: float = option(300.0, "time between two looks for what was left behind", float, least=1.0)
    log_format: str = option("json", "json or console", choices=("json", "console"))
    log_level: str = option("info", "debug, info, warning or error", choices=("debug", "info", "warning", "error"))


def from_arguments(arguments: argparse.Namespace, environment: Mapping[str, str] | None = None) -> LibrarySettings:
    """Raises SettingsError."""
    settings = read_options(LibrarySettings, arguments, environment, ENVIRONMENT_PREFIX)
    if not settings.store:
        raise SettingsError("--store: say where the files of adapters go, for example s3://bucket/loras")
    if settings.oidc_issuer and not settings.oidc_audience:
        raise SettingsError("--oidc-audience: say whom tokens must be for; else those for any other service would do")
    if not (settings.token_file or settings.oidc_issuer or settings.token_review):
        raise SettingsError(
            "nobody could be let in: give --oidc-issuer, --token-review, or --token-file for development"
        )
    pairs(settings.pod_selectors)
    if bad := [each for each in settings.base_models if each.startswith("=")]:
        raise SettingsError(f"--base-model: {bad[0]!r} has no name")
    return settings


def pairs(entries: tuple[str, ...]) -> dict[str, str]:
    """`label=value` each. Raises SettingsError."""
    found = dict(each.partition("=")[::2] for each in entries)
    if "" in found or any("=" not in each for each in entries):
        raise SettingsError("--pod-selector: write label=value")
    return found


def base_model_files(entries: tuple[str, ...]) -> dict[str, Path | None]:
    """Name -> config.json."""
    split = (each.partition("=") for each in entries)
    return {name: Path(path) if path else None for name, _, path in split}
