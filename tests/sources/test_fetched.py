"""From a resource's words to files on disk: what the sources order is what the fetcher can bring."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from e2e.stores.hub import LocalHub, Repository
from e2e.stores.proxy import Fault
from e2e.stores.web import WebStore
from lora_operator.fetch.fetcher import Fetcher
from lora_operator.sources import Credentials, Source, SourceRequest
from lora_operator.sources.http import HttpSource
from lora_operator.sources.huggingface import HuggingFaceSource
from tests.sources.adapter_bytes import CONFIG, WEIGHTS, a_request, adapter
from tests.sources.test_http_archive import KINDS, packed

TOKEN = "aTokenThatNobodyMaySee"
OWN = Credentials((("token", TOKEN),))
FILES = adapter("x")


@dataclass
class Stores:
    """A private repository at a hub, and a web server that wants the token."""

    hub: LocalHub
    web: WebStore

    def case(self, name: str) -> tuple[Source, SourceRequest]:
        if name == "huggingface":
            return HuggingFaceSource(endpoint=self.hub.url), a_request("huggingface", "org/loras", credentials=OWN)
        path = "/loras/x" if name == "folder" else f"/loras{name}"
        return HttpSource(), a_request("http", self.web.url(path), credentials=OWN)


@pytest.fixture
async def stores() -> AsyncIterator[Stores]:
    repository = Repository("org/loras", readers=frozenset({TOKEN}))
    repository.commit(FILES)
    files: Mapping[str, Any] = {f"/loras/{path}": content for path, content in FILES.items()}
    archives = {f"/loras{kind}": packed(kind, FILES) for kind in KINDS}
    async with (
        LocalHub(repository, tokens=frozenset({TOKEN})) as hub,
        WebStore({**files, **archives}, token=TOKEN) as web,
    ):
        yield Stores(hub, web)


@pytest.mark.parametrize("name", ["huggingface", "folder", *KINDS])
async def test_what_is_resolved_and_located_is_fetched_whole(
    stores: Stores, name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    source, request = stores.case(name)
    resolution = await source.resolve(request, None)
    (found,) = resolution.adapters
    order = await source.locate(request, found)
    assert not isinstance(order, Path)
    async with Fetcher() as fetcher:
        arrived = await fetcher.fetch(order, tmp_path)
    assert sorted(file.path for file in arrived) == [CONFIG, WEIGHTS]
    assert [(tmp_path / each).read_bytes() for each in (CONFIG, WEIGHTS)] == [
        FILES[f"x/{each}"] for each in (CONFIG, WEIGHTS)
    ]
    for ordered, file in zip(found.files, arrived, strict=True):
        assert ordered.sha256 in ("", file.sha256)
    for text in (caplog.text, repr(order), repr(resolution), repr(request), repr(source)):
        assert TOKEN not in text
        assert "Signature" not in text


@pytest.mark.parametrize("name", ["folder", ".tar.gz", ".zip"])
async def test_a_web_server_without_etags_is_enough(stores: Stores, name: str, tmp_path: Path) -> None:
    stores.web.always = Fault(tag="", headers={"Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"})
    source, request = stores.case(name)
    (found,) = (await source.resolve(request, None)).adapters
    order = await source.locate(request, found)
    assert not isinstance(order, Path)
    async with Fetcher() as fetcher:
        await fetcher.fetch(order, tmp_path)
    assert (tmp_path / WEIGHTS).read_bytes() == FILES[f"x/{WEIGHTS}"]
