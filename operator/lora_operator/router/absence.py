"""Why no pod answers for an adapter, as the status of its LoraAdapter tells it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from lora_operator.api.v1alpha1 import DeploymentConfig
from lora_operator.informers.published_status import NotedAdapter
from lora_operator.informers.records import Resource
from lora_scheduler import ReplicaPolicy

CONFLICT = "Conflict"  # of those that were refused a name that another resource has


@dataclass(frozen=True, slots=True)
class Absence:
    """`given_up`: the operator has a reason not to load it, which waiting alone does not mend."""

    reason: str
    message: str
    given_up: bool = False


ANSWERS = Absence("", "")
LOAD_ON_DEMAND = Absence("LoadOnDemand", "it is loaded when it is asked for")
LOADING = Absence("Loading", "it was asked for and is on its way")
NONE_WANTED = Absence("ScaledToZero", "replicas is 0", given_up=True)


def absences(resource: Resource) -> tuple[dict[str, Absence], Absence]:
    """By name, of all adapters that the resource itself names; and of any other that it stands for."""
    published = resource.published
    ready = published.condition("Ready")
    is_ready = ready.status == "True"
    plain = Absence(
        "NotLoaded" if is_ready else ready.reason or "NotLoaded",
        ready.message or "no pod has it loaded",
    )
    failed = {item.name: Absence(item.reason, item.message, given_up=True) for item in published.failed_adapters}
    found: dict[str, Absence] = {}
    if resource.spec is not None:
        found = dict.fromkeys(resource.spec.adapter_source.adapters, _not_found(resource, plain))
    # of a resource that is ready, or not for the sake of another adapter, the summary says nothing about this one
    asked = LOADING if is_ready or plain.reason in {one.reason for one in failed.values()} else plain
    deployment = resource.spec.deployment_config if resource.spec is not None else None
    lazy = deployment if deployment is not None and not deployment.load_on_startup else None
    for item in published.adapters:
        found[item.name] = plain if lazy is None else _lazily(lazy, item, asked)
    return found | failed, plain


def is_on_demand(resource: Resource) -> bool:
    """Whether its adapters are loaded when somebody asks for them."""
    return resource.spec is not None and not resource.spec.deployment_config.load_on_startup


def _lazily(deployment: DeploymentConfig, item: NotedAdapter, asked: Absence) -> Absence:
    if (deployment.replicas, deployment.replica_policy) == (0, ReplicaPolicy.FIXED):
        return NONE_WANTED
    return asked if item.replicas else LOAD_ON_DEMAND


def _not_found(resource: Resource, plain: Absence) -> Absence:
    """Of a name that is in the spec: what the source cannot show is not loaded by asking for it."""
    lost = is_on_demand(resource) and resource.published.condition("SourceReady").status == "False"
    return Absence(plain.reason, plain.message, given_up=lost)
