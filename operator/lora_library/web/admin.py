"""What administrators see and decide."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from lora_library.catalogue import audit, owners, reading, scans
from lora_library.cluster.cache_stats import total
from lora_library.problems import Problem, not_found
from lora_library.web import answers
from lora_library.web.context import Admin, With

ROUTES = APIRouter()
Limit = Annotated[int, Query(ge=1, le=500)]
Offset = Annotated[int, Query(ge=0, le=10_000_000)]
MOST_BYTES = 2**53


class QuotaChange(BaseModel):
    """What is left out stays; null is the default of all users."""

    model_config = ConfigDict(extra="forbid")
    quota_bytes: int | None = Field(None, ge=0, le=MOST_BYTES)
    quota_adapters: int | None = Field(None, ge=0, le=1_000_000)


@ROUTES.get("/users")
async def users(library: With, _: Admin, limit: Limit = 100, offset: Offset = 0) -> dict[str, Any]:
    """Everybody who has something, by what they use."""
    found, total = await owners.users(library.database, library.limits, limit=limit, offset=offset)
    return {"users": found, "total": total, "limit": limit, "offset": offset}


@ROUTES.get("/quotas/{subject:path}")
async def quota(subject: str, library: With, _: Admin) -> answers.Quota:
    """What a user uses and may use."""
    _check(subject)
    return answers.quota(await owners.quota(library.database, subject, library.limits, library.clock()))


@ROUTES.put("/quotas/{subject:path}")
async def set_quota(subject: str, change: QuotaChange, library: With, admin: Admin) -> answers.Quota:
    """A quota of a user's own."""
    _check(subject)
    values = change.model_dump(exclude_unset=True)
    now = library.clock()
    return answers.quota(await owners.set_quota(library.database, admin, subject, values, library.limits, now))


@ROUTES.get("/audit")
async def log(
    library: With,
    _: Admin,
    owner: Annotated[str | None, Query(max_length=512)] = None,
    lora: Annotated[str | None, Query(max_length=32)] = None,
    limit: Limit = 100,
    offset: Offset = 0,
) -> dict[str, Any]:
    """Who did what, the newest first."""
    if "\0" in (owner or "") + (lora or ""):
        raise Problem("INVALID_REQUEST", "a NUL character is in nobody's name")
    found, total = await audit.entries(library.database, owner=owner, lora=lora, limit=limit, offset=offset)
    entries = [{**each, "at": answers.moment(each["at"])} for each in found]
    return {"entries": entries, "total": total, "limit": limit, "offset": offset}


@ROUTES.get("/cache-stats")
async def cache_stats(library: With, _: Admin) -> dict[str, Any]:
    """What agents have on their disks, of each pod and in all; null where one does not say."""
    if library.cache_stats is None:
        return {"pods": [], "total": total(())}
    return await library.cache_stats.read()


class Verdict(BaseModel):
    """Of an administrator, in place of the scan's."""

    model_config = ConfigDict(extra="forbid")
    clean: bool
    reason: str = Field("", max_length=500)


@ROUTES.put("/{lora_id}/versions/{version}/verdict", status_code=204)
async def set_verdict(
    lora_id: Annotated[str, Path(pattern="^[0-9a-f]{32}$")],
    version: Annotated[int, Path(ge=1, le=2**31 - 1)],
    verdict: Verdict,
    library: With,
    admin: Admin,
) -> None:
    """Let a version out of quarantine, or take it away: whatever a scan has said, or has not."""
    versions = await reading.versions(library.database, lora_id)
    found = next((each for each in versions if each.number == version), None)
    owner = None if found is None else await reading.owner_of(library.database, lora_id)
    if found is None or owner is None:
        raise not_found(lora_id)
    if "\0" in verdict.reason:
        raise Problem("INVALID_REQUEST", "the reason has characters that are no text")
    await scans.judged(
        library.database, owner, found.object_id, clean=verdict.clean, reason=verdict.reason, actor=admin.subject,
        now=library.clock(),
    )  # fmt: skip
    await library.uploads.tell(owner)


def _check(subject: str) -> None:
    if not 0 < len(subject) <= 500 or not subject.isprintable():
        raise Problem("INVALID_REQUEST", "no user is called so")
