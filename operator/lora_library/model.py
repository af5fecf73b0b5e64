"""What the library speaks of: who asks, adapters, their versions, and what is allowed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

EVERYBODY = "everybody"
ACTIVE, QUARANTINED, REJECTED = "active", "quarantined", "rejected"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks, as verified. The subject owns what it uploads."""

    subject: str
    groups: frozenset[str] = frozenset()
    admin: bool = False

    def parties(self) -> list[str]:
        """What a share may call this principal."""
        return [f"user:{self.subject}", *(f"group:{each}" for each in sorted(self.groups)), EVERYBODY]


@dataclass(frozen=True, slots=True)
class Limits:
    """What everybody may have, unless an administrator decides otherwise for one."""

    quota_bytes: int = 10 << 30
    quota_adapters: int = 100
    upload_bytes: int = 2 << 30
    versions_kept: int = 5
    restore_seconds: float = 14 * 86400.0


@dataclass(frozen=True, slots=True)
class Usage:
    """What an owner has and may have. `deleted_bytes` are those of `used_bytes` that a purge would free."""

    used_bytes: int
    reserved_bytes: int
    maximum_bytes: int
    adapters: int
    maximum_adapters: int
    deleted_bytes: int = 0

    @property
    def available_bytes(self) -> int:
        return max(0, self.maximum_bytes - self.used_bytes - self.reserved_bytes)

    @property
    def utilisation(self) -> float:
        """The more used of both quotas, 1 for all of it."""
        of_bytes = self.used_bytes / self.maximum_bytes if self.maximum_bytes else 1.0
        of_adapters = self.adapters / self.maximum_adapters if self.maximum_adapters else 1.0
        return max(of_bytes, of_adapters)


@dataclass(frozen=True, slots=True)
class NewVersion:
    """An upload that was checked. `files`: path, size_bytes and sha256 of each; `object_id` is where they were put."""

    name: str
    base_model: str
    object_id: str
    fingerprint: str
    size_bytes: int
    files: tuple[Mapping[str, Any], ...]
    described: Mapping[str, Any]
    tags: tuple[str, ...] | None = None  # None: those that it has
    description: str | None = None
    attributes: Mapping[str, Any] | None = None
    card: str | None = None  # README.md
    consumed: tuple[str, ...] = ()  # partials that it was made of, which go with it
    state: str = ACTIVE  # QUARANTINED: nobody gets it before a scan has found it clean


@dataclass(frozen=True, slots=True)
class Version:
    number: int
    created_at: float
    created_by: str
    object_id: str
    fingerprint: str
    size_bytes: int
    files: tuple[Mapping[str, Any], ...]
    described: Mapping[str, Any]
    card: str = ""
    state: str = ACTIVE
    verdict: str = ""


@dataclass(frozen=True, slots=True)
class Lora:
    """An adapter of the library. `current` is the number of the version that is served."""

    id: str
    owner: str
    name: str
    base_model: str
    engine_name: str
    part: int
    description: str
    attributes: Mapping[str, Any]
    state: str
    current: int
    pinned: bool
    size_bytes: int
    last_used_at: float | None
    created_at: float
    updated_at: float
    deleted_at: float | None
    published: int
    tags: tuple[str, ...] = ()
    shared_with: tuple[str, ...] = field(default=())
