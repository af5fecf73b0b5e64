"""What a web server tells of one file before it is read."""

from __future__ import annotations

import re
from urllib.parse import quote

from lora_operator.sources.base import SourceError
from lora_operator.sources.http_client import Answer, HttpClient, modified_at, refusal, shown
from lora_operator.sources.remote_inspection import MODIFIED, RemoteFile

_LENGTH = re.compile(r"\d{1,18}", re.ASCII)
_TOTAL = re.compile(r"bytes \d+-\d+/(\d{1,18})", re.ASCII)
_NO_HEAD = frozenset({400, 403, 405, 501})


def url_below(folder: str, path: str) -> str:
    """The URL of a file or folder below the URL of a folder."""
    return f"{folder.rstrip('/')}/{quote(path)}"


async def look_at(client: HttpClient, url: str, path: str, largest_bytes: int) -> RemoteFile | None:
    """The file at `url`, to be called `path`; None if there is none.

    Its tag is the ETag, or else the time of its last change. Raises SourceError, also for a file that is too large, and
    for one whose changes could not be noticed.
    """
    answer = await client.ask("HEAD", url, limit_bytes=0, whole=False)
    if answer.status in _NO_HEAD or (answer.status == 200 and "content-length" not in answer.headers):
        # some servers know no HEAD or tell no length there, and signed or guarded places may allow GET alone
        answer = await client.ask("GET", url, {"Range": "bytes=0-0"}, limit_bytes=1, whole=False)
    if answer.status in (404, 410):
        return None
    if answer.status not in (200, 206, 416):
        raise refusal(url, answer.status, answer.headers, has_secret=client.has_secret)
    size = 0 if answer.status == 416 else _size(url, answer)
    if size > largest_bytes:
        raise SourceError(
            "TooLarge",
            f"{shown(url)} has {size} bytes, more than the {largest_bytes} that are fetched: correct the URL, or raise "
            "the limit in the operator's settings",
            retryable=False,
        )
    tag, changed = answer.headers.get("etag", ""), answer.headers.get("last-modified", "")
    if not tag and not changed:
        raise SourceError(
            "NoVersionTold",
            f"{shown(url)} comes with neither ETag nor Last-Modified, so that nobody could notice a change: have the "
            "server send one of them",
            retryable=False,
        )
    return RemoteFile(path, size, tag or MODIFIED + changed, modified_at=modified_at(answer.headers))


def etag_of(file: RemoteFile) -> str:
    """The ETag of a file, "" if it has none."""
    return file.etag


def pinned_headers(file: RemoteFile) -> dict[str, str]:
    """What makes a server refuse to give another version of a file that has no ETag, if it knows how."""
    return {"If-Unmodified-Since": file.tag.removeprefix(MODIFIED)} if file.tag.startswith(MODIFIED) else {}


def _size(url: str, answer: Answer) -> int:
    if answer.status == 206:
        whole = _TOTAL.fullmatch(answer.headers.get("content-range", ""))
        text = whole[1] if whole else ""
    else:
        text = answer.headers.get("content-length", "")
    if not _LENGTH.fullmatch(text):
        raise SourceError(
            "SizeUnknown",
            f"{shown(url)}: the server does not tell the file's size: have it served as a plain file, with its length",
            retryable=False,
        )
    return int(text)
