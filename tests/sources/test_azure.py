"""Adapters in containers, read from Azurite with the real SDK over HTTP."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest
from azure.storage.blob import ContainerSasPermissions, generate_container_sas
from yarl import URL

from e2e.stores.azure import ACCOUNT, KEY, AzureServer
from lora_operator.fetch.manifest import FetchFile, FetchManifest
from lora_operator.sources import Credentials, FoundAdapter, Resolution, SourceError
from lora_operator.sources.azure import AzureSource
from tests.sources.adapter_bytes import CONFIG, WEIGHTS, a_request, adapter

SECRET = Credentials((("AZURE_STORAGE_ACCOUNT_KEY", KEY),))


@dataclass
class Container:
    """A container of its own for one test."""

    name: str
    server: AzureServer
    source: AzureSource

    @property
    def client(self) -> Any:
        return self.server.client.get_container_client(self.name)

    def put(self, files: Mapping[str, bytes]) -> None:
        self.server.put(self.name, files)

    def request(self, place: str = "", **changes: Any) -> Any:
        given = {"endpoint": self.server.endpoint, "credentials": SECRET} | changes
        return a_request("azure", f"{ACCOUNT}/{self.name}{place}", **given)

    async def resolved(self, place: str = "", previous: Resolution | None = None, **changes: Any) -> Resolution:
        return await self.source.resolve(self.request(place, **changes), previous)

    async def located(self, found: FoundAdapter, **changes: Any) -> FetchManifest:
        return await self.source.locate(self.request("/adapters", **changes), found)

    def sas(self, lifetime: timedelta = timedelta(minutes=30), *, may: str = "rl") -> str:
        permission = ContainerSasPermissions(read="r" in may, list="l" in may)
        end = datetime.now(UTC) + lifetime
        return str(generate_container_sas(ACCOUNT, self.name, account_key=KEY, permission=permission, expiry=end))


@pytest.fixture
def container(azure_server: AzureServer, azure_source: AzureSource) -> Container:
    name = f"container-{secrets.token_hex(6)}"
    azure_server.client.create_container(name)
    return Container(name, azure_server, azure_source)


async def downloaded(file: FetchFile) -> bytes:
    """What anybody who has the link gets."""
    assert file.link is not None
    url = URL(file.link.url, encoded=True)
    async with aiohttp.ClientSession() as session, session.get(url, headers=file.link.headers) as answer:
        answer.raise_for_status()
        assert answer.headers["ETag"].strip('"') == file.link.tag
        return await answer.read()


def names(resolution: Resolution) -> list[str]:
    return [found.name for found in resolution.adapters]


async def test_finds_one_adapter_per_folder_below_the_prefix(container: Container) -> None:
    container.put(adapter("adapters/a") | adapter("adapters/b", rank=8) | adapter("elsewhere/c"))
    container.put(adapter("adapters/a/checkpoint-1") | adapter("adapters/.hidden") | {"adapters/README.md": b"x"})
    found = (await container.resolved("/adapters")).adapters
    assert [(each.name, each.inspection.rank) for each in found] == [("a", 4), ("b", 8)]
    assert found[0].location == f"{container.server.endpoint}/{container.name}/adapters/a/"
    (config, weights) = found[0].files
    assert len(config.sha256) == 64
    assert (weights.sha256, bool(weights.tag)) == ("", True)


async def test_finds_one_adapter_at_the_prefix_and_in_the_container_itself(container: Container) -> None:
    container.put(adapter("adapters/alpaca"))
    assert names(await container.resolved("/adapters/alpaca")) == ["alpaca"]
    container.put(adapter())
    assert names(await container.resolved()) == [container.name]


async def test_takes_the_container_s_url(container: Container) -> None:
    container.put(adapter("adapters/a"))
    url = f"{container.server.endpoint}/{container.name}/adapters/"
    request = a_request("azure", url, credentials=SECRET)
    assert names(await container.source.resolve(request, None)) == ["a"]


async def test_takes_an_endpoint_with_or_without_the_account(container: Container) -> None:
    container.put(adapter("a"))
    endpoint = container.server.endpoint.removesuffix(f"/{ACCOUNT}")
    assert names(await container.resolved(endpoint=endpoint)) == ["a"]


async def test_takes_a_connection_string(container: Container) -> None:
    container.put(adapter("a"))
    text = f"AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={container.server.endpoint};"
    secret = Credentials((("AZURE_STORAGE_CONNECTION_STRING", text),))
    assert names(await container.resolved(credentials=secret, endpoint=None)) == ["a"]


async def test_an_unchanged_container_is_not_read_again(container: Container) -> None:
    container.put(adapter("adapters/a") | adapter("adapters/bad", peft_type="IA3"))
    first = await container.resolved("/adapters")
    assert [item.reason for item in first.broken] == ["PeftTypeUnsupported"]
    may_only_list = Credentials((("AZURE_STORAGE_SAS_TOKEN", container.sas(may="l")),))
    second = await container.resolved("/adapters", first, credentials=may_only_list)
    assert second == first and second.adapters[0] is first.adapters[0]


async def test_keeps_the_good_version_while_its_successor_is_broken_or_half_there(container: Container) -> None:
    container.put(adapter("a"))
    first = await container.resolved()
    container.client.delete_blob(f"a/{WEIGHTS}")
    half = await container.resolved("", first)
    assert half.adapters == first.adapters
    assert [item.reason for item in half.stale] == ["WeightsMissing"]
    container.put(adapter("a", seed=5))
    healed = await container.resolved("", half)
    assert healed.stale == () and healed.adapters[0].fingerprint != first.adapters[0].fingerprint


async def test_gives_the_config_inline_and_the_weights_as_a_link_of_an_hour(container: Container) -> None:
    files = adapter("adapters/a")
    container.put(files)
    (found,) = (await container.resolved("/adapters")).adapters
    config, weights = (await container.located(found)).files
    assert config.inline == files[f"adapters/a/{CONFIG}"] and config.link is None
    assert config.sha256 == hashlib.sha256(config.inline).hexdigest()
    assert await downloaded(weights) == files[f"adapters/a/{WEIGHTS}"]
    assert weights.link is not None and weights.link.expires_at is not None
    assert time.time() + 3500 < weights.link.expires_at <= time.time() + 3600
    assert not weights.link.shows_secret


async def test_signs_links_of_prefixes_with_signs_that_urls_escape(container: Container) -> None:
    files = adapter("my models/100% + ü#?/a")
    container.put(files)
    place = "/my%20models/100%25%20%2B%20%C3%BC%23%3F"
    request = a_request("azure", f"{container.server.endpoint}/{container.name}{place}", credentials=SECRET)
    (found,) = (await container.source.resolve(request, None)).adapters
    _, weights = (await container.source.locate(request, found)).files
    assert await downloaded(weights) == files[f"my models/100% + ü#?/a/{WEIGHTS}"]


async def test_links_of_a_sas_carry_that_sas_and_end_with_it(container: Container) -> None:
    container.put(adapter("adapters/a"))
    sas = container.sas()
    secret = Credentials((("AZURE_STORAGE_SAS_TOKEN", f"?{sas}\n"),))
    (found,) = (await container.resolved("/adapters", credentials=secret)).adapters
    _, weights = (await container.located(found, credentials=secret)).files
    assert await downloaded(weights) == adapter("adapters/a")[f"adapters/a/{WEIGHTS}"]
    assert weights.link is not None and weights.link.url.endswith(sas) and weights.link.shows_secret
    assert weights.link.expires_at is not None and abs(weights.link.expires_at - time.time() - 1800) < 120


async def test_neither_log_nor_repr_shows_a_key_or_a_link(
    container: Container, caplog: pytest.LogCaptureFixture
) -> None:
    container.put(adapter("adapters/a"))
    caplog.set_level("DEBUG")
    secret = Credentials((("AZURE_STORAGE_SAS_TOKEN", container.sas()),))
    for credentials in (SECRET, secret):
        resolution = await container.resolved("/adapters", credentials=credentials)
        order = await container.located(resolution.adapters[0], credentials=credentials)
        shown = caplog.text + repr((resolution, order, container.request(credentials=credentials), container.source))
        assert not any(text in shown for text in (KEY, "sig=", "Authorization", "SharedKey"))


@pytest.mark.parametrize("file", [CONFIG, WEIGHTS])
async def test_says_that_the_version_is_gone_when_a_file_was_replaced_or_removed(
    container: Container, file: str
) -> None:
    container.put(adapter("adapters/a"))
    (found,) = (await container.resolved("/adapters")).adapters
    container.put({f"adapters/a/{file}": adapter("a", seed=9, lora_alpha=32)[f"a/{file}"]})
    with pytest.raises(SourceError) as caught:
        await container.located(found)
    assert (caught.value.reason, caught.value.retryable) == ("SourceChanged", True)
    container.client.delete_blob(f"adapters/a/{file}")
    with pytest.raises(SourceError) as caught:
        await container.located(found)
    assert caught.value.reason == "SourceChanged"


async def test_a_public_container_needs_no_secret(container: Container) -> None:
    container.client.set_container_access_policy({}, public_access="container")
    container.put(adapter("adapters/a"))
    (found,) = (await container.resolved("/adapters", credentials=None)).adapters
    weights = (await container.located(found, credentials=None)).files[1]
    assert weights.link is not None and weights.link.expires_at is None and "?" not in weights.link.url
    assert len(await downloaded(weights)) == found.files[1].size_bytes
