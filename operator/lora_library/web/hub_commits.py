"""The hub's API for clients of Hugging Face: how files come into a repository."""

from __future__ import annotations

import asyncio
import re
from math import ceil
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from lora_library import partials
from lora_library.hub.committing import KEPT, Committing, Place, check_paths
from lora_library.hub.ndjson import operations_of
from lora_library.hub.repositories import MAIN
from lora_library.model import Principal
from lora_library.partials import LFS, Partial, Wish
from lora_library.problems import Problem
from lora_library.uploads import FORM_BYTES
from lora_library.web.context import Asking, Library, With
from lora_library.web.hub import Name, Owner, Revision, base_of, own_of, repository_of
from lora_library.web.resumable import take_piece
from lora_operator.artifacts import WEIGHTS_FILE

ROUTES = APIRouter()
PIECE_BYTES = 64 << 20
# Releases from 2 on send large files to a store of another kind, which is not here, unless they are told not to. What
# is no larger than that, they may send within the commit.
REGULAR_BYTES = 256 << 20
NO_XET = "set HF_HUB_DISABLE_XET=1 in the environment: this library has no Xet store"
LFS_TYPE = "application/vnd.git-lfs+json"
_RELEASE = re.compile(r"\bhf_hub/(\d+)\.", re.ASCII)
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Candidate(BaseModel):
    model_config = ConfigDict(extra="ignore")
    path: str = Field(max_length=4096)
    size: int = Field(0, ge=0)


class Candidates(BaseModel):
    model_config = ConfigDict(extra="ignore")
    files: list[Candidate] = Field(max_length=1000)


class LargeFile(BaseModel):
    model_config = ConfigDict(extra="ignore")
    oid: Sha256
    size: int = Field(ge=0)


class Batch(BaseModel):
    model_config = ConfigDict(extra="ignore")
    operation: str = "upload"
    transfers: list[str] = Field(default_factory=lambda: ["basic"], max_length=16)
    objects: list[LargeFile] = Field(max_length=100)


@ROUTES.post("/api/models/{owner}/{name}/preupload/{revision:path}")
async def preupload(
    owner: Owner, name: Name, revision: Revision, candidates: Candidates, request: Request, library: With,
    principal: Asking,
) -> dict[str, Any]:  # fmt: skip
    """How each file is to come. What is no part of an adapter is to stay where it is."""
    _check(own_of(owner, principal), revision, request)
    await repository_of(library, principal, owner, name)
    check_paths([each.path for each in candidates.files])
    release = _RELEASE.search(request.headers.get("User-Agent", ""))
    has_lfs = release is not None and int(release[1]) < 2
    return {
        "files": [
            {
                "path": each.path,
                "uploadMode": "lfs"
                if each.path == WEIGHTS_FILE and (has_lfs or each.size > REGULAR_BYTES)
                else "regular",
                "shouldIgnore": each.path not in KEPT,
                "oid": None,
            }
            for each in candidates.files
        ]
    }


@ROUTES.post("/api/models/{owner}/{name}/commit/{revision:path}")
async def commit(
    owner: Owner, name: Name, revision: Revision, request: Request, library: With, principal: Asking
) -> dict[str, Any]:
    """The files of a commit on top of what is there: a version, where that is a whole adapter."""
    _check(own_of(owner, principal), revision, request)
    repository = await repository_of(library, principal, owner, name)
    length = request.headers.get("Content-Length", "")
    announced = int(length) * 3 // 4 if length.isascii() and length.isdecimal() else 0
    uploads = library.uploads
    async with uploads.place(principal, max(0, announced - FORM_BYTES)) as (reservation, folder):
        stream = request.stream()
        counted = uploads.counted(principal.subject, reservation, stream, 0)
        body = uploads.body(reservation, stream) if announced else counted
        operations = await operations_of(body, folder, library.limits.upload_bytes)
        made = await Committing(library, principal, repository, Place(reservation, folder)).apply(operations)
    url = f"{base_of(request, library)}/{owner}/{name}"
    return {"success": True, "commitOid": made, "commitUrl": f"{url}/commit/{made}", "hookOutput": ""}


@ROUTES.post("/{owner}/{name}.git/info/lfs/objects/batch")
async def batch(
    owner: Owner, name: Name, wanted: Batch, request: Request, library: With, principal: Asking
) -> Response:
    """Where large files are to be sent, in pieces where a client knows those."""
    own_of(owner, principal)
    repository = await repository_of(library, principal, owner, name)
    if wanted.operation != "upload":
        raise Problem("INVALID_REQUEST", "files are read by /resolve/")
    known = {entry.mark for entry in repository.main().entries.values()} if repository.lora is not None else set()
    pieces = "multipart" in wanted.transfers
    objects = []
    for each in wanted.objects:
        told: dict[str, Any] = {"oid": each.oid, "size": each.size}
        if each.oid not in known:
            try:
                told["actions"] = await _actions(
                    library, principal, each, base_of(request, library), owner, name, pieces
                )
            except Problem as problem:
                told["error"] = {"code": problem.status, "message": str(problem)}
        objects.append(told)
    content = Batched(transfer="multipart" if pieces else "basic", objects=objects).model_dump_json()
    return Response(content, media_type=LFS_TYPE)


class Batched(BaseModel):
    transfer: str
    objects: list[dict[str, Any]]


async def _actions(
    library: Library, principal: Principal, file: LargeFile, base: str, owner: str, name: str, pieces: bool
) -> dict[str, Any]:
    mine = await partials.find(library.database, library.clock(), owner=principal.subject, purposes=(LFS,))
    found = next((each for each in mine if (each.sha256, each.size_bytes) == (file.oid, file.size)), None)
    if found is None:
        wish = Wish(LFS, file.size, name, file.oid, file.oid)
        found = await partials.begin(library.database, principal.subject, wish, library.limits, library.clock())
    # who knows the id may send these very bytes and nothing else, as with a signed link
    href = f"{base}/api/lfs/{found.id}"
    upload: dict[str, Any] = {"href": href}
    if pieces and file.size > PIECE_BYTES:
        count = ceil(file.size / PIECE_BYTES)
        upload["header"] = {"chunk_size": str(PIECE_BYTES)} | {str(n): f"{href}?piece={n}" for n in range(1, count + 1)}
    return {"upload": upload, "verify": {"href": f"{base}/{owner}/{name}.git/info/lfs/objects/verify"}}


@ROUTES.post("/{owner}/{name}.git/info/lfs/objects/verify")
async def verify(owner: Owner, name: Name, file: LargeFile, library: With, principal: Asking) -> dict[str, Any]:
    """Whether all of a file has come."""
    own_of(owner, principal)
    mine = await partials.find(library.database, library.clock(), owner=principal.subject, purposes=(LFS,))
    for each in mine:
        if each.sha256 == file.oid:
            await _whole(library, each)
            return {}
    raise Problem("ENTRY_NOT_FOUND", f"{file.oid} did not come")


@ROUTES.put("/api/lfs/{partial_id}")
async def put(
    partial_id: Annotated[str, Path(pattern="^[0-9a-f]{32}$")], request: Request, library: With,
    piece: Annotated[int, Query(ge=1, le=10_000)] = 1,
) -> Response:  # fmt: skip
    """A file, or a piece of it. The address is its permission."""
    found = await _by_id(library, partial_id)
    received = await take_piece(library, found, (piece - 1) * PIECE_BYTES, request)
    return Response(headers={"ETag": f'"{received}"'})


@ROUTES.post("/api/lfs/{partial_id}")
async def complete(partial_id: Annotated[str, Path(pattern="^[0-9a-f]{32}$")], library: With) -> dict[str, Any]:
    """All pieces were sent."""
    await _whole(library, await _by_id(library, partial_id))
    return {}


@ROUTES.get("/api/models/{owner}/{name}/xet-{kind}-token/{revision:path}")
async def xet(owner: Owner, name: Name, kind: str, revision: Revision, _: Asking) -> None:
    """There is none."""
    raise Problem("INVALID_REQUEST", NO_XET)


@ROUTES.post("/api/models/{owner}/{name}/branch/{revision:path}")
async def branch(owner: Owner, name: Name, revision: Revision, request: Request, principal: Asking) -> None:
    """There is one."""
    _check(own_of(owner, principal), revision, request)
    raise Problem("NAME_TAKEN", "the branch main is there already")


def _check(owner: str, revision: str, request: Request) -> None:
    if revision != MAIN or request.query_params.get("create_pr"):
        raise Problem(
            "INVALID_REQUEST", "versions follow each other on main: there are no branches and no pull requests"
        )


async def _by_id(library: Library, partial_id: str) -> Partial:
    found = await partials.find(library.database, library.clock(), partial_id=partial_id, purposes=(LFS,))
    if not found:
        raise Problem("ENTRY_NOT_FOUND", "no such upload is under way: push it again")
    return found[0]


async def _whole(library: Library, partial: Partial) -> None:
    came = await asyncio.to_thread(partials.came, library.store, partial)
    if came != partial.size_bytes:
        raise Problem("CONFLICT", f"{came} of {partial.size_bytes} bytes of {partial.path[:100]} came: push it again")
