"""What object stores are asked to give, brought to a disk by the fetcher."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from e2e.stores.azure import ACCOUNT, KEY, AzureServer
from e2e.stores.s3 import KEYS, S3Server
from lora_operator.fetch.errors import FetchError
from lora_operator.fetch.fetcher import Fetcher
from lora_operator.sources import Credentials, SourceRequest, sources_by_type
from tests.sources.adapter_bytes import CONFIG, WEIGHTS, a_request, adapter

Put = Callable[[dict[str, bytes]], None]


@pytest.fixture(params=["s3", "azure"])
def store(request: pytest.FixtureRequest) -> tuple[SourceRequest, Put]:
    """A request for a new bucket or container, and how to put files there."""
    name = f"fetched-{secrets.token_hex(6)}"
    server: S3Server | AzureServer = request.getfixturevalue(f"{request.param}_server")
    values, place = (KEYS, name) if request.param == "s3" else ({"AZURE_STORAGE_ACCOUNT_KEY": KEY}, f"{ACCOUNT}/{name}")
    changes: dict[str, Any] = {"endpoint": server.endpoint, "credentials": Credentials(tuple(values.items()))}
    return a_request(request.param, place, **changes), partial(server.put, name)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


async def test_what_was_located_is_fetched(store: tuple[SourceRequest, Put], tmp_path: Path) -> None:
    request, put = store
    files = adapter("a")
    put(files)
    source = sources_by_type()[request.type]
    (found,) = (await source.resolve(request, None)).adapters
    order = await source.locate(request, found)
    assert not isinstance(order, Path)
    async with Fetcher() as fetcher:
        await fetcher.fetch(order, tmp_path)
    assert contents(tmp_path) == {name: files[f"a/{name}"] for name in (CONFIG, WEIGHTS)}


async def test_what_was_replaced_after_it_was_located_is_not_fetched(
    store: tuple[SourceRequest, Put], tmp_path: Path
) -> None:
    request, put = store
    put(adapter("a"))
    source = sources_by_type()[request.type]
    (found,) = (await source.resolve(request, None)).adapters
    order = await source.locate(request, found)
    assert not isinstance(order, Path)
    put(adapter("a", seed=9))
    async with Fetcher() as fetcher:
        with pytest.raises(FetchError) as caught:
            await fetcher.fetch(order, tmp_path)
    assert caught.value.reason == "SourceChanged"
