"""Links end while a fetch is under way: fresh ones are asked for, and nothing that came is lost."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from e2e.stores.proxy import Fault
from lora_operator.artifacts import WEIGHTS_FILE
from lora_operator.fetch.errors import FetchError
from lora_operator.fetch.manifest import FetchManifest, Link
from tests.fetch.ordered import CHUNK, LIMITS, SECRET, STALL_SECONDS, WEIGHTS_URL, Case, an_order


class Signer:
    """Gives orders whose links are let in, until `revoke`."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.given = 0
        case.store.accepted = {SECRET}

    def revoke(self) -> None:
        self.case.store.accepted = set()

    async def renew(self) -> FetchManifest:
        self.given += 1
        await asyncio.sleep(0)
        assert self.case.store.accepted is not None
        self.case.store.accepted.add(f"{SECRET}-{self.given}")
        return an_order(self.case.files, self.link(f"{SECRET}-{self.given}"))

    def link(self, sig: str) -> Link:
        return replace(self.case.link, url=self.case.store.url(WEIGHTS_URL, sig=sig))


async def test_goes_on_with_a_fresh_link_where_the_old_one_broke_off(case: Case) -> None:
    signer = Signer(case)
    case.store.script.append(Fault(stall_after=CHUNK))
    case.limits = replace(LIMITS, stall_seconds=STALL_SECONDS)
    task = asyncio.create_task(case.fetch(renew=signer.renew))
    while not case.store.seen:
        case.store.asked.clear()
        await case.store.asked.wait()
    signer.revoke()
    await task
    assert case.whole
    assert signer.given == 1
    assert case.store.sent_bytes == len(case.files[WEIGHTS_FILE])


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
async def test_takes_these_answers_for_an_old_link(case: Case, status: int) -> None:
    signer = Signer(case)
    case.store.script.extend([Fault(cut_after=CHUNK), Fault(status=status)])
    await case.fetch(renew=signer.renew)
    assert case.whole
    assert signer.given == 1


async def test_renews_a_link_shortly_before_it_ends(case: Case) -> None:
    signer = Signer(case)
    link = replace(case.link, expires_at=1010.0)
    await case.fetch(an_order(case.files, link), renew=signer.renew, clock=lambda: 1000.0)
    assert signer.given == 1
    assert {seen.query["sig"] for seen in case.store.seen} == {f"{SECRET}-1"}


async def test_uses_a_link_to_its_end_where_nobody_renews_it(case: Case) -> None:
    order = an_order(case.files, replace(case.link, expires_at=1010.0))
    await case.fetch(order, clock=lambda: 1000.0)
    assert case.whole


async def test_says_that_a_link_has_run_out(case: Case) -> None:
    order = an_order(case.files, replace(case.link, expires_at=1010.0))
    error = await case.failure(order, clock=lambda: 1010.0)
    assert (error.reason, error.retryable) == ("LinkExpired", True)
    assert case.store.seen == []


async def test_gives_up_where_fresh_links_are_refused_too(case: Case) -> None:
    signer = Signer(case)
    case.store.always = Fault(status=403)
    error = await case.failure(renew=signer.renew)
    assert (error.reason, error.retryable) == ("Forbidden", False)
    assert signer.given <= 3


async def test_refuses_a_renewed_order_for_other_content(case: Case) -> None:
    case.store.script.append(Fault(status=403))

    async def renew() -> FetchManifest:
        return replace(case.order, fingerprint="0" * 16)

    assert (await case.failure(renew=renew)).reason == "SourceChanged"


async def test_passes_on_why_links_cannot_be_renewed(case: Case) -> None:
    case.store.script.append(Fault(status=403))

    async def renew() -> FetchManifest:
        raise FetchError("AuthenticationFailed", "the Secret is gone", retryable=False)

    assert (await case.failure(renew=renew)).reason == "AuthenticationFailed"


async def test_headers_of_a_link_do_not_follow_a_redirect_to_another_host(case: Case) -> None:
    link = replace(case.link, headers={"Authorization": f"Bearer {SECRET}"})
    case.store.script.append(Fault(redirect=case.store.url(WEIGHTS_URL, host="localhost")))
    await case.fetch(an_order(case.files, link))
    assert case.whole
    assert ["Authorization" in seen.headers for seen in case.store.seen] == [True, False]
    assert all("Range" in seen.headers for seen in case.store.seen)


async def test_headers_of_a_link_follow_a_redirect_on_the_same_host(case: Case) -> None:
    link = replace(case.link, headers={"Authorization": f"Bearer {SECRET}"})
    case.store.script.append(Fault(redirect=WEIGHTS_URL))
    await case.fetch(an_order(case.files, link))
    assert ["Authorization" in seen.headers for seen in case.store.seen] == [True, True]


async def test_follows_five_redirects_and_no_more(case: Case) -> None:
    hops = [Fault(redirect=f"{WEIGHTS_URL}?hop={number}") for number in range(6)]
    case.store.script.extend(hops[:5])
    await case.fetch()
    assert case.whole
    (case.into / WEIGHTS_FILE).unlink()
    case.store.script.extend(hops)
    assert (await case.failure()).reason == "RedirectLoop"
