"""JSON Web Tokens of an OpenID provider, verified with the keys that it publishes (JWKS)."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import jwt

from lora_library.model import Principal
from lora_library.problems import Problem

# What a provider signs with a key of its own alone; never "none", and no shared secret.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
KEPT_SECONDS = 300.0
AGAIN_SECONDS = 15.0  # a key that is not known makes the keys be read again, but no more often
ANSWER_SECONDS = 5.0
MOST_BYTES = 1 << 20
LEEWAY_SECONDS = 30
KUBERNETES = "system:"
MOST_GROUPS, GROUP_LENGTH = 500, 256


@dataclass(frozen=True, slots=True)
class Provider:
    """`keys_url` empty: what the issuer's discovery document says."""

    issuer: str
    audience: str
    keys_url: str = ""
    subject_claim: str = "sub"
    groups_claim: str = "groups"
    subject_prefix: str = ""


class Oidc:
    """To be closed."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._keys: Mapping[str, jwt.PyJWK] = {}
        self._read_at = self._tried_at = -1e9
        self._reading = asyncio.Lock()

    async def verify(self, token: str) -> Principal | None:
        """See `Verifier`."""
        try:
            header = jwt.get_unverified_header(token)
            claimed = jwt.decode(token, options={"verify_signature": False})
        except (jwt.PyJWTError, ValueError, RecursionError):
            return None
        if header.get("alg") not in ALGORITHMS or claimed.get("iss") != self._provider.issuer:
            return None
        key = await self._key(header.get("kid"))
        if key is None:
            return None
        try:
            claims = await asyncio.to_thread(
                jwt.decode, token, key, algorithms=[str(header["alg"])], audience=self._provider.audience,
                issuer=self._provider.issuer, leeway=LEEWAY_SECONDS, options={"require": ["exp", "iss", "aud"]},
            )  # fmt: skip
        except (jwt.PyJWTError, ValueError, TypeError):
            return None
        return self._principal(claims)

    def _principal(self, claims: Mapping[str, Any]) -> Principal | None:
        subject, groups = claims.get(self._provider.subject_claim), claims.get(self._provider.groups_claim)
        # names of Kubernetes are Kubernetes' to give
        if not isinstance(subject, str) or not subject or subject.startswith(KUBERNETES):
            return None
        listed = groups if isinstance(groups, list) else [groups]
        known = (each for each in listed[:MOST_GROUPS] if isinstance(each, str) and len(each) <= GROUP_LENGTH)
        return Principal(
            self._provider.subject_prefix + subject,
            frozenset(each for each in known if not each.startswith(KUBERNETES)),
        )

    async def _key(self, kid: object) -> jwt.PyJWK | None:
        fresh = time.monotonic() - self._read_at <= KEPT_SECONDS
        if (known := self._keys.get(str(kid))) is not None and (fresh or self._reading.locked()):
            return known  # whoever comes with an unknown one waits for the provider alone
        async with self._reading:
            now = time.monotonic()
            stale = now - self._read_at > KEPT_SECONDS or str(kid) not in self._keys
            if stale and now - self._tried_at > AGAIN_SECONDS:
                self._tried_at = now
                try:
                    self._keys, self._read_at = await self._read(), time.monotonic()
                except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError, jwt.PyJWTError):
                    if str(kid) not in self._keys:
                        raise Problem(
                            "IDENTITY_UNAVAILABLE", "the keys of the identity provider could not be read: try again"
                        ) from None
            if not self._keys and kid is not None and self._read_at < 0:
                raise Problem("IDENTITY_UNAVAILABLE", "the keys of the identity provider could not be read: try again")
        if kid is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(str(kid))

    async def _read(self) -> Mapping[str, jwt.PyJWK]:
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout, trust_env=True) as session:
            address = self._provider.keys_url
            if not address:
                issuer = self._provider.issuer.rstrip("/")
                address = str((await _json(session, f"{issuer}/.well-known/openid-configuration"))["jwks_uri"])
            found = jwt.PyJWKSet.from_dict(await _json(session, address))
        return {str(key.key_id): key for key in found.keys if key.public_key_use in (None, "sig")}


async def _json(session: aiohttp.ClientSession, address: str) -> dict[str, Any]:
    async with session.get(address) as answer:
        answer.raise_for_status()
        body = await answer.content.read(MOST_BYTES)
        while not answer.content.at_eof() and len(body) < MOST_BYTES:
            body += await answer.content.read(MOST_BYTES - len(body))
    found = json.loads(body)
    if not isinstance(found, dict):
        raise ValueError("no JSON object")
    return found
