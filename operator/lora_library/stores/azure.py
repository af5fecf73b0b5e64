"""A container of Azure Blob Storage, through Azure's own client."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from azure.core.credentials import AzureNamedKeyCredential, AzureSasCredential
from azure.core.exceptions import AzureError, ResourceNotFoundError
from azure.identity import DefaultAzureCredential
from azure.storage.blob import BlobServiceClient

from lora_library.stores.base import Missing, StoredKey, StoreError

BLOCK_BYTES = 4 << 20


class AzureStore:
    """See `Store`. The key is AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN of the environment, else the
    identity that the surroundings give. `seen_at` is the endpoint as the operator has it."""

    def __init__(self, account: str, container: str, prefix: str, endpoint: str = "", seen_at: str = "") -> None:
        self._account, self._container_name = account, container
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._endpoint = seen_at or endpoint
        self._service = BlobServiceClient(
            endpoint or f"https://{account}.blob.core.windows.net", credential=_credential(account),
            max_single_put_size=BLOCK_BYTES, max_block_size=BLOCK_BYTES, max_single_get_size=BLOCK_BYTES,
            max_chunk_get_size=BLOCK_BYTES, connection_timeout=5, read_timeout=60,
        )  # fmt: skip
        self._container: Any = self._service.get_container_client(container)

    def put_file(self, key: str, file: Path) -> None:
        with self._explained(key), file.open("rb") as content:
            self._container.upload_blob(self._prefix + key, content, overwrite=True, length=file.stat().st_size)

    def put(self, key: str, content: bytes) -> None:
        with self._explained(key):
            self._container.upload_blob(self._prefix + key, content, overwrite=True)

    def copy(self, source: str, target: str) -> None:
        """Through this process, as a copy within the service needs a signed link where a key is not used."""
        with self._explained(source):
            blob = self._container.get_blob_client(self._prefix + source)
            size = blob.get_blob_properties().size
            self._container.upload_blob(self._prefix + target, self.read(source), overwrite=True, length=size)

    def get(self, key: str) -> bytes:
        return b"".join(self.read(key))

    def read(self, key: str, begin: int = 0, end: int | None = None) -> Iterator[bytes]:
        with self._explained(key):
            wanted = {"offset": begin, "length": None if end is None else end - begin} if begin or end else {}
            yield from self._container.download_blob(self._prefix + key, **wanted).chunks()

    def keys(self, prefix: str) -> Iterator[StoredKey]:
        with self._explained(prefix):
            for blob in self._container.list_blobs(name_starts_with=self._prefix + prefix):
                yield StoredKey(blob.name[len(self._prefix) :], int(blob.size), blob.last_modified.timestamp())

    def delete(self, key: str) -> None:
        with contextlib.suppress(Missing), self._explained(key):
            self._container.delete_blob(self._prefix + key)

    def tidy(self, before: float) -> int:
        """Blocks that were not committed go by themselves after a week."""
        return 0

    def source(self, prefix: str) -> Mapping[str, str]:
        given = {"type": "azure", "repository": f"{self._account}/{self._container_name}/{self._prefix}{prefix}"}
        return given | ({"endpoint": self._endpoint} if self._endpoint else {})

    def check(self) -> None:
        with self._explained(""):
            self._container.get_container_properties()

    @contextlib.contextmanager
    def _explained(self, key: str) -> Iterator[None]:
        shown = f"azure://{self._account}/{self._container_name}/{self._prefix}{key[:200]}"
        try:
            yield
        except ResourceNotFoundError:
            raise Missing(f"there is no {shown}") from None
        except (AzureError, OSError) as error:
            code = getattr(error, "error_code", None) or type(error).__name__
            raise StoreError(f"{shown}: {code}") from None


def _credential(account: str) -> Any:
    if key := os.environ.get("AZURE_STORAGE_ACCOUNT_KEY"):
        return AzureNamedKeyCredential(account, key)
    if token := os.environ.get("AZURE_STORAGE_SAS_TOKEN"):
        return AzureSasCredential(token)
    return DefaultAzureCredential(exclude_interactive_browser_credential=True)
