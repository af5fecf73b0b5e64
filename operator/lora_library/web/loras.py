"""What users do with adapters: upload, find, change, delete, restore, download."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from lora_library.catalogue import changing, owners, reading
from lora_library.model import ACTIVE
from lora_library.names import object_prefix
from lora_library.problems import Problem, not_found
from lora_library.web import answers, listing
from lora_library.web.context import Asking, With
from lora_library.words import checked_attributes, clean_tags, description_of, parties_of

ROUTES = APIRouter()
Id = Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="the id of an adapter")]
FORM = {
    "type": "object",
    "required": ["file"],
    "properties": {
        "file": {
            "type": "array",
            "items": {"type": "string", "format": "binary"},
            "description": "adapter_config.json and adapter_model.safetensors, or a .zip or .tar.gz with both",
        },
        "name": {"type": "string", "description": "default: the name of the archive"},
        "base_model": {"type": "string", "description": "default: what adapter_config.json says"},
        "tags[]": {"type": "array", "items": {"type": "string"}},
        "description": {"type": "string"},
        "metadata": {"type": "string", "description": "a JSON object, kept as it is"},
    },
}


class Changes(BaseModel):
    """What is to be otherwise; what is left out stays."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)
    name: str | None = Field(None, max_length=200)
    description: str | None = None
    tags: list[str] | None = None
    shared_with: answers.Sharing | None = None
    metadata: dict[str, Any] | None = None
    version: int | None = Field(None, ge=1, le=2**31 - 1)
    """The version to serve, of those that are kept."""
    pinned: bool | None = None
    """True: uploads that follow do not change which version is served. False: the newest is."""

    def wanted(self) -> changing.Change:
        share = self.shared_with
        return changing.Change(
            name=self.name,
            description=None if self.description is None else description_of(self.description),
            tags=None if self.tags is None else clean_tags(self.tags),
            shared_with=None if share is None else parties_of(share.users, share.groups, share.everybody),
            attributes=None if self.metadata is None else checked_attributes(self.metadata),
            version=self.version,
            pinned=self.pinned,
        )


@ROUTES.post(
    "/upload",
    status_code=201,
    openapi_extra={"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": FORM}}}},
)
async def upload(request: Request, response: Response, library: With, principal: Asking) -> answers.Uploaded:
    """Store an adapter, or a new version of the one that has this name."""
    length = request.headers.get("Content-Length", "")
    with library.counts.one() as stored:
        lora = await library.uploads.receive(
            principal, request.stream(), request.headers.get("Content-Type", ""),
            int(length) if length.isascii() and length.isdecimal() else None,
        )  # fmt: skip
        stored(lora)
    response.headers["Location"] = f"/api/loras/{lora.id}"
    return answers.uploaded(lora)


@ROUTES.get("")
async def find(library: With, principal: Asking, asked: Annotated[listing.ListQuery, Query()]) -> answers.Page:
    """Adapters that you may call: your own, and what is shared with you. `deleted`: yours that can be restored."""
    return await listing.page(library, principal, asked)


@ROUTES.get("/quota")
async def quota(library: With, principal: Asking) -> answers.Quota:
    """What you use, and what you may use."""
    return answers.quota(await owners.quota(library.database, principal.subject, library.limits, library.clock()))


@ROUTES.get("/{lora_id}")
async def details(lora_id: Id, library: With, principal: Asking) -> answers.Details:
    """All that is known of an adapter."""
    lora = await reading.get(library.database, principal, lora_id)
    versions = await reading.versions(library.database, lora.id)
    return answers.details(lora, versions, await library.shown(lora), own=lora.owner == principal.subject)


@ROUTES.patch("/{lora_id}")
async def change(lora_id: Id, changes: Changes, library: With, principal: Asking) -> answers.Details:
    """Rename, describe, share, roll back, pin."""
    lora = await changing.change(library.database, principal, lora_id, changes.wanted(), library.clock())
    await library.uploads.tell(principal.subject)
    versions = await reading.versions(library.database, lora.id)
    return answers.details(lora, versions, await library.shown(lora), own=True)


@ROUTES.delete("/{lora_id}", status_code=204)
async def delete(lora_id: Id, library: With, principal: Asking, purge: bool = False) -> None:
    """Nobody can call it any more; it can be restored for some days. With `purge`, its files go at once."""
    await changing.remove(library.database, principal, lora_id, library.limits, library.clock(), purge=purge)
    await library.uploads.tell(principal.subject)


@ROUTES.post("/{lora_id}/restore")
async def restore(lora_id: Id, library: With, principal: Asking) -> answers.Uploaded:
    """Undo a deletion."""
    lora = await changing.restore(library.database, principal, lora_id, library.limits, library.clock())
    await library.uploads.tell(principal.subject)
    return answers.uploaded(lora)


@ROUTES.get("/{lora_id}/files/{file}", response_class=StreamingResponse)
async def download(
    lora_id: Id,
    file: Annotated[str, Path(max_length=200)],
    request: Request,
    library: With,
    principal: Asking,
    version: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
) -> Response:
    """A file of the version that is served, or of another; or a range of it."""
    lora = await reading.get(library.database, principal, lora_id)
    wanted = lora.current if version is None else version
    kept = {each.number: each for each in await reading.versions(library.database, lora.id)}
    found = next((each for each in kept[wanted].files if each["path"] == file), None) if wanted in kept else None
    if found is None:
        raise not_found(f"{lora_id}/{file[:60]}")
    if kept[wanted].state != ACTIVE:
        raise Problem("QUARANTINED", f"version {wanted} is {kept[wanted].state}: a scan has not found it clean")
    key = f"{object_prefix(lora.owner, kept[wanted].object_id)}/{found['path']}"
    await library.note_download(principal, lora, file)
    headers = {
        "Content-Type": "application/octet-stream",
        "Content-Disposition": f'attachment; filename="{found["path"]}"',
        "ETag": f'"{found["sha256"]}"',
    }
    return await library.downloads.answer(
        library.store, key, found["size_bytes"], principal.subject, headers, request.headers.get("Range")
    )
