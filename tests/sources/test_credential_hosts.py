"""A Secret goes to no host that its keeper has not named: whoever writes a LoraAdapter chooses the host."""

from __future__ import annotations

import base64

import pytest

from lora_operator.sources import Credentials, SourceError, SourceRequest
from lora_operator.sources.azure import AzureSource
from lora_operator.sources.http import HttpSource
from lora_operator.sources.huggingface import HuggingFaceSource
from tests.sources.scripted_store import Scripted

SECRET = "s3cr3t-t0ken"
KEY = base64.b64encode(b"s3cr3t-key").decode()
SAS = "sv=2024-01-01&sig=s3cr3t"


def asked_with(server: Scripted) -> str:
    return str(server.asked)


async def resolve(kind: str, server: Scripted, credentials: Credentials) -> SourceError:
    source, request = {
        "http": (HttpSource(), SourceRequest("http", f"{server.endpoint}/a", credentials=credentials)),
        "huggingface": (
            HuggingFaceSource(endpoint="https://hub.example.com"),
            SourceRequest("huggingface", "org/repo", endpoint=server.endpoint, credentials=credentials),
        ),
        "azure": (
            AzureSource(),
            SourceRequest("azure", "account/container", endpoint=server.endpoint, credentials=credentials),
        ),
    }[kind]
    with pytest.raises(SourceError) as caught:
        await source.resolve(request, None)
    return caught.value


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("http", "token", SECRET),
        ("huggingface", "token", SECRET),
        ("azure", "AZURE_STORAGE_SAS_TOKEN", SAS),
        ("azure", "AZURE_STORAGE_ACCOUNT_KEY", KEY),
        ("azure", "AZURE_STORAGE_CONNECTION_STRING", f"AccountName=account;AccountKey={KEY}"),
    ],
)
async def test_a_host_that_nobody_named_gets_nothing(kind: str, name: str, value: str) -> None:
    async with Scripted(status=403).running() as server:
        for hosts in ((), ("other.example.com", "127.0.0.11")):
            error = await resolve(kind, server, Credentials(((name, value),), hosts))
            assert (error.reason, error.retryable) == ("CredentialsForOtherHost", False)
            assert "production-stack.vllm-project/hosts: 127.0.0.1" in error.message
        assert server.asked == []
        error = await resolve(kind, server, Credentials(((name, value),), ("127.0.0.1",)))
        assert error.reason != "CredentialsForOtherHost" and server.asked


async def test_the_host_in_a_connection_string_is_named_by_it() -> None:
    async with Scripted(status=403).running() as server:
        text = f"AccountName=account;AccountKey={KEY};BlobEndpoint={server.endpoint}/account"
        credentials = Credentials((("AZURE_STORAGE_CONNECTION_STRING", text),), ())
        with pytest.raises(SourceError) as caught:
            await AzureSource().resolve(SourceRequest("azure", "account/container", credentials=credentials), None)
        assert caught.value.reason != "CredentialsForOtherHost" and server.asked


async def test_the_operators_own_hub_needs_no_leave() -> None:
    async with Scripted(status=403).running() as server:
        request = SourceRequest("huggingface", "org/repo", credentials=Credentials((("token", SECRET),), ()))
        with pytest.raises(SourceError):
            await HuggingFaceSource(endpoint=server.endpoint).resolve(request, None)
        assert SECRET in asked_with(server)


@pytest.mark.parametrize("kind", ["http", "huggingface"])
@pytest.mark.parametrize("token", ["two\nlines", "two\r\nX-Header: 1", "a b", "ünïcode"])
async def test_a_token_that_cannot_be_one_is_a_reason(kind: str, token: str) -> None:
    async with Scripted(status=403).running() as server:
        error = await resolve(kind, server, Credentials((("token", token),)))
        assert (error.reason, error.retryable) == ("CredentialsMalformed", False)
        assert token not in str(error) and server.asked == []
