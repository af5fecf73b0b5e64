"""Credentials of sources: read by reference from the resource's namespace, never told, no reason to unload."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest

from lora_operator.informers import credentials as module
from lora_operator.informers.credentials import CredentialState, SourceCredentials
from lora_operator.informers.records import Resource
from lora_operator.informers.sources import Resolver
from lora_operator.sources import Credentials, FoundAdapter, Resolution, SourceError, SourceRequest
from tests.core.api_server import an_api_server
from tests.core.builders import a_resource
from tests.core.test_keys_and_nodes import until

SECRET = "/api/v1/namespaces/ns/secrets/source"
TOKEN = "hf_tok3n"


def with_secret() -> Resource:
    source = {"type": "huggingface", "repository": "org/repo"}
    return a_resource(spec={"adapterSource": source, "credentialsSecretRef": {"name": "source"}})


class Guarded:
    """A source that answers whoever has the token."""

    def __init__(self) -> None:
        self.asked: list[SourceRequest] = []
        self.previous: list[Resolution | None] = []

    async def resolve(self, request: SourceRequest, previous: Resolution | None) -> Resolution:
        self.asked.append(request)
        self.previous.append(previous)
        if request.credentials is None or request.credentials.get("token") != TOKEN:
            raise SourceError("AuthenticationFailed", "the token is not accepted", retryable=True)
        return Resolution()

    async def locate(self, request: SourceRequest, found: FoundAdapter) -> Path:
        return Path(found.location)


def a_secret(value: str) -> dict[str, Any]:
    return {"data": {"token": base64.b64encode(value.encode()).decode()}}


async def test_a_source_is_asked_with_what_its_secret_holds_and_again_when_it_is_rotated(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.01)
    async with an_api_server() as api:
        api.objects[SECRET] = a_secret("old" + TOKEN)
        news = asyncio.Event()
        guarded, secrets = Guarded(), SourceCredentials(api.kube, news.set)
        resolver = Resolver({"huggingface": guarded}, news.set, interval_seconds=3600.0, base_shapes={})

        def sync_targets() -> bool:
            resolver.sync_targets([with_secret()], (), secrets.sync_targets([with_secret()], resolver.failing()))
            view = resolver.views["ns/la"]
            return view.checked and view.error is None

        sync_targets()
        assert guarded.asked == []  # without the Secret it is not asked: that could only fail
        await until(lambda: not sync_targets() and resolver.failing())
        api.objects[SECRET] = a_secret(TOKEN)
        await until(sync_targets)
        assert TOKEN not in caplog.text and TOKEN not in repr(resolver.views) and TOKEN not in repr(guarded.asked)
        await resolver.stop()
        await secrets.stop()


@pytest.mark.parametrize(("status", "reason"), [(403, "SecretForbidden"), (404, "SecretNotFound")])
async def test_a_secret_that_cannot_be_read_is_told_and_unloads_nothing(status: int, reason: str) -> None:
    error = SourceError(reason, "Secret source cannot be used", retryable=True)
    guarded = Guarded()
    resolver = Resolver({"huggingface": guarded}, lambda: None, interval_seconds=3600.0, base_shapes={})
    good = Credentials((("token", TOKEN),))
    resolver.sync_targets([with_secret()], (), {"ns/la": CredentialState(good)})
    await until(lambda: resolver.views["ns/la"].resolution is not None)
    resolver.sync_targets([with_secret()], (), {"ns/la": CredentialState(error=error)})
    await until(lambda: resolver.views["ns/la"].error is error)
    assert resolver.views["ns/la"].resolution is not None
    assert len(guarded.asked) == 1
    resolver.sync_targets([with_secret()], (), {"ns/la": CredentialState(good)})
    await until(lambda: resolver.views["ns/la"].error is None and resolver.views["ns/la"].checked)
    assert guarded.previous[-1] is not None  # what did not change need not be read again
    await resolver.stop()


async def test_a_missing_or_forbidden_secret_says_what_to_do() -> None:
    async with an_api_server() as api:
        secrets = SourceCredentials(api.kube, lambda: None)
        assert secrets.sync_targets([with_secret()]) == {"ns/la": CredentialState()}
        await secrets.first_reads(10.0)
        state = secrets.sync_targets([with_secret()])["ns/la"]
        assert state.error is not None
        assert (state.error.reason, "there is no such Secret" in state.error.message) == ("SecretNotFound", True)
        assert secrets.sync_targets([a_resource()]) == {}
        await secrets.stop()


async def test_a_secret_says_itself_where_it_may_go_and_the_operator_adds_its_own() -> None:
    async with an_api_server() as api:
        api.objects[SECRET] = a_secret(TOKEN) | {
            "metadata": {"annotations": {"production-stack.vllm-project/hosts": "a.example.com, *.b.example.com"}}
        }
        secrets = SourceCredentials(api.kube, lambda: None, ("c.example.com",))
        secrets.sync_targets([with_secret()])
        await secrets.first_reads(10.0)
        (state,) = secrets.sync_targets([with_secret()]).values()
        assert state.credentials is not None
        assert state.credentials.hosts == ("a.example.com", "*.b.example.com", "c.example.com")
        await secrets.stop()


async def test_the_token_of_a_service_account_is_no_credential_of_a_source() -> None:
    async with an_api_server() as api:
        api.objects[SECRET] = a_secret(TOKEN) | {"type": "kubernetes.io/service-account-token"}
        secrets = SourceCredentials(api.kube, lambda: None)
        secrets.sync_targets([with_secret()])
        await secrets.first_reads(10.0)
        (state,) = secrets.sync_targets([with_secret()]).values()
        assert state.credentials is None and state.error is not None
        assert state.error.reason == "SecretOfOtherKind" and TOKEN not in str(state.error)
        await secrets.stop()
