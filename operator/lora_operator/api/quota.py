"""How many adapters, of how many bytes, a tenant may have. Pure.

Accounts are kept per namespace, and within a namespace per `spec.owner` where one has a quota of its own: who may write
into a namespace can claim any owner there, and must not get at the quota of another namespace by that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from lora_operator.api.quantity import parse_quantity

WARN_AT = 0.8
EVERYBODY = "*"


@dataclass(frozen=True, slots=True)
class Quota:
    """None means no limit. Bytes are those of the adapters' files, each adapter counted once."""

    adapters: int | None = None
    size_bytes: int | None = None

    def tightened(self, other: Quota) -> Quota:
        """What both allow."""
        return Quota(_least(self.adapters, other.adapters), _least(self.size_bytes, other.size_bytes))


@dataclass(frozen=True, slots=True)
class Quotas:
    """`given`: by namespace or owner, `*` for every namespace that is not named. `narrowed`: by namespace, what its own
    ConfigMap says; it can only take away."""

    given: Mapping[str, Quota] = field(default_factory=lambda: MappingProxyType({}))
    narrowed: Mapping[str, Quota] = field(default_factory=lambda: MappingProxyType({}))

    def of_namespace(self, namespace: str) -> Quota:
        given = self.given.get(namespace, self.given.get(EVERYBODY, Quota()))
        return given.tightened(self.narrowed.get(namespace, Quota()))

    def of_owner(self, owner: str | None, namespace: str) -> Quota | None:
        """The owner's own, where it has one."""
        return self.given.get(owner) if owner and owner != namespace else None


@dataclass(frozen=True, slots=True)
class Claim:
    """One adapter that asks to be counted. Those that are `there` already stay whatever the quota says by now."""

    key: str
    namespace: str
    owner: str | None
    size_bytes: int
    there: bool


@dataclass(frozen=True, slots=True)
class Use:
    """What one account has used up."""

    account: str
    quota: Quota
    adapters: int
    size_bytes: int

    @property
    def share(self) -> float:
        """Of the limit that is nearest; 0 where there is none."""
        shares = [0.0]
        if self.quota.adapters is not None:
            shares.append(self.adapters / max(self.quota.adapters, 1))
        if self.quota.size_bytes is not None:
            shares.append(self.size_bytes / max(self.quota.size_bytes, 1))
        return max(shares)

    def __str__(self) -> str:
        parts = []
        if self.quota.adapters is not None:
            parts.append(f"{self.adapters} of {self.quota.adapters} adapters")
        if self.quota.size_bytes is not None:
            parts.append(f"{self.size_bytes} of {self.quota.size_bytes} bytes")
        return f"{self.account} uses {' and '.join(parts)}"


def settle(claims: Iterable[Claim], quotas: Quotas) -> tuple[dict[str, str], dict[str, Use]]:
    """Who is refused, with the sums, and what each account uses; claims are served in their order, those that are
    there first."""
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    limits: dict[str, Quota] = {}
    refused: dict[str, str] = {}
    for claim in sorted(claims, key=lambda each: not each.there):
        accounts = {f"namespace {claim.namespace}": quotas.of_namespace(claim.namespace)}
        own = quotas.of_owner(claim.owner, claim.namespace)
        if own is not None:
            accounts[f"owner {claim.owner} in namespace {claim.namespace}"] = own
        limits |= accounts
        why = "" if claim.there else _exceeded(claim, accounts, counts, sizes)
        if why:
            refused[claim.key] = why
            continue
        for account in accounts:
            counts[account] += 1
            sizes[account] += claim.size_bytes
    return refused, {name: Use(name, quota, counts[name], sizes[name]) for name, quota in sorted(limits.items())}


def parse_quota(text: str) -> tuple[str, Quota]:
    """`NAME=adapters:20,bytes:50Gi`, NAME a namespace, an owner or `*`. Raises ValueError."""
    name, equals, limits = text.partition("=")
    if not equals or not name:
        raise ValueError(f"{text!r} is not NAME=adapters:20,bytes:50Gi")
    pairs = dict(part.partition(":")[::2] for part in limits.split(","))
    return name, read_quota(pairs)


def read_quota(pairs: Mapping[str, str]) -> Quota:
    """From the texts for `adapters` and `bytes`; either may be absent. Raises ValueError."""
    unknown = sorted(set(pairs) - {"adapters", "bytes"})
    if unknown:
        raise ValueError(f"{unknown[0][:60]!r} is no limit: there are adapters and bytes")
    adapters = pairs.get("adapters")
    if adapters is not None and not (adapters.isascii() and adapters.isdigit() and len(adapters) < 10):
        raise ValueError(f"adapters is {adapters[:60]!r}: write a whole number")
    size = pairs.get("bytes")
    return Quota(None if adapters is None else int(adapters), None if size is None else parse_quantity(size))


def _exceeded(claim: Claim, accounts: Mapping[str, Quota], counts: Counter[str], sizes: Counter[str]) -> str:
    for account, quota in accounts.items():
        if quota.adapters is not None and counts[account] + 1 > quota.adapters:
            return (
                f"{account} has {counts[account]} adapters and may have {quota.adapters}: delete some, or ask for a "
                "larger quota"
            )
        if quota.size_bytes is not None and sizes[account] + claim.size_bytes > quota.size_bytes:
            return (
                f"this has {claim.size_bytes} bytes, and {account} has {sizes[account]} of the {quota.size_bytes} "
                "bytes that it may have: delete some adapters, or ask for a larger quota"
            )
    return ""


def _least(one: int | None, other: int | None) -> int | None:
    return min(one, other) if one is not None and other is not None else one if other is None else other
