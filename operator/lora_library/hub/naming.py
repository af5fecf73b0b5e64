"""How owners, versions and files are called there: a repository is OWNER/NAME, a commit 40 hex digits. Pure."""

from __future__ import annotations

import hashlib
import re

from lora_library.model import Version
from lora_operator.api.owner_names import owner_key

CARD_FILE = "README.md"
CARD_BYTES = 256 << 10
_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?", re.ASCII)  # as its clients check it


def hub_name(subject: str) -> str:
    """What comes before the slash: as `spec.owner`, made such that clients take it."""
    name = owner_key(subject)
    if _NAME.fullmatch(name) and "--" not in name and ".." not in name and not name.endswith(".git"):
        return name
    return f"user-x{hashlib.sha256(subject.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


def commit_of(lora_id: str, version: Version) -> str:
    """The commit that a version is. Another card is another commit."""
    return digest(f"{lora_id} {version.number} {version.object_id} {version.card}")


def digest(text: str) -> str:
    return hashlib.sha1(text.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()


def blob_id(content: bytes) -> str:
    """What git calls a file of this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
