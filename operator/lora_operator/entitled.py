"""From what is desired to what its owners are entitled to: quotas, applied after everything else is known. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from lora_operator.desired import Desired, DesiredResource, Rejected, Wanted
from lora_operator.quota import Claim, Quotas, Use, settle


def within(desired: Desired, quotas: Quotas) -> tuple[Desired, Mapping[str, Use]]:
    """Turn what is beyond a quota into rejections, and say what each account uses.

    What a status shows as accepted stays whatever the quota says by now: a quota refuses, it does not take away.
    """
    if not quotas.given and not quotas.narrowed:
        return desired, {}
    claims = [_claim(resource, wanted) for resource in desired.resources.values() for wanted in resource.wanted]
    refused, uses = settle(claims, quotas)
    if not refused:
        return desired, uses
    resources = {key: _without(resource, refused) for key, resource in desired.resources.items()}
    return (
        replace(
            desired,
            resources=MappingProxyType(resources),
            adapters=MappingProxyType({k: wanted for k, wanted in desired.adapters.items() if k not in refused}),
            names=MappingProxyType({claim: k for claim, k in desired.names.items() if k not in refused}),
        ),
        uses,
    )


def _claim(resource: DesiredResource, wanted: Wanted) -> Claim:
    body, adapter = resource.resource, wanted.adapter
    accepted = {str(item.get("name")) for item in body.status.get("adapters") or ()}
    owner = body.spec.owner if body.spec is not None else None
    size = wanted.found.inspection.bytes if wanted.found is not None else adapter.bytes
    return Claim(adapter.key, body.namespace, owner, size, adapter.name in accepted)


def _without(resource: DesiredResource, refused: Mapping[str, str]) -> DesiredResource:
    left = tuple(wanted for wanted in resource.wanted if wanted.adapter.key not in refused)
    if len(left) == len(resource.wanted):
        return resource
    rejected = tuple(
        Rejected(wanted.adapter.name, "QuotaExceeded", "Quota exceeded", refused[wanted.adapter.key])
        for wanted in resource.wanted
        if wanted.adapter.key in refused
    )
    return replace(resource, wanted=left, rejected=resource.rejected + rejected)
