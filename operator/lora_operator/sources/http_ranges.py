"""Reads a piece of a file over HTTP, from servers that know ranges and from those that do not."""

from __future__ import annotations

import re
from collections.abc import Callable

from lora_operator.artifacts import AdapterRefused, RefusedReason
from lora_operator.fetch.answers import same_tag
from lora_operator.sources.base import SourceError
from lora_operator.sources.http_client import Answer, HttpClient
from lora_operator.sources.remote_inspection import RemoteFile

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)", re.ASCII)


async def read_range(
    client: HttpClient,
    url: str,
    file: RemoteFile,
    begin: int,
    end: int,
    refuse: Callable[[Answer], SourceError],
    etag: str = "",
) -> bytes:
    """Bytes [begin, end) of `file`, which is at `url`; fewer if the answer ends before.

    A server without ranges sends the file from its beginning: it is read up to `end` and no further. `etag`: what the
    answer must carry, "" for any. Raises AdapterRefused (FileChanged) if the server has another file by now, what
    `refuse` makes of other error answers, and SourceError.
    """
    wanted = {"Range": f"bytes={begin}-{end - 1}"} | ({"If-Match": etag} if etag.startswith('"') else {})
    answer = await client.ask("GET", url, wanted, limit_bytes=end, whole=False)
    told = answer.headers.get("etag", "")
    if answer.status in (200, 206) and etag and told and same_tag(told) != same_tag(etag):
        raise changed_file(file)
    if answer.status == 206:
        match = _CONTENT_RANGE.fullmatch(answer.headers.get("content-range", ""))
        if not match or int(match[1]) != begin or match[3] not in ("*", str(file.size_bytes)):
            raise changed_file(file)
        return answer.body[: end - begin]
    if answer.status == 200:
        length = answer.headers.get("content-length", "")
        if length and length != str(file.size_bytes):
            raise changed_file(file)
        return answer.body[begin:end]
    if answer.status in (404, 410, 412, 416):
        raise changed_file(file)
    raise refuse(answer)


def changed_file(file: RemoteFile) -> AdapterRefused:
    """What is said of a file that is not the one that was listed a moment ago."""
    return AdapterRefused(
        RefusedReason.FILE_CHANGED, f"{file.path} changed at the store while it was read: wait until it is complete"
    )
