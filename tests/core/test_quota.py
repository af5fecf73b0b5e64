"""Quotas refuse what is beyond them with the sums, take nothing away, and cannot be got around."""

from __future__ import annotations

import pytest

from lora_operator.api.quota import Claim, Quota, Quotas, parse_quota, settle
from lora_operator.desired.adapters import desired
from lora_operator.desired.quota_enforcement import enforce_quotas
from lora_operator.informers import quotas as module
from lora_operator.informers.quotas import NamespaceQuotas
from tests.core.api_server import an_api_server
from tests.core.builders import a_resource, a_source, found
from tests.core.test_keys_and_nodes import until


def a_claim(key: str, namespace: str = "ns", owner: str | None = None, size: int = 10, there: bool = False) -> Claim:
    return Claim(key, namespace, owner, size, there)


def test_the_claim_beyond_the_number_is_refused_with_the_sums() -> None:
    refused, uses = settle([a_claim("a"), a_claim("b"), a_claim("c")], Quotas({"ns": Quota(adapters=2)}))
    assert list(refused) == ["c"] and "has 2 adapters and may have 2" in refused["c"]
    assert str(uses["namespace ns"]) == "namespace ns uses 2 of 2 adapters" and uses["namespace ns"].share == 1.0


def test_a_smaller_claim_still_fits_beside_one_that_is_too_large() -> None:
    quotas = Quotas({"*": Quota(size_bytes=25)})
    refused, uses = settle([a_claim("a"), a_claim("big", size=16), a_claim("c", size=15)], quotas)
    assert list(refused) == ["big"] and "this has 16 bytes, and namespace ns has 10 of the 25" in refused["big"]
    assert uses["namespace ns"].size_bytes == 25


def test_what_was_accepted_stays_when_the_quota_shrinks() -> None:
    claims = [a_claim("new"), a_claim("a", there=True), a_claim("b", there=True)]
    refused, uses = settle(claims, Quotas({"ns": Quota(adapters=1)}))
    assert list(refused) == ["new"] and uses["namespace ns"].share == 2.0


def test_an_owner_is_held_to_its_quota_within_the_namespace_and_to_that_of_the_namespace() -> None:
    quotas = Quotas({"ns": Quota(adapters=3), "team": Quota(adapters=1)})
    claims = [a_claim("a", owner="team"), a_claim("b", owner="team"), a_claim("c", owner="free"), a_claim("d")]
    refused, _ = settle([*claims, a_claim("e"), a_claim("f", "other", "team")], quotas)
    assert list(refused) == ["b", "e"]
    assert "owner team in namespace ns" in refused["b"] and "namespace ns has 3" in refused["e"]


def test_a_config_map_only_takes_away() -> None:
    given = {"ns": Quota(5, 100)}
    assert Quotas(given, {"ns": Quota(9, 50)}).of_namespace("ns") == Quota(5, 50)
    assert Quotas({}, {"ns": Quota(9)}).of_namespace("ns") == Quota(9)


@pytest.mark.parametrize("text", ["", "ns", "=adapters:1", "ns=adapter:1", "ns=adapters:-1", "ns=bytes:many", "ns="])
def test_a_quota_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_quota(text)


def test_reads_quotas_as_people_write_them() -> None:
    assert parse_quota("ns=adapters:20,bytes:50Gi") == ("ns", Quota(20, 50 << 30))
    assert parse_quota("*=bytes:1k") == ("*", Quota(None, 1000))


def test_what_is_beyond_a_quota_is_rejected_and_the_rest_stays_wanted() -> None:
    resource = a_resource()
    all_ = desired([resource], {resource.key: a_source(resource, found("a"), found("b"))})
    some, _ = enforce_quotas(all_, Quotas({"ns": Quota(adapters=1)}))
    assert list(some.adapters) == ["ns/la/a"] and some.by_name("ns", "b") is None
    (rejected,) = some.resources["ns/la"].rejected
    assert (rejected.name, rejected.code) == ("b", "QuotaExceeded")
    assert enforce_quotas(all_, Quotas())[0] is all_
    accepted = a_resource(status={"adapters": [{"name": "b"}]})
    wanted = desired([accepted], {accepted.key: a_source(accepted, found("a"), found("b"))})
    assert list(enforce_quotas(wanted, Quotas({"ns": Quota(adapters=1)}))[0].adapters) == ["ns/la/b"]


class Told:
    def __init__(self) -> None:
        self.events: list[str] = []

    def emit(self, resource: object, kind: str, reason: str, message: str) -> None:
        self.events.append(f"{kind} {reason} {message}")


async def test_a_config_map_of_the_namespace_is_read_and_a_quota_nearly_used_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "AGAIN_SECONDS", 0.01)
    path = "/api/v1/namespaces/ns/configmaps/lora-operator-quota"
    async with an_api_server() as api:
        told = Told()
        quotas = NamespaceQuotas(api.kube, {"ns": Quota(adapters=10)}, told, lambda: None)  # type: ignore[arg-type]
        resource = a_resource()
        assert quotas.sync_targets([resource]).of_namespace("ns") == Quota(10)
        api.objects[path] = {"data": {"adapters": "5"}}
        await until(lambda: quotas.sync_targets([resource]).of_namespace("ns") == Quota(5))
        api.objects[path] = {"data": {"adapters": "many"}}
        await until(lambda: quotas.sync_targets([resource]) and "write a whole number" in caplog.text)
        assert quotas.sync_targets([resource]).of_namespace("ns") == Quota(5)
        claims = [a_claim(str(number)) for number in range(4)]
        _, uses = settle(claims, quotas.sync_targets([resource]))
        quotas.warn(uses, [resource])
        assert told.events == ["Warning QuotaNearlyUsed namespace ns uses 4 of 5 adapters"]
        quotas.warn(settle(claims[:3], quotas.sync_targets([resource]))[1], [resource])
        assert len(told.events) == 1
        await quotas.stop()
