"""A real store of a region that nobody expects, as MinIO's and versitygw's sites are (`make test-s3`)."""

from __future__ import annotations

from collections.abc import Iterator

import aiohttp
import pytest
from yarl import URL

from e2e.stores.s3 import KEYS, S3Server
from e2e.stores.s3.chosen import start_s3_server
from lora_operator.sources import Credentials
from lora_operator.sources.s3 import S3Source
from tests.sources.adapter_bytes import WEIGHTS, a_request, adapter
from tests.sources.s3_servers import only_real

FILES = adapter("adapters/alpaca")
pytestmark = only_real  # moto knows no site regions


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with start_s3_server(tmp_path_factory.mktemp("site"), region="site-1") as server:
        server.put("models", FILES)
        yield server


@pytest.mark.parametrize("region", [None, "eu-west-1", "site-1"], ids=["none", "a wrong one", "the right one"])
async def test_whatever_region_is_given_the_files_are_found_and_fetched(site: S3Server, region: str | None) -> None:
    source, keys = S3Source(settle_seconds=0), Credentials(tuple(KEYS.items()))
    request = a_request("s3", "models/adapters", endpoint=site.endpoint, credentials=keys, region=region)
    (found,) = (await source.resolve(request, None)).adapters
    assert found.name == "alpaca"
    bodies = {}
    async with aiohttp.ClientSession() as session:
        for file in (await source.locate(request, found)).files:
            if file.link is None:
                continue  # what is small comes with the manifest
            async with session.get(URL(file.link.url, encoded=True), headers=file.link.headers) as answer:
                bodies[file.path] = await answer.read()
                assert answer.status == 200, bodies
    assert bodies[WEIGHTS] == FILES[f"adapters/alpaca/{WEIGHTS}"]
