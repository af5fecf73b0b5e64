"""The chart's Envoy in front of the picker and a pod that tells what reached it: who asks, limits, and bad input."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from e2e.envoy import ChartGateway, EnvoyUnavailable, find_envoy
from tests.picking.gateway import picking
from tests.router.fleet import Fleet

ALICE, BOB = "alice-key-0123456789", "bob-key-9876543210"
ISSUER = "https://issuer.example.com"


@pytest.fixture(scope="module", autouse=True)
def _envoy_is_there() -> None:
    try:
        find_envoy()
    except EnvoyUnavailable as error:
        pytest.skip(f"there is no Envoy: {error}")


async def tell(request: web.Request) -> web.Response:
    """As an engine that says what it was asked."""
    body = await request.read()
    return web.json_response({"headers": sorted(request.headers), "model": json.loads(body)["model"]})


@asynccontextmanager
async def a_gateway(
    tmp_path: Path, values: dict[str, Any], mounted: dict[str, Any] | None = None, **picker: Any
) -> AsyncIterator[tuple[str, Any]]:
    """Its URL, and a client. `mine` is alice's, `theirs` bob's; a pod has both. `mounted`: of ChartGateway."""
    runner = web.AppRunner(app := web.Application(client_max_size=1 << 30))
    app.router.add_route("*", "/{tail:.*}", tell)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    fleet = Fleet()
    fleet.pod("vllm-0", "127.0.0.1", says={"port": str(runner.addresses[0][1]), "base-model": "llama"})
    fleet.adapter("alices", {"vllm-0": {"mine": "mine"}}, owner="alice")
    fleet.adapter("bobs", {"vllm-0": {"theirs": "theirs"}}, owner="bob")
    fleet.refresh()
    try:
        async with picking(fleet, self_signed=True, **picker) as it:
            gateway = ChartGateway(it.server.port, tmp_path / "gateway", values, **(mounted or {}))
            await asyncio.to_thread(gateway.__enter__)
            try:
                async with aiohttp.ClientSession() as session:
                    yield gateway.url, session
            finally:
                await asyncio.to_thread(gateway.__exit__, None, None, None)
    finally:
        await runner.cleanup()


async def ask(session: Any, url: str, model: str = "mine", headers: Any = None, **more: Any) -> tuple[int, Any, Any]:
    sent = {"json": {"model": model}} | more
    async with session.post(f"{url}/v1/completions", headers=headers, **sent) as answer:
        return answer.status, json.loads(await answer.read()), answer.headers


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def test_api_keys_say_who_asks_and_each_owner_has_its_own_limit(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    for owner, key in (("alice", ALICE), ("bob", BOB)):
        (keys / owner).write_text(key)
    values = {"owners": {"keysSecret": "keys"}, "rateLimit": {"requests": 3, "seconds": 3600}}
    async with a_gateway(tmp_path, values, keys=str(keys)) as (url, session):
        status, body, headers = await ask(session, url, headers=bearer(ALICE))
        assert (status, body["model"], headers["x-lora-model"]) == (200, "mine", "mine")
        assert "Authorization" not in body["headers"], "the key is no business of engines"
        assert (await ask(session, url, "theirs", bearer(ALICE)))[0] == 404
        status, body, _ = await ask(session, url)
        assert (status, body["error"]["type"]) == (401, "Unauthorized")
        forged = dict.fromkeys(("X-Lora-Owner", "x_lora_owner", "X-Envoy-Owner"), "bob")
        assert (await ask(session, url, "theirs", bearer(ALICE) | forged))[0] == 404
        statuses = [(await ask(session, url, headers=bearer(ALICE)))[0] for _ in range(4)]
        assert statuses == [200, 200, 429, 429]
        status, body, _ = await ask(session, url, "theirs", bearer(BOB))
        assert status == 200, "alice's limit is not bob's"
        status, body, headers = await ask(session, url, headers=bearer(ALICE))
        assert (status, body["error"]["code"]) == (429, 429)


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Issuer:
    """Signs tokens with a key of its own."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        numbers = self._key.public_key().public_numbers()
        point = {name: encoded(value.to_bytes(32, "big")) for name, value in (("x", numbers.x), ("y", numbers.y))}
        self.jwks = json.dumps({"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "kid": "1", **point}]})

    def token(self, **claims: Any) -> str:
        whole = {"iss": ISSUER, "sub": "alice", "exp": int(time.time()) + 3600} | claims
        plain = {name: value for name, value in whole.items() if value is not None}
        text = ".".join(encoded(json.dumps(one).encode()) for one in ({"alg": "ES256", "kid": "1"}, plain))
        r, s = decode_dss_signature(self._key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{text}.{encoded(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


async def test_tokens_say_who_asks_and_nothing_else_does(tmp_path: Path) -> None:
    issuer, other = Issuer(), Issuer()
    values = {"owners": {"jwt": {"issuer": ISSUER, "jwks": issuer.jwks, "audiences": ["models"]}}}
    async with a_gateway(tmp_path, values, owner_claim="sub") as (url, session):
        good = issuer.token(aud="models")
        assert (await ask(session, url, headers=bearer(good)))[:1] == (200,)
        assert (await ask(session, url, "theirs", bearer(good)))[0] == 404
        async with session.get(f"{url}/v1/models", headers=bearer(good)) as answer:
            assert {one["id"] for one in (await answer.json())["data"]} == {"mine", "llama"}
        none = encoded(b'{"alg":"none"}') + "." + good.split(".")[1] + "."
        bad = (
            other.token(aud="models"), issuer.token(aud="others"), issuer.token(aud="models", exp=1), none, "x.y.z",
            issuer.token(aud="models", iss="https://else.example.com"), issuer.token(aud="models", exp=None),
        )  # fmt: skip
        for token in (*bad, ""):
            status, body, _ = await ask(session, url, headers=bearer(token) if token else {})
            assert status in (401, 403) and body["error"]["type"] == "Unauthorized", body
        assert (await ask(session, f"{url}/v1/completions?access_token={good}&x="))[0] in (401, 404)
        twice = [
            ("Authorization", f"Bearer {good}"),
            ("Authorization", f"Bearer {issuer.token(aud='models', sub='bob')}"),
        ]
        assert (await ask(session, url, "theirs", twice))[0] != 200
        async with session.get(f"{url}/healthz") as answer:
            assert answer.status == 200


async def test_bad_input_is_answered_in_the_shape_of_openai_and_nothing_hangs(tmp_path: Path) -> None:
    async with a_gateway(tmp_path, {}, body_bytes=1 << 20) as (url, session):
        for data, wanted in ((b"{" * 1000, 400), (b'{"model": "mine", "x": ' + b"[" * 100_000, 400), (b"\xff", 400)):
            status, body, _ = await ask(session, url, json=None, data=data)
            assert (status, body["error"]["type"]) == (wanted, "BadRequestError")
        status, body, _ = await ask(session, url, headers={"X-Large": "a" * 70_000})
        assert (status, body["error"]["code"]) == (431, 431)

        async def endless() -> AsyncIterator[bytes]:
            yield b'{"model": "mine", "prompt": "'
            for _ in range(1600):
                yield b"a" * 65_536  # 100 MiB, if anybody took them

        try:
            status, body, _ = await ask(session, url, json=None, data=endless())
            assert (status, body["error"]["type"]) == (413, "RequestEntityTooLarge")
        except aiohttp.ClientOSError:
            pass  # hung up on while it was still sending

        port = int(url.rpartition(":")[2])
        for _ in range(20):  # clients that go away in the middle of a body
            with socket.create_connection(("127.0.0.1", port)) as gone:
                gone.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
        double = b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n"
        with socket.create_connection(("127.0.0.1", port)) as smuggler:
            smuggler.settimeout(60)
            smuggler.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n" + double + b"\r\n0\r\n\r\nGET / HTTP/1.1")
            assert b" 400 " in await asyncio.to_thread(smuggler.recv, 1000)
        assert (await ask(session, url))[0] == 200
