"""AIBrix: ModelAdapter of model.aibrix.ai/v1alpha1. One resource is one adapter, called like the resource."""

from __future__ import annotations

from lora_operator.plugin.migration.translated import (
    Json,
    Translated,
    base_model_of,
    copies,
    resource,
    source_of,
)

GROUP, KIND = "model.aibrix.ai", "ModelAdapter"
NAME_LABEL = "model.aibrix.ai/name"
SECRET_KEYS = {
    "huggingface": "token",
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "http": "token",
}


def is_ours(body: Json) -> bool:
    """Whether this module translates it."""
    return body.get("kind") == KIND and str(body.get("apiVersion")).startswith(f"{GROUP}/")


def translate(body: Json, base_model: str | None, into: Translated, what: str) -> None:
    """Raises Untranslatable."""
    spec, name = body.get("spec") or {}, body["metadata"]["name"]
    selector = spec.get("podSelector") or {}
    labelled = (selector.get("matchLabels") or {}).get(NAME_LABEL)
    model = base_model_of(body, base_model, labelled)
    source = source_of(str(spec.get("artifactURL") or ""))
    secret = (spec.get("credentialsSecretRef") or {}).get("name")
    deployment = copies(spec.get("replicas")) | ({"podSelector": dict(selector)} if selector else {})
    into.adapters.append(resource(body, name, model, source, deployment, secret, served=name))
    notes: list[str] = []
    if not spec.get("baseModel") and not base_model:
        notes.append(f"baseModel was taken from the label {NAME_LABEL}: it must be the name that the pods serve")
    if secret and source["type"] == "local":
        notes.append("credentialsSecretRef was left out: a local folder needs none")
    elif secret:
        notes.append(f"Secret {secret} has to have the keys that are read here: {SECRET_KEYS[source['type']]}")
    if spec.get("schedulerName") not in (None, "", "default"):
        notes.append(
            f"schedulerName {spec['schedulerName']!r} has no equal: placement is the operator's --policy, for all alike"
        )
    extra = sorted(spec.get("additionalConfig") or {})
    if "api-key" in extra:
        notes.append("additionalConfig.api-key was left out: engines' keys are read from the pods or their Secrets")
    if left := [key for key in extra if key != "api-key"]:
        notes.append(f"additionalConfig has no equal: {', '.join(left)}")
    notes.append("requests go by way of a router (docs/router-api.md): no Service is made for an adapter")
    into.notes += [f"{what}: {note}" for note in notes if note]
