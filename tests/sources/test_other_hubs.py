"""Hubs that are not the first: those that lead on GET alone, and those that send large files themselves."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from e2e.stores.hub import LocalHub, Repository
from lora_operator.fetch.fetcher import Fetcher
from lora_operator.fetch.manifest import FetchManifest
from lora_operator.sources import Credentials
from lora_operator.sources.huggingface import HuggingFaceSource
from tests.sources.adapter_bytes import WEIGHTS, a_request, adapter

TOKEN = "hf_aTokenThatNobodyMaySee"
OWN = Credentials((("token", TOKEN),))
REQUEST = a_request("huggingface", "org/my-lora", credentials=OWN)
FILES = adapter(rank=16)


@pytest.fixture
async def hub() -> AsyncIterator[LocalHub]:
    async with LocalHub(tokens=frozenset({TOKEN})) as hub:
        yield hub


def put(hub: LocalHub, *, private: bool = True, large_suffixes: tuple[str, ...] = (".safetensors",)) -> None:
    readers = frozenset({TOKEN}) if private else None
    repository = Repository("org/my-lora", readers, commit_hash="sha256", large_suffixes=large_suffixes)
    repository.commit(FILES)
    hub.repositories[repository.name] = repository


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


async def fetched(hub: LocalHub, into: Path) -> FetchManifest:
    """The order, carried out as for a shared volume: by the operator itself."""
    source = HuggingFaceSource(endpoint=hub.url)
    (found,) = (await source.resolve(REQUEST, None)).adapters
    order = await source.locate(REQUEST, found)
    async with Fetcher() as fetcher:
        await fetcher.fetch(order, into)
    assert contents(into) == FILES
    return order


async def test_what_is_led_on_by_get_alone_comes_by_the_signed_link(hub: LocalHub, tmp_path: Path) -> None:
    hub.tells_first = True
    put(hub)
    order = await fetched(hub, tmp_path)
    (link,) = order.links
    assert link.url.startswith(hub.files_url) and link.expires_at is not None
    assert not link.headers and not order.shows_secret
    assert order.files[1].sha256 == hashlib.sha256(FILES[WEIGHTS]).hexdigest()


@pytest.mark.parametrize("large_suffixes", [(".safetensors",), ()])
async def test_what_only_the_token_gets_comes_to_shared_volumes_however_large(
    hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large_suffixes: tuple[str, ...]
) -> None:
    monkeypatch.setattr("lora_operator.sources.huggingface.MAX_INLINE_BYTES", 100)
    hub.gives_all = True
    put(hub, large_suffixes=large_suffixes)
    order = await fetched(hub, tmp_path)
    assert order.shows_secret  # agents do not get it, unless a setting says so
    assert TOKEN not in repr(order)


async def test_what_only_the_token_gets_comes_along_with_the_order_where_it_is_small(
    hub: LocalHub, tmp_path: Path
) -> None:
    hub.gives_all = True
    put(hub)
    order = await fetched(hub, tmp_path)
    assert order.files[1].inline == FILES[WEIGHTS] and not order.shows_secret


async def test_a_public_file_is_ordered_without_the_token_that_the_resource_names(
    hub: LocalHub, tmp_path: Path
) -> None:
    hub.gives_all = True
    put(hub, private=False)
    order = await fetched(hub, tmp_path)
    assert order.links and not order.shows_secret
