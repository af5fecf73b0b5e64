"""A name for something whose own name is not allowed in some place, that no other of them has. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable

_DERIVED = re.compile(r"-x[0-9a-f]{16}\Z")


def derived_name(text: str, fits: Callable[[str], bool], readable: str, *, otherwise: str) -> str:
    """The text itself where that `fits`, else what is `readable` of it (`otherwise` if nothing is) with a digest, of 58
    characters at most.

    No two texts have one name: those that look as if they were derived are derived from, too.
    """
    if fits(text) and not _DERIVED.search(text):
        return text
    short = readable.strip("-_.")[:40].strip("-_.") or otherwise
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{short}-x{digest[:16]}"
