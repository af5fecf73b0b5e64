"""Starts Azurite as a process and fills it, with the real SDK."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from e2e.stores.azure.install import azurite_command
from e2e.stores.store_process import StoreProcess

# every Azurite has this account, and everybody knows its key
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


class AzureServer:
    """Use as a context manager. `folder` takes the log. With the PEM files `tls` (certificate, key) it speaks https and
    also takes bearer tokens, of which it checks all but the signature. Raises AzuriteUnavailable.
    """

    def __init__(self, folder: Path, tls: tuple[Path, Path] | None = None) -> None:
        command = azurite_command()
        self._scheme = "https" if tls else "http"
        secure = ["--oauth", "basic", "--cert", str(tls[0]), "--key", str(tls[1])] if tls else []
        self._process = StoreProcess(
            "Azurite",
            lambda port: [*command, "--blobHost", "127.0.0.1", "--blobPort", str(port), "--inMemoryPersistence",
                          "--skipApiVersionCheck", *secure],
            folder / "azurite.log",
            {},
        )  # fmt: skip

    @property
    def endpoint(self) -> str:
        """The account's URL."""
        return f"{self._scheme}://127.0.0.1:{self._process.port}/{ACCOUNT}"

    @cached_property
    def client(self) -> Any:
        """A client of the real SDK that may do everything."""
        from azure.storage.blob import BlobServiceClient

        return BlobServiceClient(self.endpoint, credential=KEY)

    def put(self, container: str, files: Mapping[str, bytes | Path]) -> None:
        """Store `files` by their names, in a container that is made if there is none."""
        client = self.client.get_container_client(container)
        if not client.exists():
            client.create_container()
        for name, content in files.items():
            client.upload_blob(name, content if isinstance(content, bytes) else content.read_bytes(), overwrite=True)

    def close(self) -> None:
        if "client" in self.__dict__:
            self.client.close()
        self._process.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
