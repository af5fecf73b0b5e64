"""Tokens of an OpenID provider: only those that it signed, for us, that still count."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from lora_library.identity import oidc
from lora_library.identity.oidc import Oidc, Provider
from lora_library.identity.verifying import Identity
from lora_library.problems import Problem
from lora_operator.process.listening import listen

ISSUER, AUDIENCE = "https://login.example.com", "loras"


class Keys:
    """A provider's signing keys, and what it publishes of them."""

    def __init__(self) -> None:
        self.private: dict[str, Any] = {}
        self.asked = 0
        self.down = False
        self.came, self.goes = asyncio.Event(), asyncio.Event()
        self.goes.set()

    def add(self, kid: str, *, elliptic: bool = False) -> None:
        self.private[kid] = (
            ec.generate_private_key(ec.SECP256R1()) if elliptic else rsa.generate_private_key(65537, 2048)
        )

    def sign(self, kid: str = "one", algorithm: str = "RS256", **claims: Any) -> str:
        given = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "exp": time.time() + 600, "groups": ["poets"]}
        left = {key: value for key, value in (given | claims).items() if value is not None}
        return jwt.encode(left, self.private[kid], algorithm=algorithm, headers={"kid": kid})

    async def answer(self, _: web.Request) -> web.Response:
        self.asked += 1
        self.came.set()
        await self.goes.wait()
        if self.down:
            return web.Response(status=503)
        found = []
        for kid, key in self.private.items():
            algorithm = jwt.get_algorithm_by_name("RS256" if isinstance(key, rsa.RSAPrivateKey) else "ES256")
            found.append(json.loads(algorithm.to_jwk(key.public_key())) | {"kid": kid, "use": "sig"})
        return web.json_response({"keys": found})


@pytest.fixture
async def keys() -> AsyncIterator[tuple[Keys, str]]:
    made = Keys()
    made.add("one")
    app = web.Application()
    app.router.add_get("/keys", made.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    port = await listen(runner, "127.0.0.1", 0)
    yield made, f"http://127.0.0.1:{port}/keys"
    await runner.cleanup()


def identity(address: str, admins: str = "admins", **options: Any) -> Identity:
    return Identity([Oidc(Provider(ISSUER, AUDIENCE, address, **options))], frozenset({admins}))


async def test_a_good_token_says_who_it_is_and_keys_are_read_once(keys: tuple[Keys, str]) -> None:
    provider, address = keys
    provider.add("two", elliptic=True)
    who = identity(address, subject_prefix="oidc:")
    tokens = [provider.sign(), provider.sign("two", "ES256", groups=["admins"]), provider.sign(aud=["x", AUDIENCE])]
    found = await asyncio.gather(*(who.of(f"Bearer {each}") for each in tokens))
    assert [(each.subject, each.admin) for each in found] == [("oidc:alice", admin) for admin in (False, True, False)]
    assert provider.asked == 1


async def test_every_other_token_is_refused(keys: tuple[Keys, str]) -> None:
    provider, address = keys
    stranger = Keys()
    stranger.add("one")
    head, body, signature = provider.sign().split(".")
    confused = jwt.api_jws.PyJWS()
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "exp": time.time() + 600}
    wrong = {
        "expired": provider.sign(exp=time.time() - 600),
        "without an end": provider.sign(exp=None),
        "not yet": provider.sign(nbf=time.time() + 600),
        "of another issuer": provider.sign(iss="https://evil.example.com"),
        "for another service": provider.sign(aud="billing"),
        "for nobody": provider.sign(aud=None),
        "without a subject": provider.sign(sub=None),
        "with Kubernetes' name": provider.sign(sub="system:serviceaccount:a:b"),
        "unsigned": jwt.encode(claims, None, algorithm="none", headers={"kid": "one"}),
        "signed by a stranger": stranger.sign(),
        "changed": f"{head}.{body[:-4]}AAAA.{signature}",
        "without its signature": f"{head}.{body}.",
        "signed with a secret": confused.encode(
            json.dumps(claims).encode(), b"s" * 32, algorithm="HS256", headers={"kid": "one"}
        ),
        "nonsense": "a.b.c",
        "deep": "e30." + "W1tb" * 2000 + ".x",
    }
    who = identity(address)
    for what, token in wrong.items():
        with pytest.raises(Problem) as refused:
            await who.of(f"Bearer {token}")
        assert refused.value.code == "UNAUTHENTICATED", what


async def test_a_new_key_is_found_and_one_that_nobody_has_is_not_asked_for_each_time(
    keys: tuple[Keys, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    provider, address = keys
    who = identity(address)
    await who.of(f"Bearer {provider.sign()}")
    monkeypatch.setattr(oidc, "AGAIN_SECONDS", 0.0)
    provider.add("new")
    assert (await who.of(f"Bearer {provider.sign('new')}")).subject == "alice"
    monkeypatch.setattr(oidc, "AGAIN_SECONDS", 3600.0)
    asked = provider.asked
    stranger = Keys()
    stranger.add("unknown")
    for _ in range(3):
        with pytest.raises(Problem):
            await who.of(f"Bearer {stranger.sign('unknown')}")
    assert provider.asked == asked


async def test_a_token_gives_no_group_of_kubernetes(keys: tuple[Keys, str]) -> None:
    provider, address = keys
    token = provider.sign(groups=["system:masters", "poets", "g" * 257, {"a": 1}])
    found = await identity(address, admins="system:masters").of(f"Bearer {token}")
    assert (found.groups, found.admin) == ({"poets"}, False)


async def test_who_has_a_known_key_does_not_wait_for_those_with_none(
    keys: tuple[Keys, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    provider, address = keys
    who = identity(address)
    await who.of(f"Bearer {provider.sign()}")
    monkeypatch.setattr(oidc, "AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(oidc, "KEPT_SECONDS", 0.0)
    monkeypatch.setattr(oidc, "ANSWER_SECONDS", 60.0)
    provider.goes.clear()
    stranger = Keys()
    stranger.add("unknown")
    provider.came.clear()
    waiting = asyncio.create_task(who.of(f"Bearer {stranger.sign('unknown')}"))
    async with asyncio.timeout(60):
        await provider.came.wait()
        assert (await who.of(f"Bearer {provider.sign()}")).subject == "alice"
    assert not waiting.done()
    provider.goes.set()
    with pytest.raises(Problem):
        await waiting


async def test_while_the_provider_is_away_it_says_so_and_known_keys_go_on(keys: tuple[Keys, str]) -> None:
    provider, address = keys
    provider.down = True
    with pytest.raises(Problem) as away:
        await identity(address).of(f"Bearer {provider.sign()}")
    assert away.value.code == "IDENTITY_UNAVAILABLE"
    provider.down = False
    who = identity(address)
    await who.of(f"Bearer {provider.sign()}")
    provider.down = True
    assert (await who.of(f"Bearer {provider.sign()}")).subject == "alice"
