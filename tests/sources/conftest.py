"""The stores that the tests of sources share: each is started once, for the first test that asks for it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from e2e.stores.azure import AzureServer, AzuriteUnavailable
from e2e.stores.s3 import S3Server
from e2e.stores.s3.chosen import start_s3_server
from lora_operator.sources import s3_store
from lora_operator.sources.azure import AzureSource
from lora_operator.sources.s3 import S3Source
from tests.sources.bucket import Bucket


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with start_s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="session")
def s3_source() -> S3Source:
    """Shared, as it is in the operator: the SDK takes a while to begin."""
    return S3Source(settle_seconds=0)


@pytest.fixture
def bucket(s3_server: S3Server, s3_source: S3Source) -> Bucket:
    name = f"bucket-{secrets.token_hex(6)}"
    s3_server.client.create_bucket(Bucket=name)
    return Bucket(name, s3_server, s3_source)


@pytest.fixture
def at_sdk(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Callable[..., Any]], None]:
    """Has the SDK's clients call something at one of their events, before all others."""
    made = s3_store.Surroundings.client
    events: list[tuple[str, Callable[..., Any]]] = []

    def client(self: Any, *arguments: Any, **settings: Any) -> Any:
        told = made(self, *arguments, **settings)
        for event, call in events:
            told.meta.events.register_first(event, call)
        return told

    monkeypatch.setattr(s3_store.Surroundings, "client", client)
    return lambda event, call: events.append((event, call))


@pytest.fixture(scope="session")
def azure_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AzureServer]:
    try:
        server = AzureServer(tmp_path_factory.mktemp("azure"))
    except AzuriteUnavailable as error:
        pytest.skip(f"Azurite cannot run here: {error}")
    with server:
        yield server


@pytest.fixture(scope="session")
def azure_source() -> AzureSource:
    """Shared, as it is in the operator: the SDK takes a while to begin."""
    return AzureSource(settle_seconds=0)
