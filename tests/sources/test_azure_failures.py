"""What can be wrong with a container, its keys and the way there: each has its reason, and none shows a secret."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from azure.core.credentials import AccessToken
from azure.identity import CredentialUnavailableError
from azure.storage.blob import ContainerSasPermissions, generate_container_sas

from e2e.controlplane.processes import free_ports
from e2e.stores.azure import ACCOUNT, KEY, AzureServer
from lora_operator.fetch.hosts import HostRules
from lora_operator.sources import Credentials, SourceError, SourceRequest
from lora_operator.sources.azure import AzureSource
from lora_operator.sources.remote_store import Timing
from tests.sources.adapter_bytes import a_request
from tests.sources.scripted_store import Scripted, failure

KEY_SECRET = Credentials((("AZURE_STORAGE_ACCOUNT_KEY", KEY),))
SIGNATURE = "c2lnbmF0dXJlLW9mLXRoZS1leGFtcGxl"
SAS = f"sv=2024-11-04&sp=rl&sig={SIGNATURE}"
SAS_SECRET = Credentials((("AZURE_STORAGE_SAS_TOKEN", SAS),))
NEVER_SHOWN = [KEY, SIGNATURE, "sig=", "the-operator-s-token"]
ONCE = Timing(connect_seconds=1, read_seconds=1, attempts=1, deadline_seconds=20)


@pytest.fixture(scope="module")
def once() -> AzureSource:
    """Tries everything once only, so that tests need not wait."""
    return AzureSource(timing=ONCE, identity=nobody)


def nobody() -> Any:
    class Nobody:
        def get_token(self, *_: object, **__: object) -> AccessToken:
            raise CredentialUnavailableError("there is no identity")

    return Nobody()


def a_container(endpoint: str | None, repository: str = f"{ACCOUNT}/container/x", **changes: Any) -> SourceRequest:
    given = {"endpoint": endpoint, "credentials": KEY_SECRET} | changes
    return a_request("azure", repository, **given)


def said(code: str, message: str = "no") -> str:
    """An error as Azure writes it; what it says of the signature must not be passed on."""
    return (
        f"<?xml version='1.0' encoding='utf-8'?><Error><Code>{code}</Code><Message>{message} sig={SIGNATURE}</Message>"
        f"<AuthenticationErrorDetail>{message} sig={SIGNATURE}</AuthenticationErrorDetail></Error>"
    )


@pytest.mark.parametrize("secret", [KEY_SECRET, SAS_SECRET])
@pytest.mark.parametrize(
    ("status", "code", "message", "reason", "retryable", "advice"),
    [
        (404, "ContainerNotFound", "", "ContainerNotFound", False, "correct the repository"),
        (403, "AuthenticationFailed", "Signature did not match.", "AuthenticationFailed", False, "SAS token"),
        (
            403,
            "AuthenticationFailed",
            "Signature not valid in the specified time frame",
            "CredentialsExpired",
            False,
            "fresh one",
        ),
        (403, "AuthenticationFailed", "Request date header too old", "ClockSkew", True, "NTP"),
        (403, "AuthorizationPermissionMismatch", "", "AccessDenied", False, "Storage Blob Data Reader"),
        (403, "AuthorizationFailure", "", "AccessDenied", False, "firewall"),
        (403, "AuthorizationSourceIPMismatch", "", "AccessDenied", False, "address"),
        (403, "KeyBasedAuthenticationNotPermitted", "", "AccessDenied", False, "identity"),
        (401, "NoAuthenticationInformation", "", "AuthenticationFailed", False, "name a Secret"),
        (409, "PublicAccessNotPermitted", "", "AccessDenied", False, "name a Secret"),
        (503, "ServerBusy", "", "Throttled", True, "asked again later"),
        (500, "InternalError", "", "SourceUnavailable", True, "InternalError, status 500"),
        (400, "OutOfRangeInput", "", "BadRepository", False, "correct"),
        (403, "SomethingNew", "", "AccessDenied", False, "SomethingNew, status 403"),
        (418, "Odd<b>Code", "", "UnexpectedAnswer", False, "status 418"),
        (302, "", "", "UnexpectedAnswer", False, "status 302"),
    ],
)
async def test_says_what_the_store_refuses_and_what_to_do(
    once: AzureSource, caplog: pytest.LogCaptureFixture, status: int, code: str, message: str, reason: str,
    retryable: bool, advice: str, secret: Credentials,
) -> None:  # fmt: skip
    headers = {"x-ms-error-code": code} if code.isalnum() else {}
    if status == 302:
        headers["Location"] = "http://169.254.169.254/latest/"
    async with Scripted(status, said(code, message), headers).running() as store:
        request = a_container(store.endpoint, credentials=secret)
        error = await failure(lambda: once.resolve(request, None), caplog, NEVER_SHOWN)
    assert (error.reason, error.retryable) == (reason, retryable)
    assert advice in error.message and f"/{ACCOUNT}/container/" in error.message


@pytest.mark.parametrize(
    ("status", "body"), [(200, "<html><body>Welcome!</body></html>"), (200, "Welcome!"), (404, "<html>none</html>")]
)
async def test_says_that_what_answers_is_no_blob_store(
    once: AzureSource, caplog: pytest.LogCaptureFixture, status: int, body: str
) -> None:
    async with Scripted(status, body).running() as store:
        error = await failure(lambda: once.resolve(a_container(store.endpoint), None), caplog, NEVER_SHOWN)
    assert (error.reason, error.retryable) == ("UnexpectedAnswer", False)


async def test_a_busy_store_is_asked_a_bounded_number_of_times(caplog: pytest.LogCaptureFixture) -> None:
    source = AzureSource(timing=Timing(attempts=2))
    async with Scripted(503, said("ServerBusy"), {"x-ms-error-code": "ServerBusy"}).running() as store:
        error = await failure(lambda: source.resolve(a_container(store.endpoint), None), caplog, NEVER_SHOWN)
        assert error.reason == "Throttled" and len(store.asked) == 2


async def test_says_that_nobody_listens(once: AzureSource, caplog: pytest.LogCaptureFixture) -> None:
    (port,) = free_ports(1)
    for secret in (KEY_SECRET, SAS_SECRET):
        request = a_container(f"http://127.0.0.1:{port}", credentials=secret)
        error = await failure(lambda r=request: once.resolve(r, None), caplog, NEVER_SHOWN)  # type: ignore[misc]
        assert (error.reason, error.retryable) == ("ConnectionFailed", True)


async def test_says_that_the_host_is_unknown(once: AzureSource, caplog: pytest.LogCaptureFixture) -> None:
    error = await failure(lambda: once.resolve(a_container("http://no-such-host.invalid"), None), caplog, NEVER_SHOWN)
    assert (error.reason, error.retryable) == ("HostNotFound", True)


async def test_says_that_the_store_does_not_speak_tls(once: AzureSource, caplog: pytest.LogCaptureFixture) -> None:
    async with Scripted().running() as store:
        endpoint = store.endpoint.replace("http://", "https://")
        error = await failure(lambda: once.resolve(a_container(endpoint), None), caplog, NEVER_SHOWN)
    assert (error.reason, error.retryable) == ("TlsFailed", False)


@pytest.mark.parametrize("timing", [ONCE, Timing(read_seconds=3, attempts=1, deadline_seconds=0.5)])
async def test_does_not_wait_for_ever(caplog: pytest.LogCaptureFixture, timing: Timing) -> None:
    source = AzureSource(timing=timing)
    async with Scripted(None).running() as store:
        request = a_container(store.endpoint, credentials=SAS_SECRET)
        error = await failure(lambda: source.resolve(request, None), caplog, NEVER_SHOWN)
    assert (error.reason, error.retryable) == ("TimedOut", True)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({}, "CredentialsIncomplete"),
        ({"AZURE_STORAGE_ACCOUNT_KEY": "hidden?hidden"}, "CredentialsMalformed"),
        ({"AZURE_STORAGE_ACCOUNT_KEY": "hidden\nhidden"}, "CredentialsMalformed"),
        ({"AZURE_STORAGE_SAS_TOKEN": "sv=1&hidden=1"}, "CredentialsMalformed"),
        ({"AZURE_STORAGE_SAS_TOKEN": "se=2020-01-01T00:00:00Z&sig=hidden"}, "CredentialsExpired"),
        ({"AZURE_STORAGE_SAS_TOKEN": "se=2020-01-01&sig=hidden"}, "CredentialsExpired"),
        ({"AZURE_STORAGE_CONNECTION_STRING": "hidden"}, "CredentialsMalformed"),
        ({"AZURE_STORAGE_CONNECTION_STRING": "AccountName=other;AccountKey=aGlkZGVu"}, "CredentialsForOtherAccount"),
        (
            {"AZURE_STORAGE_CONNECTION_STRING": "SharedAccessSignature=se=2020-01-01&sig=hidden;"},
            "CredentialsExpired",
        ),
    ],
)
async def test_says_what_is_wrong_with_the_secret_without_asking_anybody(
    once: AzureSource, caplog: pytest.LogCaptureFixture, values: dict[str, str], reason: str
) -> None:
    request = a_container("http://x", credentials=Credentials(tuple(values.items())))
    error = await failure(lambda: once.resolve(request, None), caplog, ["hidden", "aGlkZGVu"])
    assert (error.reason, error.retryable) == (reason, False)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"repository": ""}, "BadRepository"),
        ({"repository": "account"}, "BadRepository"),
        ({"repository": "Account!/container"}, "BadRepository"),
        ({"repository": "account/UPPER"}, "BadRepository"),
        ({"repository": "account/container/../other"}, "BadRepository"),
        ({"repository": "account/container?sig=hidden"}, "BadRepository"),
        ({"repository": "https://account.blob.core.windows.net/c?sig=hidden"}, "BadRepository"),
        ({"repository": "https://user:hidden@account.blob.core.windows.net/container"}, "BadRepository"),
        ({"repository": "https://account.blob.core.windows.net"}, "BadRepository"),
        ({"repository": "ftp://account.blob.core.windows.net/container"}, "BadEndpoint"),
        ({"repository": "https://[::1/account/container"}, "BadRepository"),
        ({"endpoint": "https://host/?sig=hidden"}, "BadEndpoint"),
        ({"endpoint": "http://169.254.169.254"}, "ForbiddenAddress"),
    ],
)
async def test_refuses_what_points_nowhere(
    once: AzureSource, caplog: pytest.LogCaptureFixture, changes: dict[str, str], reason: str
) -> None:
    request = a_container(**({"endpoint": None} | changes))
    error = await failure(lambda: once.resolve(request, None), caplog, ["hidden"])
    assert (error.reason, error.retryable) == (reason, False)


async def test_asks_only_hosts_that_the_rules_allow(caplog: pytest.LogCaptureFixture) -> None:
    source = AzureSource(rules=HostRules(("store.example.com",)), timing=ONCE)
    for endpoint in ("http://127.0.0.1:1", None):
        error = await failure(lambda e=endpoint: source.resolve(a_container(e), None), caplog, NEVER_SHOWN)  # type: ignore[misc]
        assert (error.reason, error.retryable) == ("ForbiddenUrl", False)


async def test_sends_nothing_to_a_name_that_stands_for_a_private_address(caplog: pytest.LogCaptureFixture) -> None:
    source = AzureSource(rules=HostRules(deny_private=True), timing=ONCE)
    async with Scripted().running() as store:
        endpoint = store.endpoint.replace("127.0.0.1", "localhost")
        error = await failure(lambda: source.resolve(a_container(endpoint), None), caplog, NEVER_SHOWN)
        assert (error.reason, error.retryable, store.asked) == ("ForbiddenAddress", False, [])


async def test_the_operator_s_own_identity_does_not_go_to_hosts_that_users_name() -> None:
    asked: list[object] = []

    class Operator:
        def get_token(self, *scopes: object, **_: object) -> AccessToken:
            asked.append(scopes)
            return AccessToken("the-operator-s-token", 2**31)

    source = AzureSource(timing=ONCE, identity=Operator)
    async with Scripted(404, said("ContainerNotFound"), {"x-ms-error-code": "ContainerNotFound"}).running() as store:
        with pytest.raises(SourceError):
            await source.resolve(a_container(store.endpoint, credentials=None), None)
        ((_, headers),) = store.asked
    assert asked == [] and "Authorization" not in headers


@pytest.fixture
def container(azure_server: AzureServer) -> Iterator[str]:
    name = f"guarded-{secrets.token_hex(6)}"
    azure_server.client.create_container(name)
    yield name
    azure_server.client.delete_container(name)


async def test_wrong_keys_and_missing_rights_at_a_store_that_checks_them(
    azure_server: AzureServer, once: AzureSource, caplog: pytest.LogCaptureFixture, container: str
) -> None:
    async def refused(place: str = container, secret: Credentials | None = KEY_SECRET) -> str:
        request = a_container(azure_server.endpoint, f"{ACCOUNT}/{place}", credentials=secret)
        return (await failure(lambda: once.resolve(request, None), caplog, [KEY, wrong, *sas])).reason

    def signed(permission: ContainerSasPermissions, begins: datetime, ends: datetime) -> str:
        return str(
            generate_container_sas(
                ACCOUNT, container, account_key=KEY, permission=permission, start=begins, expiry=ends
            )
        )

    now, hour = datetime.now(UTC), timedelta(hours=1)
    wrong = KEY[::-1].replace("=", "") + "=="
    sas = [
        signed(ContainerSasPermissions(read=True), now - hour, now + hour),
        signed(ContainerSasPermissions(read=True, list=True), now + hour, now + 2 * hour),
    ]
    assert await refused("no-such-container") == "ContainerNotFound"
    # Azurite has one and the same answer for all these
    assert await refused(secret=None) == "AccessDenied"
    assert await refused(secret=Credentials((("AZURE_STORAGE_ACCOUNT_KEY", wrong),))) == "AccessDenied"
    for token in sas:
        assert await refused(secret=Credentials((("AZURE_STORAGE_SAS_TOKEN", token),))) == "AccessDenied"
