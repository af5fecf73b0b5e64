"""Opens the store that an address names. Clients are imported only for the one that is used."""

from __future__ import annotations

import re
from pathlib import Path

from lora_library.stores.base import Store
from lora_operator.settings.options import SettingsError

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", re.ASCII)


def open_store(address: str, *, endpoint: str = "", region: str = "", seen_at: str = "") -> Store:
    """`address`: s3://bucket/prefix, azure://account/container/prefix, or an absolute folder. Raises SettingsError."""
    kind, _, rest = address.partition("://")
    parts = rest.split("/", 2)
    if kind == "s3" and _BUCKET.fullmatch(parts[0]):
        from lora_library.stores.s3 import S3Store

        return S3Store(parts[0], rest.partition("/")[2], endpoint, region, seen_at)
    if kind == "azure" and len(parts) > 1 and all(parts[:2]):
        from lora_library.stores.azure import AzureStore

        return AzureStore(parts[0], parts[1], parts[2] if len(parts) > 2 else "", endpoint, seen_at)
    if address.startswith("/") and ".." not in address.split("/"):
        from lora_library.stores.folder import FolderStore

        return FolderStore(Path(address), seen_at)
    raise SettingsError(
        f"--store: {address[:200]!r} is neither s3://bucket/prefix nor azure://account/container/prefix nor an "
        "absolute folder"
    )
