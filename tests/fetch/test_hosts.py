"""Which URLs may be asked, name by name and address by address."""

from __future__ import annotations

import socket
from dataclasses import replace

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from e2e.stores.proxy import Fault
from lora_operator.fetch.addresses import as_address, is_metadata, is_private
from lora_operator.fetch.errors import FetchError
from lora_operator.fetch.hosts import HostRules
from lora_operator.fetch.manifest import Link
from lora_operator.fetch.resolver import CheckedResolver
from tests.fetch.ordered import WEIGHTS_URL, Case, an_order

PUBLIC = ("8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8")
PRIVATE = (
    "10.0.0.1", "127.0.0.1", "192.168.1.1", "172.16.0.1", "100.64.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255",
    "::1", "::", "fc00::1", "ff02::1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::",
)  # fmt: skip
METADATA = ("169.254.169.254", "fd00:ec2::254", "100.100.100.200", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe",
    "fe80::1", "168.63.129.16", "2002:a9fe:a9fe::1")  # fmt: skip


def refusal(rules: HostRules, url: str) -> str:
    try:
        rules.check(url)
    except FetchError as error:
        assert not error.retryable
        return error.reason
    return ""


def shown(address: str) -> str:
    return f"[{address}]" if ":" in address else address


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_public(address: str) -> None:
    assert refusal(HostRules(deny_private=True), f"http://{shown(address)}/x") == ""


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_denied_where_the_rules_say_so(address: str) -> None:
    assert refusal(HostRules(deny_private=True), f"http://{shown(address)}/x") == "ForbiddenAddress"
    assert refusal(HostRules(), f"http://{shown(address)}/x") == ""
    assert not is_metadata(as_address(address))  # type: ignore[arg-type]


@pytest.mark.parametrize("address", METADATA)
def test_addresses_that_hand_out_credentials_are_always_denied(address: str) -> None:
    assert refusal(HostRules(private=(address,)), f"http://{shown(address)}/x") == "ForbiddenAddress"
    assert is_private(as_address(address)) or address == "168.63.129.16"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "url",
    ["ftp://a/x", "file:///etc/passwd", "//a/x", "http:///x", "http://[::1/x", "data:,x", "", "http:"],
)
def test_what_is_no_url_of_a_known_scheme_is_refused(url: str) -> None:
    assert refusal(HostRules(), url) == "ForbiddenUrl"


def test_only_allowed_hosts_are_asked_where_some_are_named() -> None:
    rules = HostRules(allowed=("*.example.com", "Files.local"))
    assert [refusal(rules, f"https://{host}/x") for host in ("a.example.com", "FILES.local.", "files.local:8080")] == [
        "", "", ""]  # fmt: skip
    for host in ("example.com", "aexample.com", "a.example.com.evil.org", "evil.org", "a.example.com@evil.org"):
        assert refusal(rules, f"https://{host}/x") == "ForbiddenUrl"


def test_named_hosts_may_be_private_all_the_same() -> None:
    rules = HostRules(deny_private=True, private=("minio.storage.svc",))
    address = as_address("10.0.0.7")
    assert address is not None
    rules.check_address("minio.storage.svc", address)
    with pytest.raises(FetchError):
        rules.check_address("other.storage.svc", address)


class Rebinding(AbstractResolver):
    """A name that stands for a public address at first, and for loopback from then on."""

    def __init__(self) -> None:
        self.asked = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked += 1
        address = "8.8.8.8" if self.asked == 1 else "127.0.0.1"
        return [ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)]

    async def close(self) -> None:
        return


async def test_every_answer_of_a_name_that_changes_its_address_is_checked() -> None:
    resolver = CheckedResolver(HostRules(deny_private=True), Rebinding())
    assert [found["host"] for found in await resolver.resolve("turn.example", 80)] == ["8.8.8.8"]
    with pytest.raises(FetchError):
        await resolver.resolve("turn.example", 80)
    await resolver.close()


async def test_names_are_checked_by_the_address_that_is_connected_to(case: Case) -> None:
    link = Link(case.store.url(WEIGHTS_URL, host="localhost"))
    error = await case.failure(an_order(case.files, link), rules=HostRules(deny_private=True))
    assert (error.reason, error.retryable) == ("ForbiddenAddress", False)
    assert case.store.seen == []
    await case.fetch(an_order(case.files, link), rules=HostRules(deny_private=True, private=("localhost",)))
    assert case.whole


async def test_every_hop_of_a_redirect_is_checked(case: Case) -> None:
    case.store.always = Fault(redirect=case.store.url(WEIGHTS_URL, host="localhost"))
    error = await case.failure(rules=HostRules(allowed=("127.0.0.1",)))
    assert error.reason == "ForbiddenUrl"
    assert "localhost" in error.message


@pytest.mark.parametrize("host", ["2130706433", "127.1", "0x7f000001", "017700000001"])
async def test_other_spellings_of_an_address_do_not_get_around_the_rules(case: Case, host: str) -> None:
    link = replace(case.link, url=case.store.url(WEIGHTS_URL, host=host))
    error = await case.failure(an_order(case.files, link), rules=HostRules(deny_private=True))
    assert error.reason in ("ForbiddenAddress", "ForbiddenUrl", "HostNotFound")
    assert case.store.seen == []
