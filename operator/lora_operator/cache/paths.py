"""The layout of a store: `<root>/<name>/<fingerprint>/`. Pure.

The same layout is seen by the operator and, under their own mount point, by the pods; an engine repeats the path of
what it loaded as `root` in /v1/models, which is how we know which version it has.
"""

from __future__ import annotations

import re
from pathlib import Path

from lora_operator.artifacts import InvalidAdapterName, valid_adapter_name
from lora_operator.cache.store_error import StoreError

_FINGERPRINT = re.compile(r"[0-9a-f]{16}", re.ASCII)


def version_path(root: Path, name: str, fingerprint: str) -> Path:
    """Where a version lives below `root`. Raises StoreError for a name or fingerprint that is none of ours."""
    try:
        valid_adapter_name(name)
    except InvalidAdapterName as error:
        raise StoreError("InvalidName", str(error), retryable=False) from error
    if not is_fingerprint(fingerprint):
        raise StoreError(
            "InvalidFingerprint",
            f"{name}: {fingerprint[:40]!r} is not a fingerprint (16 hex digits): this is a defect, report it",
            retryable=False,
        )
    return root / name / fingerprint


def parse_root(root_path: str, adapter_root: str) -> tuple[str, str] | None:
    """The (name, fingerprint) that a path below a pod's `adapter_root` stands for, or None if it is not one of ours."""
    prefix = adapter_root.rstrip("/") + "/"
    if not adapter_root or not root_path.startswith(prefix):
        return None
    parts = root_path[len(prefix) :].removesuffix("/").split("/")
    if len(parts) != 2 or not is_fingerprint(parts[1]):
        return None
    return (parts[0], parts[1]) if is_name(parts[0]) else None


def is_fingerprint(text: str) -> bool:
    """Whether `text` looks like what `artifacts.fingerprint` makes."""
    return _FINGERPRINT.fullmatch(text) is not None


def is_name(text: str) -> bool:
    """Whether an adapter may be called so."""
    try:
        valid_adapter_name(text)
    except InvalidAdapterName:
        return False
    return True
