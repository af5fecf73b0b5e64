"""Under which URL somebody else has a file: without the Secret wherever the server allows that."""

from __future__ import annotations

from collections.abc import Callable

from lora_operator.fetch.manifest import Link
from lora_operator.sources.http_client import Answer, HttpClient
from lora_operator.sources.http_link_expiry import link_expiry

_GIVEN = frozenset({200, 206})


async def link_to(
    client: HttpClient, url: str, now: float, refuse: Callable[[Answer], Exception] | None = None
) -> Link:
    """Where the server leads those who may see the file, without the token if it is given there to everybody, as what
    was signed is; else with the token. `refuse` makes an error of the answer of who does not give the file.
    """
    answer = await _beginning(client, url)
    if answer.status not in _GIVEN:
        if refuse is not None:
            raise refuse(answer)
        return Link(url, client.authorization(url), shows_secret=client.has_token)
    own = client.authorization(answer.url)
    if own and (await _beginning(client, answer.url, anonymous=True)).status not in _GIVEN:
        return Link(url, own, shows_secret=True)
    return Link(answer.url, expires_at=link_expiry(answer.url, now))


async def _beginning(client: HttpClient, url: str, *, anonymous: bool = False) -> Answer:
    return await client.ask(
        "GET", url, {"Range": "bytes=0-0"}, limit_bytes=1, whole=False, follow=not anonymous, anonymous=anonymous
    )
