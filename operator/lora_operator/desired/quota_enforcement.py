"""From what is desired to what its owners are entitled to: quotas, applied after everything else is known. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

from lora_operator.api.quota import Claim, Quotas, Use, settle
from lora_operator.desired.adapters import Desired, DesiredResource, Rejected
from lora_operator.informers.holdings import NOTHING, Held, known_of


def enforce_quotas(
    desired: Desired, quotas: Quotas, held: Callable[[str], Held] = lambda key: NOTHING
) -> tuple[Desired, Mapping[str, Use]]:
    """Turn what is beyond a quota into rejections, and say what each account uses.

    What a status shows as accepted stays whatever the quota says by now: a quota refuses, it does not take away. So
    does what is `held` somewhere, where a status was cut.
    """
    if not quotas.given and not quotas.narrowed:
        return desired, {}
    claims = [claim for key, resource in desired.resources.items() for claim in _claims(resource, held(key))]
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


def _claims(resource: DesiredResource, held: Held) -> Iterator[Claim]:
    body = resource.resource
    accepted = body.published.names | known_of(body.published, held).keys()
    owner = body.spec.owner if body.spec is not None else None
    for wanted in resource.wanted:
        adapter = wanted.adapter
        size = wanted.found.inspection.bytes if wanted.found is not None else adapter.bytes
        yield Claim(adapter.key, body.namespace, owner, size, adapter.name in accepted)


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
