"""What can go wrong with one answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Fault:
    """Nothing, by default: the file, or the range that was asked for. Offsets count the bytes of the body.

    `status` answers with that and no file; `redirect` with 302 to that location. `announced` is a Content-Length that
    is not so, `size` a whole size in Content-Range that is not so; `chunked` tells no length. `corrupt_at` is an offset
    in the file. `raw` is sent instead of any HTTP.
    """

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    redirect: str | None = None
    ranges: bool = True
    tag: str | None = None  # another ETag than the file's; "" for none
    cut_after: int | None = None
    stall_after: int | None = None
    corrupt_at: int | None = None
    announced: int | None = None
    size: int | None = None
    chunked: bool = False
    raw: bytes | None = None
