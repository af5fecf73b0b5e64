"""Under which URL somebody else has a file: without the Secret wherever the server allows that."""

from __future__ import annotations

from lora_operator.fetch.manifest import Link
from lora_operator.sources.http_client import Answer, HttpClient
from lora_operator.sources.http_link_expiry import link_expiry

_GIVEN = frozenset({200, 206})


async def link_to(client: HttpClient, url: str, now: float) -> Link:
    """Where the server leads those who may see the file, without the token if it is given there to everybody, as what
    was signed is; else with the token."""
    if not client.authorization(url):
        return Link(url, expires_at=link_expiry(url, now))
    answer = await _beginning(client, url)
    own = client.authorization(answer.url)
    if answer.status not in _GIVEN or (own and not await _is_for_all(client, answer.url)):
        return Link(url, client.authorization(url), shows_secret=True)
    return Link(answer.url, expires_at=link_expiry(answer.url, now))


async def _is_for_all(client: HttpClient, url: str) -> bool:
    return (await _beginning(client, url, anonymous=True)).status in _GIVEN


async def _beginning(client: HttpClient, url: str, *, anonymous: bool = False) -> Answer:
    return await client.ask("GET", url, {"Range": "bytes=0-0"}, limit_bytes=1, whole=False, anonymous=anonymous)
