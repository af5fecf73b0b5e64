"""A bucket of its own for a test, and what anybody gets by the links to its objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
from yarl import URL

from e2e.stores.s3 import KEYS, S3Server
from lora_operator.fetch.manifest import FetchFile, FetchManifest
from lora_operator.sources import Credentials, Resolution
from lora_operator.sources.s3 import S3Source
from tests.sources.adapter_bytes import a_request

SECRET = Credentials(tuple(KEYS.items()))


@dataclass
class Bucket:
    """A bucket of its own for one test."""

    name: str
    server: S3Server
    source: S3Source

    @property
    def client(self) -> Any:
        return self.server.client

    def put(self, files: Mapping[str, bytes], **how: Any) -> None:
        for key, body in files.items():
            self.client.put_object(Bucket=self.name, Key=key, Body=body, **how)

    async def resolved(
        self, place: str = "", previous: Resolution | None = None, *, source: S3Source | None = None, **changes: Any
    ) -> Resolution:
        return await (source or self.source).resolve(self.request(place, **changes), previous)

    def request(self, place: str = "", **changes: Any) -> Any:
        given = {"endpoint": self.server.endpoint, "credentials": SECRET, "region": "us-east-1"} | changes
        return a_request("s3", f"{self.name}{place}", **given)

    async def located(self, found: Any, **changes: Any) -> FetchManifest:
        return await self.source.locate(self.request("/adapters", **changes), found)


async def downloaded(file: FetchFile) -> bytes:
    """What anybody who has the link gets."""
    assert file.link is not None
    url = URL(file.link.url, encoded=True)
    async with aiohttp.ClientSession() as session, session.get(url, headers=file.link.headers) as answer:
        answer.raise_for_status()
        assert file.link.tag in ("", answer.headers["ETag"].strip('"'))
        return await answer.read()


def names(resolution: Resolution) -> list[str]:
    return [found.name for found in resolution.adapters]
