"""Which Content-Encodings of an answer leave its bytes as they are kept at the store. Pure.

Nothing is ever decoded: sizes and digests are those of what is kept. Some stores repeat what they were told when a file
was put there (boto3 says aws-chunked), and web servers call an archive's own compression an encoding (x-gzip). What a
server packs on the way is another matter: it does not know the length of that beforehand.
"""

from __future__ import annotations

from collections.abc import Mapping

_NOTHING = frozenset({"", "identity", "aws-chunked"})
_KEPT = frozenset({"gzip", "x-gzip"})


def is_as_kept(headers: Mapping[str, str]) -> bool:
    """Whether the body is what the store keeps, byte for byte."""
    encodings = {part.strip().lower() for part in headers.get("Content-Encoding", "").split(",")} - _NOTHING
    told = "Content-Length" in headers or "Content-Range" in headers
    return not encodings or (encodings <= _KEPT and told)
