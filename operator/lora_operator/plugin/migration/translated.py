"""What a translation gives, and what all of them need: sources from URLs, and names that Kubernetes takes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lora_operator.api.v1alpha1 import API_VERSION, KIND, InvalidLoraAdapter, parse

Json = Mapping[str, Any]
NAME_MAX = 253
SCHEMES = {"huggingface": "huggingface", "hf": "huggingface", "s3": "s3", "http": "http", "https": "http"}


class Untranslatable(Exception):
    """There is no LoraAdapter for this; the message says why and what else to do."""


@dataclass(slots=True)
class Translated:
    """LoraAdapters, and what to know of each document that was read."""

    adapters: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failed: int = 0


def source_of(url: str) -> dict[str, Any]:
    """adapterSource of a URL, a path or the name of a Hugging Face repository. Raises Untranslatable."""
    scheme, separator, rest = url.partition("://")
    if url.startswith("/"):
        return {"type": "local", "repository": url.rstrip("/") or "/"}
    if not separator:
        if re.fullmatch(r"[\w.-]+/[\w.-]+", url):
            return {"type": "huggingface", "repository": url}
        raise Untranslatable(f"{url[:200]!r} is neither a URL, nor an absolute path, nor org/repo")
    kind = SCHEMES.get(scheme.lower())
    if kind == "http":
        return {"type": "http", "repository": url}
    if kind is not None:
        return {"type": kind, "repository": rest.strip("/")}
    if scheme.lower() in ("gs", "gcs"):
        raise Untranslatable(
            f"there is no source type for {scheme}://; the store's S3-compatible side may do: type s3, endpoint "
            f"https://storage.googleapis.com, repository {rest.strip('/')}, with HMAC keys in the Secret"
        )
    raise Untranslatable(f"there is no source type for {scheme[:40]}://; copy the files to S3, Azure, the hub or HTTP")


def name_at(source: Json) -> str:
    """What the adapter of a source with one adapter is called here: like the last part of its place."""
    place = str(source["repository"]).partition("?")[0].rstrip("/").rpartition("/")[2]
    for ending in (".tar.gz", ".tgz", ".tar", ".zip"):
        if source["type"] == "http" and place.endswith(ending):
            return place.removesuffix(ending)
    return place


def resource(
    body: Json, name: str, base_model: str, source: Json, deployment: Json, secret: str | None = None, *,
    served: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """A LoraAdapter of the same namespace and labels, checked against the rules. `served`: what requests call its one
    adapter. Raises Untranslatable."""
    old = body.get("metadata") or {}
    metadata: dict[str, Any] = {"name": dns_name(name)}
    if old.get("namespace"):
        metadata["namespace"] = old["namespace"]
    if old.get("labels"):
        metadata["labels"] = dict(old["labels"])
    spec: dict[str, Any] = {"baseModel": base_model, "adapterSource": dict(source)}
    if served is not None and served != name_at(source):
        spec["servedName"] = served
    if secret and source["type"] != "local":
        spec["credentialsSecretRef"] = {"name": secret}
    if deployment:
        spec["deploymentConfig"] = dict(deployment)
    made = {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec}
    try:
        parse({**made, "metadata": {"namespace": "default", **metadata}})
    except InvalidLoraAdapter as error:
        raise Untranslatable(f"{error.field}: {error.problem}") from error
    return made


def dns_name(text: str) -> str:
    """A name that the API server takes for a resource."""
    name = re.sub(r"[^a-z0-9.-]+", "-", text.lower())
    return re.sub(r"^[^a-z0-9]+|[^a-z0-9]+$", "", name)[:NAME_MAX] or "adapter"


def base_model_of(body: Json, given: str | None, otherwise: str | None) -> str:
    """Raises Untranslatable."""
    found = (body.get("spec") or {}).get("baseModel") or given or otherwise
    if not found:
        raise Untranslatable("it does not say its base model: give --base-model NAME")
    return str(found)


def copies(replicas: object) -> dict[str, Any]:
    """deploymentConfig for a number of copies; where none is given, all pods get one."""
    if replicas is None:
        return {"replicaPolicy": "AllPods"}
    return {"replicas": replicas}
