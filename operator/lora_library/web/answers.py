"""What the API answers, in JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from lora_library.cluster.resources import Shown
from lora_library.model import EVERYBODY, Lora, Usage, Version

WARNING = 0.8  # of a quota


class Answer(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)


class Sharing(Answer):
    users: list[str] = Field(default_factory=list)
    groups: list[str] = Field(default_factory=list)
    everybody: bool = False


class Uploaded(Answer):
    """An adapter that was stored."""

    id: str
    name: str
    url: str
    """Where its details are."""
    size_bytes: int
    created_at: datetime
    tags: list[str]
    owner: str
    base_model: str
    version: int
    model: str
    """What requests to engines call it."""


class Summary(Uploaded):
    """An adapter in a list."""

    description: str
    updated_at: datetime
    deleted_at: datetime | None = None
    usage_count: int | None = None
    """Requests; null: not known."""
    last_used_at: datetime | None = None
    """Null: no use is known."""
    pinned: bool
    shared_with: Sharing | None = None
    """For its owner alone."""
    state: str
    """OnDemand, Loaded, Failed or Unknown, as the operator says; or quarantined, rejected."""
    pods: list[str]
    """Where it is loaded."""


class Page(Answer):
    loras: list[Summary]
    total: int
    limit: int
    offset: int


class VersionAnswer(Answer):
    version: int
    created_at: datetime
    created_by: str
    size_bytes: int
    fingerprint: str
    files: list[dict[str, Any]]
    rank: int | None = None
    state: str
    """active; or quarantined, until a scan has found it clean; or rejected."""
    verdict: str = ""


class Details(Summary):
    """All of an adapter."""

    metadata: dict[str, Any]
    rank: int | None = None
    modules: list[str] = Field(default_factory=list)
    dtype: str = ""
    trained_on: str = ""
    trigger_words: list[str] = Field(default_factory=list)
    training: dict[str, str] = Field(default_factory=dict)
    doubts: list[str] = Field(default_factory=list)
    reason: str = ""
    """Why it cannot be loaded, if so."""
    message: str = ""
    versions: list[VersionAnswer]


class Quota(Answer):
    used_bytes: int
    reserved_bytes: int
    """Of uploads under way."""
    deleted_bytes: int
    """Of used_bytes, those of adapters that can still be restored; a purge frees them."""
    max_bytes: int
    available_bytes: int
    adapters: int
    max_adapters: int
    utilisation: float
    warning: str | None = None


def moment(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def _uploaded(lora: Lora) -> dict[str, Any]:
    return {
        "id": lora.id, "name": lora.name, "url": f"/api/loras/{lora.id}", "size_bytes": lora.size_bytes,
        "created_at": moment(lora.created_at), "tags": list(lora.tags), "owner": lora.owner,
        "base_model": lora.base_model, "version": lora.current, "model": lora.engine_name,
    }  # fmt: skip


def uploaded(lora: Lora) -> Uploaded:
    return Uploaded(**_uploaded(lora))


def _summary(lora: Lora, shown: Shown, *, own: bool) -> dict[str, Any]:
    return _uploaded(lora) | {
        "description": lora.description,
        "updated_at": moment(lora.updated_at),
        "deleted_at": None if lora.deleted_at is None else moment(lora.deleted_at),
        "last_used_at": None if lora.last_used_at is None else moment(lora.last_used_at),
        "pinned": lora.pinned,
        "shared_with": sharing(lora) if own else None,
        "state": shown.state if lora.state == "active" else lora.state,
        "pods": list(shown.pods),
    }


def summary(lora: Lora, shown: Shown, *, own: bool) -> Summary:
    return Summary(**_summary(lora, shown, own=own))


def details(lora: Lora, versions: list[Version], shown: Shown, *, own: bool) -> Details:
    current = next((each for each in versions if each.number == lora.current), None)
    described = dict(current.described) if current else {}
    fields = ("rank", "modules", "dtype", "trained_on", "trigger_words", "training", "doubts")
    return Details(
        **_summary(lora, shown, own=own),
        **{name: described[name] for name in fields if name in described},
        metadata=dict(lora.attributes),
        reason=shown.reason,
        message=shown.message,
        versions=[
            VersionAnswer(
                version=each.number, created_at=moment(each.created_at), created_by=each.created_by,
                size_bytes=each.size_bytes, fingerprint=each.fingerprint, files=[dict(file) for file in each.files],
                rank=each.described.get("rank"), state=each.state, verdict=each.verdict,
            )
            for each in versions
        ],
    )  # fmt: skip


def sharing(lora: Lora) -> Sharing:
    parties = lora.shared_with
    return Sharing(
        users=[each.removeprefix("user:") for each in parties if each.startswith("user:")],
        groups=[each.removeprefix("group:") for each in parties if each.startswith("group:")],
        everybody=EVERYBODY in parties,
    )


def quota(usage: Usage) -> Quota:
    warning = None
    if usage.utilisation >= WARNING:
        warning = f"{usage.utilisation:.0%} of the quota are used: delete what is not needed, or ask for more"
    return Quota(
        used_bytes=usage.used_bytes, reserved_bytes=usage.reserved_bytes, deleted_bytes=usage.deleted_bytes,
        max_bytes=usage.maximum_bytes, available_bytes=usage.available_bytes, adapters=usage.adapters,
        max_adapters=usage.maximum_adapters, utilisation=round(usage.utilisation, 4), warning=warning,
    )  # fmt: skip
