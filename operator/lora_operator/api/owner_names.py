"""`spec.owner` of whoever a token names: the user library writes what the gateway looks for. Pure."""

from __future__ import annotations

import hashlib
import re

from lora_operator.api.rules import OWNER

_DERIVED = re.compile(r"-x[0-9a-f]{16}\Z")
_ODD = re.compile(r"[^A-Za-z0-9._-]+", re.ASCII)


def owner_key(subject: str) -> str:
    """`spec.owner` of a subject: the subject itself where that may be one, else a readable form of it with a digest.

    No subject has another's: those that look as if they were derived are derived from, too.
    """
    if OWNER.min_length <= len(subject) <= OWNER.max_length and OWNER.fits(subject) and not _DERIVED.search(subject):
        return subject
    readable = _ODD.sub("-", subject).strip("-_.")[:40].strip("-_.") or "user"
    digest = hashlib.sha256(subject.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{readable}-x{digest[:16]}"
