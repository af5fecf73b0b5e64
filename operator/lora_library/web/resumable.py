"""Uploads that go on where they broke off: tus 1.0 (core, creation, expiration, termination), as https://tus.io has it.

A resumable upload is a file. `POST /api/loras/upload` makes an adapter of one or several, named by the field `upload`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
from email.utils import formatdate
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from lora_library import partials
from lora_library.model import Principal
from lora_library.partials import UPLOAD, Partial, Wish
from lora_library.problems import Problem
from lora_library.web.context import Asking, Library, With

ROUTES = APIRouter()
VERSION = "1.0.0"
LEAST_PIECE_BYTES = 1 << 20  # of one that is not the last: each is a key of the store
Id = Annotated[str, Path(pattern="^[0-9a-f]{32}$")]


@ROUTES.options("")
async def can(library: With) -> Response:
    """What of tus there is."""
    headers = {"Tus-Version": VERSION, "Tus-Extension": "creation,expiration,termination"}
    return Response(status_code=204, headers=_said(headers | {"Tus-Max-Size": str(library.limits.upload_bytes)}))


@ROUTES.post("", status_code=201, response_class=Response)
async def create(request: Request, library: With, principal: Asking) -> Response:
    """Begin one: its room is taken now. `Upload-Length` is needed, `Upload-Metadata` may say its filename."""
    length = request.headers.get("Upload-Length", "")
    if not (length.isascii() and length.isdecimal() and len(length) < 18):
        raise Problem("INVALID_REQUEST", "say with Upload-Length how many bytes the file has")
    wish = Wish(UPLOAD, int(length), "", _file_name(request.headers.get("Upload-Metadata", "")))
    made = await partials.begin(library.database, principal.subject, wish, library.limits, library.clock())
    location = f"{request.url.path.rstrip('/')}/{made.id}"
    return Response(status_code=201, headers=_said({"Location": location, **_until(made)}))


@ROUTES.head("/{upload_id}", response_class=Response)
async def look(upload_id: Id, library: With, principal: Asking) -> Response:
    """How much has come."""
    found = await _mine(library, principal, upload_id)
    came = await asyncio.to_thread(partials.came, library.store, found)
    headers = {"Upload-Offset": str(came), "Upload-Length": str(found.size_bytes), **_until(found)}
    return Response(status_code=200, headers=_said(headers))


@ROUTES.patch("/{upload_id}", status_code=204, response_class=Response)
async def go_on(upload_id: Id, request: Request, library: With, principal: Asking) -> Response:
    """The bytes from `Upload-Offset` on; what has come when the connection breaks is kept."""
    found = await _mine(library, principal, upload_id)
    offset = request.headers.get("Upload-Offset", "")
    came = await asyncio.to_thread(partials.came, library.store, found)
    if request.headers.get("Content-Type") != "application/offset+octet-stream":
        raise Problem("INVALID_REQUEST", "send the bytes as application/offset+octet-stream")
    if offset != str(came):
        raise Problem("CONFLICT", f"{came} bytes have come: go on there, with Upload-Offset: {came}")
    await take_piece(library, found, came, request, least_bytes=LEAST_PIECE_BYTES)
    await partials.keep_on(library.database, found.id, library.clock())
    came = await asyncio.to_thread(partials.came, library.store, found)
    return Response(status_code=204, headers=_said({"Upload-Offset": str(came), **_until(found)}))


@ROUTES.delete("/{upload_id}", status_code=204, response_class=Response)
async def end(upload_id: Id, library: With, principal: Asking) -> Response:
    """Give it up."""
    await partials.drop(library.database, [await _mine(library, principal, upload_id)], library.clock())
    return Response(status_code=204, headers=_said({}))


async def take_piece(
    library: Library, partial: Partial, begins_at: int, request: Request, *, least_bytes: int | None = None
) -> str:
    """A body becomes a piece of a file; its SHA-256. With `least_bytes` also where it breaks off, from so many on.

    Raises Problem, StoreError.
    """
    room = partial.size_bytes - begins_at
    received, written, whole = hashlib.sha256(), 0, False
    async with library.uploads.place(Principal(partial.owner)) as (reservation, folder):
        path = folder / "piece"
        try:
            with path.open("xb") as out:
                async for chunk in library.uploads.body(reservation, request.stream()):
                    written += len(chunk)
                    if written > room:
                        raise Problem(
                            "FILE_TOO_LARGE", f"the file was to have {partial.size_bytes} bytes, and more came"
                        )
                    out.write(chunk)
                    received.update(chunk)
            whole = True
        finally:
            worth = written == room or written >= (least_bytes or 0)  # each is a key of the store
            if 0 < written <= room and worth and (whole or least_bytes is not None):
                await asyncio.to_thread(partials.add_piece, library.store, partial, begins_at, path)
        if not worth:
            raise Problem("INVALID_REQUEST", f"send {least_bytes} bytes at a time, but for the last")
    return received.hexdigest()


async def _mine(library: Library, principal: Principal, upload_id: str) -> Partial:
    found = await partials.find(
        library.database, library.clock(), partial_id=upload_id, owner=principal.subject, purposes=(UPLOAD,)
    )
    if not found:
        raise Problem("LORA_NOT_FOUND", "there is no such upload among yours, or it is older than a day: begin anew")
    return found[0]


def _file_name(metadata: str) -> str:
    """Of pairs like `filename d29ybGQ=`."""
    for pair in metadata.split(","):
        key, _, value = pair.strip().partition(" ")
        if key in ("filename", "name"):
            try:
                name = base64.b64decode(value, validate=True).decode()
            except (binascii.Error, UnicodeDecodeError):
                raise Problem("INVALID_REQUEST", "Upload-Metadata cannot be read") from None
            if name.isprintable():
                return name[:500]
    return ""


def _said(headers: dict[str, str]) -> dict[str, str]:
    return {"Tus-Resumable": VERSION, **headers}


def _until(partial: Partial) -> dict[str, str]:
    return {"Upload-Expires": formatdate(partial.expires_at, usegmt=True)}
