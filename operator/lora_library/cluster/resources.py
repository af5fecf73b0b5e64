"""The LoraAdapters that say what an owner has. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lora_library.model import ACTIVE, Lora
from lora_library.names import OWNER_DIGITS, digest, published_prefix, resource_name, served_name
from lora_operator.api.owner_names import owner_key
from lora_operator.api.v1alpha1 import API_VERSION, KIND
from lora_operator.api.well_known import GROUP, REFRESH_ANNOTATION

MANAGER = "lora-library"
MANAGED_BY = "app.kubernetes.io/managed-by"
OWNER_LABEL = f"{GROUP}/library-owner"
SUBJECT_ANNOTATION = f"{GROUP}/library-subject"
Json = dict[str, Any]
Group = tuple[str, int]  # base model and part: what one LoraAdapter is for


@dataclass(frozen=True, slots=True)
class Template:
    """What all LoraAdapters of the library have in common."""

    namespace: str
    credentials_secret: str = ""
    base_model_check: str = "Name"
    pod_selector: Mapping[str, str] = field(default_factory=dict)


def owner_label(subject: str) -> str:
    return digest(subject, OWNER_DIGITS)


def groups(loras: Iterable[Lora]) -> dict[Group, list[Lora]]:
    """Those that are to be served, by the LoraAdapter that names them, sorted by name."""
    found: defaultdict[Group, list[Lora]] = defaultdict(list)
    for lora in sorted(loras, key=lambda each: each.name):
        if lora.deleted_at is None and lora.state == ACTIVE:
            found[lora.base_model, lora.part].append(lora)
    return dict(found)


def resource(
    subject: str, group: Group, loras: Iterable[Lora], objects: Mapping[str, str], template: Template,
    source: Callable[[str], Mapping[str, str]],
) -> Json:  # fmt: skip
    """One LoraAdapter. `objects` has what each adapter (by id) is made of: where that changes, so does an annotation,
    and the operator looks at once."""
    base_model, part = group
    loras = list(loras)
    state = digest("\n".join(f"{each.name} {objects[each.id]}" for each in loras), 16)
    spec: Json = {
        "baseModel": base_model,
        "baseModelCheck": template.base_model_check,
        "owner": owner_key(subject),
        "servedName": served_name(subject),
        "adapterSource": {
            **source(published_prefix(subject, base_model, part)),
            "adapters": [each.name for each in loras],
            "maxAdapters": 1000,
        },
        "deploymentConfig": {"loadOnStartup": False},
    }
    if template.pod_selector:
        spec["deploymentConfig"]["podSelector"] = {"matchLabels": dict(template.pod_selector)}
    if template.credentials_secret:
        spec["credentialsSecretRef"] = {"name": template.credentials_secret}
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {
            "name": resource_name(subject, base_model, part),
            "namespace": template.namespace,
            "labels": {MANAGED_BY: MANAGER, OWNER_LABEL: owner_label(subject)},
            "annotations": {SUBJECT_ANNOTATION: subject, REFRESH_ANNOTATION: state},
        },
        "spec": spec,
    }


UNKNOWN = "Unknown"
STATES = (UNKNOWN, "OnDemand", "Loaded", "Failed")


@dataclass(frozen=True, slots=True)
class Shown:
    """What the operator says of one adapter. `state` is one of STATES."""

    state: str = "Unknown"
    pods: tuple[str, ...] = ()
    reason: str = ""
    message: str = ""


def shown(body: Mapping[str, Any] | None, engine_name: str) -> Shown:
    """Of the LoraAdapter that names it, as it was read from the API server."""
    status = (body or {}).get("status") or {}
    pods = tuple(
        str(each.get("pod")) for each in status.get("podAssignments") or () if engine_name in each.get("adapters", ())
    )
    if pods:
        return Shown("Loaded", pods)
    for failure in status.get("failedAdapters") or ():
        if failure.get("name") == engine_name:
            return Shown("Failed", (), str(failure.get("code", "")), str(failure.get("reason", ""))[:500])
    known = any(each.get("name") == engine_name for each in status.get("adapters") or ())
    return Shown("OnDemand" if known else "Unknown")
