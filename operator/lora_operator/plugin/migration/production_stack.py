"""vLLM production stack: LoraAdapter of production-stack.vllm.ai/v1alpha1. One resource is one adapter."""

from __future__ import annotations

from typing import Any

from lora_operator.plugin.migration.translated import (
    Json,
    Translated,
    Untranslatable,
    base_model_of,
    copies,
    name_at,
    resource,
    source_of,
)

GROUP, KIND = "production-stack.vllm.ai", "LoraAdapter"
SECRET_KEYS = {"huggingface": "token", "http": "token", "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"}


def is_ours(body: Json) -> bool:
    """Whether this module translates it."""
    return body.get("kind") == KIND and str(body.get("apiVersion")).startswith(f"{GROUP}/")


def translate(body: Json, base_model: str | None, into: Translated, what: str) -> None:
    """Raises Untranslatable."""
    spec = body.get("spec") or {}
    theirs = spec.get("adapterSource") or {}
    name = str(theirs.get("adapterName") or body["metadata"]["name"])
    source = _source(theirs, name)
    secret = (theirs.get("credentialsSecretRef") or {}).get("name")
    # the field was called deploymentConfig in earlier releases
    deployment = spec.get("loraAdapterDeploymentConfig") or spec.get("deploymentConfig") or {}
    model = base_model_of(body, base_model, None)
    into.adapters.append(
        resource(
            body, body["metadata"]["name"], model, source, copies(deployment.get("replicas")), secret,
            served=None if "pattern" in source or "adapters" in source else name,
        )
    )  # fmt: skip
    notes: list[str] = []
    key = (theirs.get("credentialsSecretRef") or {}).get("key")
    if secret and source["type"] == "local":
        notes.append("credentialsSecretRef was left out: a local folder needs none")
    elif secret and key not in ("token", None):
        notes.append(f"Secret {secret}: what is under {key!r} is read here from {SECRET_KEYS[source['type']]}")
    if deployment.get("algorithm") not in (None, "default"):
        notes.append(
            f"algorithm {deployment['algorithm']!r} has no equal: placement is the operator's --policy, for all alike"
        )
    if spec.get("vllmApiKey"):
        notes.append("vllmApiKey was left out: engines' keys are read from the pods or their Secrets")
    notes.append(f"baseModel {model!r} must be the name that the pods serve, not a label of theirs")
    into.notes += [f"{what}: {note}" for note in notes if note]


def _source(theirs: Json, name: str) -> dict[str, Any]:
    kind, place = theirs.get("type"), str(theirs.get("repository") or "")
    if kind == "local":
        place = str(theirs.get("adapterPath") or place)
        if not place.startswith("/"):
            raise Untranslatable("a local source without an absolute adapterPath")
        source = source_of(place)
    elif kind in ("huggingface", "s3", "http"):
        if not place:
            raise Untranslatable(f"a source of type {kind} without a repository")
        source = {"type": kind, "repository": place.removeprefix(f"{kind}://").strip("/")}
    else:
        raise Untranslatable(f"source type {kind!r} is not known here")
    if theirs.get("pattern"):
        source["pattern"] = theirs["pattern"]
    elif kind in ("s3", "huggingface") and name_at(source) != name and "/" not in place.strip("/"):
        source["adapters"] = [name]  # a whole bucket or organisation, of which one was meant
    if theirs.get("maxAdapters"):
        source["maxAdapters"] = theirs["maxAdapters"]
    return source
