"""What can be wrong with a bucket, its keys and the way there: each has its reason, and none shows a secret."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import botocore.session
import pytest

from e2e.controlplane.processes import free_ports
from e2e.stores.s3 import KEYS, S3Server
from lora_operator.fetch.hosts import HostRules
from lora_operator.sources import Credentials, Resolution, SourceError, SourceRequest
from lora_operator.sources.remote_store import Timing
from lora_operator.sources.s3 import S3Source
from tests.sources.adapter_bytes import a_request
from tests.sources.s3_servers import only_moto, only_real
from tests.sources.scripted_store import Scripted, failure

SECRET = Credentials((*KEYS.items(), ("AWS_SESSION_TOKEN", "session/token/of/the/example")))
NEVER_SHOWN = [KEYS["AWS_SECRET_ACCESS_KEY"], "session/token/of/the/example", "session%2Ftoken", "Signature="]
ONCE = Timing(connect_seconds=1, read_seconds=1, attempts=1, deadline_seconds=20)


@pytest.fixture(scope="module")
def once() -> S3Source:
    """Tries everything once only, so that tests need not wait."""
    return S3Source(timing=ONCE)


def a_bucket(endpoint: str | None, repository: str = "bucket/prefix", **changes: Any) -> SourceRequest:
    given = {"endpoint": endpoint, "credentials": SECRET, "region": "us-east-1"} | changes
    return a_request("s3", repository, **given)


def said(code: str, extra: str = "") -> str:
    """An error as S3 writes it; what it says of the signature must not be passed on."""
    hidden = f"<Message>no</Message><StringToSign>Signature={KEYS['AWS_SECRET_ACCESS_KEY']}</StringToSign>"
    return f"<?xml version='1.0'?><Error><Code>{code}</Code>{hidden}{extra}</Error>"


@pytest.mark.parametrize(
    ("status", "body", "headers", "reason", "retryable", "advice"),
    [
        (404, said("NoSuchBucket"), {}, "BucketNotFound", False, "correct the name"),
        (403, said("AccessDenied"), {}, "AccessDenied", False, "s3:ListBucket"),
        (403, said("InvalidAccessKeyId"), {}, "AuthenticationFailed", False, "AWS_ACCESS_KEY_ID"),
        (404, said("XAdminUserNotFound"), {}, "AuthenticationFailed", False, "AWS_ACCESS_KEY_ID"),
        (403, said("SignatureDoesNotMatch"), {}, "AuthenticationFailed", False, "AWS_SECRET_ACCESS_KEY"),
        (400, said("InvalidToken"), {}, "AuthenticationFailed", False, "AWS_SESSION_TOKEN"),
        (403, said("InvalidTokenId"), {}, "AuthenticationFailed", False, "AWS_SESSION_TOKEN"),
        (400, said("ExpiredToken"), {}, "CredentialsExpired", False, "fresh keys"),
        (403, said("RequestTimeTooSkewed"), {}, "ClockSkew", True, "NTP"),
        (
            400,
            said("AuthorizationHeaderMalformed", "<Region>eu-north-1</Region>"),
            {},
            "WrongRegion",
            False,
            "'eu-north-1'",
        ),
        (301, said("PermanentRedirect"), {"x-amz-bucket-region": "ap-south-1"}, "WrongRegion", False, "'ap-south-1'"),
        (503, said("SlowDown"), {"Retry-After": "7"}, "Throttled", True, "asked again later"),
        (429, "", {}, "Throttled", True, "asked again later"),
        (500, said("InternalError"), {}, "SourceUnavailable", True, "InternalError, status 500"),
        (502, "<html>bad gateway</html>", {}, "SourceUnavailable", True, "status 502"),
        (200, "<html><body>Welcome to nginx!</body></html>", {}, "UnexpectedAnswer", False, "endpoint"),
        (200, "Welcome", {}, "SourceUnavailable", True, "asked again later"),
        (404, "<html>not found</html>", {}, "UnexpectedAnswer", False, "endpoint"),
        (501, said("NotImplemented"), {}, "UnexpectedAnswer", False, "NotImplemented"),
        (400, said("Odd<b>Code"), {}, "UnexpectedAnswer", False, "check bucket"),
        (302, "", {"Location": "http://169.254.169.254/latest/"}, "UnexpectedAnswer", False, "final endpoint"),
    ],
)
async def test_says_what_the_store_refuses_and_what_to_do(
    once: S3Source, caplog: pytest.LogCaptureFixture, status: int, body: str, headers: dict[str, str], reason: str,
    retryable: bool, advice: str,
) -> None:  # fmt: skip
    async with Scripted(status, body, headers).running() as store:
        error = await failure(lambda: once.resolve(a_bucket(store.endpoint), None), caplog, NEVER_SHOWN)
    assert (error.reason, error.retryable) == (reason, retryable)
    assert advice in error.message and "s3://bucket/" in error.message
    assert error.retry_after_seconds == (7.0 if "Retry-After" in headers else None)


async def test_a_busy_store_is_asked_a_bounded_number_of_times(caplog: pytest.LogCaptureFixture) -> None:
    source = S3Source(timing=Timing(attempts=2))
    async with Scripted(503, said("SlowDown")).running() as store:
        error = await failure(lambda: source.resolve(a_bucket(store.endpoint), None), caplog, NEVER_SHOWN)
        assert error.reason == "Throttled" and len(store.asked) == 2


async def test_says_that_nobody_listens(once: S3Source, caplog: pytest.LogCaptureFixture) -> None:
    (port,) = free_ports(1)
    error = await failure(lambda: once.resolve(a_bucket(f"http://127.0.0.1:{port}"), None), caplog, NEVER_SHOWN)
    assert (error.reason, error.retryable) == ("ConnectionFailed", True)


async def test_says_that_the_host_is_unknown(once: S3Source, caplog: pytest.LogCaptureFixture) -> None:
    error = await failure(lambda: once.resolve(a_bucket("http://no-such-host.invalid"), None), caplog, NEVER_SHOWN)
    assert (error.reason, error.retryable) == ("HostNotFound", True)


async def test_says_that_the_store_does_not_speak_tls(once: S3Source, caplog: pytest.LogCaptureFixture) -> None:
    async with Scripted().running() as store:
        endpoint = store.endpoint.replace("http://", "https://")
        error = await failure(lambda: once.resolve(a_bucket(endpoint), None), caplog, NEVER_SHOWN)
    assert (error.reason, error.retryable) == ("TlsFailed", False)


@pytest.mark.parametrize("timing", [ONCE, Timing(read_seconds=3, attempts=1, deadline_seconds=0.5)])
async def test_does_not_wait_for_ever(caplog: pytest.LogCaptureFixture, timing: Timing) -> None:
    source = S3Source(timing=timing)
    async with Scripted(None).running() as store:
        error = await failure(lambda: source.resolve(a_bucket(store.endpoint), None), caplog, NEVER_SHOWN)
    assert (error.reason, error.retryable) == ("TimedOut", True)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({}, "CredentialsIncomplete"),
        ({"AWS_ACCESS_KEY_ID": "AKIA"}, "CredentialsIncomplete"),
        ({"AWS_SECRET_ACCESS_KEY": "hidden-hidden"}, "CredentialsIncomplete"),
        ({"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "hidden\nhidden"}, "CredentialsMalformed"),
        ({"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "hidden\u00fc"}, "CredentialsMalformed"),
    ],
)
async def test_says_what_the_secret_lacks_without_asking_anybody(
    once: S3Source, caplog: pytest.LogCaptureFixture, values: dict[str, str], reason: str
) -> None:
    secret = Credentials(tuple(values.items()))
    error = await failure(lambda: once.resolve(a_bucket("http://x", credentials=secret), None), caplog, ["hidden"])
    assert (error.reason, error.retryable) == (reason, False)


@pytest.mark.parametrize(
    ("repository", "changes", "reason"),
    [
        ("", {}, "BadRepository"),
        ("/prefix", {}, "BadRepository"),
        ("b", {}, "BadRepository"),
        ("arn:aws:s3:::x/y", {}, "BadRepository"),
        ("bucket/../other", {}, "BadRepository"),
        ("bucket/a\nb", {}, "BadRepository"),
        ("bucket/" + "x" * 1000, {}, "BadRepository"),
        ("bucket", {"endpoint": "ftp://host"}, "BadEndpoint"),
        ("bucket", {"endpoint": "https://user:hidden@host"}, "BadEndpoint"),
        ("bucket", {"endpoint": "https://host/?token=hidden"}, "BadEndpoint"),
        ("bucket", {"endpoint": "https://host:port"}, "BadEndpoint"),
        ("bucket", {"endpoint": "https://[::1"}, "BadEndpoint"),
        ("bucket", {"endpoint": "http://169.254.169.254"}, "ForbiddenAddress"),
        ("bucket", {"region": "evil.example/#"}, "BadRegion"),
    ],
)
async def test_refuses_what_points_nowhere(
    once: S3Source, caplog: pytest.LogCaptureFixture, repository: str, changes: dict[str, str], reason: str
) -> None:
    request = a_bucket(**({"endpoint": None, "repository": repository} | changes))
    error = await failure(lambda: once.resolve(request, None), caplog, ["hidden"])
    assert (error.reason, error.retryable) == (reason, False)


async def test_asks_only_hosts_that_the_rules_allow(caplog: pytest.LogCaptureFixture) -> None:
    source = S3Source(rules=HostRules(("store.example.com",)), timing=ONCE)
    for endpoint in ("http://127.0.0.1:1", None):
        error = await failure(lambda e=endpoint: source.resolve(a_bucket(e), None), caplog, NEVER_SHOWN)  # type: ignore[misc]
        assert (error.reason, error.retryable) == ("ForbiddenUrl", False)


async def test_sends_nothing_to_a_name_that_stands_for_a_private_address(caplog: pytest.LogCaptureFixture) -> None:
    source = S3Source(rules=HostRules(deny_private=True), timing=ONCE)
    async with Scripted().running() as store:
        endpoint = store.endpoint.replace("127.0.0.1", "localhost")
        error = await failure(lambda: source.resolve(a_bucket(endpoint), None), caplog, NEVER_SHOWN)
        assert (error.reason, error.retryable, store.asked) == ("ForbiddenAddress", False, [])


@pytest.mark.parametrize(("allowed", "signed"), [((), False), (("127.0.0.1",), True)])
async def test_the_operator_s_own_role_goes_only_to_hosts_that_are_allowed_by_name(
    monkeypatch: pytest.MonkeyPatch, allowed: tuple[str, ...], signed: bool
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAOFTHEOPERATOR")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "its-secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "its-token")
    source = S3Source(rules=HostRules(allowed), timing=ONCE)
    async with Scripted(403, said("AccessDenied")).running() as store:
        with pytest.raises(SourceError):
            await source.resolve(a_bucket(store.endpoint, credentials=None), None)
        ((_, headers),) = store.asked
    assert ("its-token" in str(headers)) is signed and ("Authorization" in headers) is signed


@pytest.mark.parametrize(
    "item", ["", "<Key>prefix/a/adapter_config.json</Key>", "<Size>5</Size>", "<Key/><Size>5</Size>"]
)
async def test_entries_that_no_store_lists_count_for_nothing(once: S3Source, item: str) -> None:
    page = f"<ListBucketResult><Name>bucket</Name><Contents>{item}</Contents></ListBucketResult>"
    async with Scripted(200, page).running() as store:
        assert await once.resolve(a_bucket(store.endpoint), None) == Resolution()


async def test_a_loop_of_pages_ends(once: S3Source, caplog: pytest.LogCaptureFixture) -> None:
    more = "<IsTruncated>true</IsTruncated><NextContinuationToken>x</NextContinuationToken>"
    page = f"<ListBucketResult>{more}</ListBucketResult>"
    async with Scripted(200, page).running() as store:
        error = await failure(lambda: once.resolve(a_bucket(store.endpoint), None), caplog, NEVER_SHOWN)
    assert error.reason == "UnexpectedAnswer"


@pytest.fixture
def a_user(s3_server: S3Server) -> Iterator[dict[str, str]]:
    """Keys of a user who has no rights yet, at a store that asks for them."""
    iam = botocore.session.Session().create_client(
        "iam",
        endpoint_url=s3_server.endpoint,
        region_name="us-east-1",
        aws_access_key_id="x",
        aws_secret_access_key="x",
    )
    s3_server.client.create_bucket(Bucket="guarded")
    iam.create_user(UserName="reader")
    key = iam.create_access_key(UserName="reader")["AccessKey"]
    s3_server.enforce_rights(0)
    yield {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}
    s3_server.enforce_rights(10**9)
    iam.delete_access_key(UserName="reader", AccessKeyId=key["AccessKeyId"])
    iam.delete_user(UserName="reader")
    iam.close()


@only_moto
async def test_wrong_keys_and_missing_rights_at_a_store_that_checks_them(
    s3_server: S3Server, once: S3Source, caplog: pytest.LogCaptureFixture, a_user: dict[str, str]
) -> None:
    async def refused(**changes: str) -> str:
        secret = Credentials(tuple((a_user | changes).items()))
        request = a_bucket(s3_server.endpoint, "guarded", credentials=secret)
        hidden = [a_user["AWS_SECRET_ACCESS_KEY"], "wrong-secret"]
        return (await failure(lambda: once.resolve(request, None), caplog, hidden)).reason

    assert await refused() == "AccessDenied"
    assert await refused(AWS_SECRET_ACCESS_KEY="wrong-secret") == "AuthenticationFailed"
    assert await refused(AWS_ACCESS_KEY_ID="AKIANOBODY") == "AuthenticationFailed"


@only_real
@pytest.mark.parametrize(
    ("wrong", "advice"),
    [
        ({"AWS_ACCESS_KEY_ID": "AKIANOBODY0000000000"}, "AWS_ACCESS_KEY_ID"),
        ({"AWS_SECRET_ACCESS_KEY": "wrong-secret"}, "AWS_SECRET_ACCESS_KEY"),
        ({"AWS_SESSION_TOKEN": "wrong-token"}, "AWS_SESSION_TOKEN"),
    ],
)
async def test_a_real_server_refuses_keys_in_words_that_are_understood(
    s3_server: S3Server, once: S3Source, caplog: pytest.LogCaptureFixture, wrong: dict[str, str], advice: str
) -> None:
    s3_server.put("guarded", {"x": b"x"})
    secret = Credentials(tuple((KEYS | wrong).items()))
    request = a_bucket(s3_server.endpoint, "guarded", credentials=secret)
    error = await failure(lambda: once.resolve(request, None), caplog, ["wrong-secret", "wrong-token"])
    assert (error.reason, error.retryable) == ("AuthenticationFailed", False)
    assert advice in error.message


def test_nothing_secret_is_in_a_repr() -> None:
    request = a_bucket("http://x")
    assert not any(secret in repr(request) + json.dumps(str(request)) for secret in NEVER_SHOWN)
