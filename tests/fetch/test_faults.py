"""Servers that break off, stall, corrupt, refuse or lie: what heals is waited out, the rest has a reason."""

from __future__ import annotations

import asyncio
import random
import socket
from contextlib import suppress
from dataclasses import replace

import pytest

from e2e.stores.proxy import Fault
from lora_operator.artifacts import WEIGHTS_FILE
from lora_operator.fetch.errors import FetchError
from lora_operator.fetch.manifest import Link
from tests.fetch.ordered import CHUNK, LIMITS, SECRET, STALL_SECONDS, WEIGHTS_URL, Case, an_order
from tests.fetch.tally import Tally

PASSING = {
    "cut": Fault(cut_after=CHUNK // 2),
    "cut before the first byte": Fault(cut_after=0),
    "stalls": Fault(stall_after=100),
    "stalls at once": Fault(stall_after=0),
    "says 503": Fault(status=503),
    "says 429": Fault(status=429, headers={"Retry-After": "0"}),
    "says 500": Fault(status=500),
    "is no HTTP": Fault(raw=b"\x00\x01garbage\r\n\r\n"),
    "closes": Fault(raw=b""),
}


@pytest.fixture(autouse=True)
def impatient(case: Case) -> None:
    case.limits = replace(LIMITS, stall_seconds=STALL_SECONDS)


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
async def test_goes_on_after_what_passes(case: Case, fault: Fault, ranges: bool) -> None:
    case.store.always = Fault(ranges=ranges)
    broken = replace(fault, ranges=ranges)
    case.store.script.extend([broken, Fault(ranges=ranges), broken])
    tally = Tally()
    await case.fetch(meter=tally)
    assert case.whole
    assert sum(tally.retries.values()) <= 2
    assert tally.ended == [""]


@pytest.mark.parametrize("encoding", ["aws-chunked", "x-gzip"])
async def test_what_a_store_calls_an_encoding_of_kept_bytes_arrives_as_it_is(case: Case, encoding: str) -> None:
    case.store.always = Fault(headers={"Content-Encoding": encoding})
    await case.fetch()
    assert case.whole


async def test_asks_only_for_what_is_missing_after_a_break(case: Case) -> None:
    case.store.script.extend([Fault(stall_after=1500), Fault(stall_after=100)])
    await case.fetch()
    assert case.whole
    assert [seen.range for seen in case.store.seen] == ["bytes=0-", "bytes=1500-", "bytes=1600-"]
    assert case.store.sent_bytes == len(case.files[WEIGHTS_FILE])


async def test_goes_on_for_ever_with_a_server_that_breaks_off_but_brings_something(case: Case) -> None:
    case.limits = replace(LIMITS, attempts=2, stall_seconds=STALL_SECONDS)
    case.store.always = Fault(stall_after=2 * CHUNK)
    await case.fetch()
    assert case.whole


async def test_gives_up_on_a_server_that_sends_a_byte_and_hangs_up(case: Case) -> None:
    case.store.always = Fault(stall_after=1)
    error = await case.failure()
    assert (error.reason, error.retryable) == ("Stalled", True)
    assert len(case.store.seen) < 60


FINAL = {
    "401": (Fault(status=401), "Unauthorized", False),
    "403": (Fault(status=403), "Forbidden", False),
    "404": (Fault(status=404), "NotFound", False),
    "410": (Fault(status=410), "NotFound", False),
    "405": (Fault(status=405), "RequestRefused", False),
    "412": (Fault(status=412), "SourceChanged", True),
    "416": (Fault(status=416), "SizeMismatch", True),
    "for ever 500": (Fault(status=500), "ServerError", True),
    "for ever 429": (Fault(status=429), "RateLimited", True),
    "for ever cut": (Fault(cut_after=0), "ConnectionLost", True),
    "for ever stalled": (Fault(stall_after=0), "Stalled", True),
    "not HTTP": (Fault(raw=b"SSH-2.0-OpenSSH_9.6\r\n"), "BadAnswer", True),
    "another tag": (Fault(tag='"other"'), "SourceChanged", True),
    "two terabytes": (Fault(announced=2 << 40, ranges=False), "SizeMismatch", True),
    "two terabytes in ranges": (Fault(size=2 << 40), "SizeMismatch", True),
    "shorter": (Fault(announced=100, ranges=False), "SizeMismatch", True),
    "encoded": (Fault(headers={"Content-Encoding": "zstd"}), "BadAnswer", False),
    "packed on the way": (Fault(headers={"Content-Encoding": "gzip"}, chunked=True, ranges=False), "BadAnswer", False),
    "a range of nothing": (Fault(headers={"Content-Range": "bytes 5-2/9"}), "BadAnswer", True),
    "another range": (Fault(headers={"Content-Range": "bytes 5-99/*"}), "BadAnswer", True),
    "a redirect to nowhere": (Fault(redirect=""), "RedirectLoop", False),
    "a redirect to a file": (Fault(redirect="file:///etc/passwd"), "ForbiddenUrl", False),
    "a redirect to what is no URL": (Fault(redirect="http://[::1/"), "ForbiddenUrl", False),
    "a redirect to metadata": (Fault(redirect="http://169.254.169.254/latest"), "ForbiddenAddress", False),
}


@pytest.mark.parametrize(("fault", "reason", "retryable"), FINAL.values(), ids=FINAL)
async def test_says_why_it_cannot_go_on(case: Case, fault: Fault, reason: str, retryable: bool) -> None:
    case.limits = replace(case.limits, attempts=3)
    case.store.always = fault
    tally = Tally()
    error = await case.failure(meter=tally)
    assert (error.reason, error.retryable) == (reason, retryable)
    assert "alpaca" in error.message
    assert tally.ended == [reason]


async def test_passes_on_how_long_a_server_wants_to_be_left_alone(case: Case) -> None:
    case.store.always = Fault(status=429, headers={"Retry-After": "120"})
    error = await case.failure()
    assert (error.reason, error.retry_after_seconds) == ("RateLimited", 120)
    assert len(case.store.seen) == 1


async def test_refuses_what_is_longer_than_it_should_be(case: Case) -> None:
    case.store.always = Fault(ranges=False, chunked=True)
    case.store.files[WEIGHTS_URL] = case.files[WEIGHTS_FILE] + b"x"
    error = await case.failure()
    assert (error.reason, error.retryable) == ("SizeMismatch", True)


async def test_refuses_other_content_of_the_same_size(case: Case) -> None:
    order = case.order
    case.store.files[WEIGHTS_URL] = case.files[WEIGHTS_FILE][::-1]
    error = await case.failure(order)
    assert (error.reason, error.retryable) == ("SourceChanged", True)


async def test_notices_that_the_content_changed_half_way_where_only_the_answers_tell(case: Case) -> None:
    order = an_order(case.files, replace(case.link, tag=""), sha256="")
    case.store.always = Fault(ranges=False)
    case.store.script.extend([Fault(ranges=False, stall_after=5000), Fault(ranges=False, tag='"other"')])
    error = await case.failure(order)
    assert error.reason == "SourceChanged"


async def test_takes_nothing_from_answers_that_hide_which_version_they_send(case: Case) -> None:
    case.store.always = Fault(tag="")
    order = an_order(case.files, case.link, sha256="")
    assert (await case.failure(order)).reason == "BadAnswer"
    await case.fetch()  # with a digest it does not matter
    assert case.whole


async def test_starts_from_nothing_where_nobody_can_tell_whether_the_content_changed(case: Case) -> None:
    order = an_order(case.files, replace(case.link, tag=""), sha256="")
    case.store.always = Fault(ranges=False, tag="")
    case.store.script.append(Fault(ranges=False, tag="", stall_after=5000))
    assert (await case.failure(order)).reason == "ConnectionLost"
    await case.fetch(order)
    assert case.whole


async def test_fetches_once_more_what_was_damaged_on_the_way(case: Case) -> None:
    case.store.script.append(Fault(corrupt_at=3000))
    tally = Tally()
    await case.fetch(meter=tally)
    assert case.whole
    assert sum(tally.retries.values()) == 1


async def test_gives_up_on_what_is_always_damaged(case: Case) -> None:
    case.store.always = Fault(corrupt_at=20_002)
    error = await case.failure()
    assert error.reason == "DigestMismatch"
    assert case.store.sent_bytes == 2 * len(case.files[WEIGHTS_FILE])


async def test_says_that_a_host_is_unknown(case: Case) -> None:
    error = await case.failure(an_order(case.files, Link(f"http://no-such-host.invalid/x?sig={SECRET}")))
    assert (error.reason, error.retryable) == ("HostNotFound", True)
    assert "no-such-host.invalid" in error.message


async def test_says_that_nobody_listens(case: Case) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        error = await case.failure(an_order(case.files, Link(f"http://127.0.0.1:{taken.getsockname()[1]}/x")))
    assert (error.reason, error.retryable) == ("ConnectionRefused", True)


async def test_says_that_a_server_does_not_speak_tls(case: Case) -> None:
    error = await case.failure(an_order(case.files, Link(case.store.url("/x").replace("http:", "https:"))))
    assert error.reason == "TlsFailed"


async def test_says_that_a_connection_is_not_accepted(case: Case) -> None:
    case.limits = replace(LIMITS, attempts=1, connect_seconds=0.05)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, socket.socket() as first, socket.socket() as second:
        for client in (first, second):  # fill the queue of a server that never takes one
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        error = await case.failure(an_order(case.files, Link(f"http://127.0.0.1:{full.getsockname()[1]}/x")))
    assert (error.reason, error.retryable) == ("ConnectTimedOut", True)


@pytest.mark.parametrize("seed", range(12))
async def test_any_mixture_of_faults_ends_in_the_whole_or_in_a_reason(case: Case, seed: int) -> None:
    numbers = random.Random(seed)
    passing = [Fault(), *PASSING.values(), Fault(corrupt_at=numbers.randrange(30_000))]
    case.store.script.extend(numbers.choices(passing, [8] + [1] * (len(passing) - 1), k=25))
    case.limits = replace(LIMITS, attempts=3, stall_seconds=0.05)
    for _ in range(20):
        with suppress(FetchError):  # any: a bit that is corrupted twice may make NaN of a number
            await case.fetch()
            break
    assert case.whole


async def test_a_cancelled_fetch_ends_and_can_be_taken_up_again(case: Case) -> None:
    case.store.script.append(Fault(stall_after=CHUNK // 2))
    case.limits = replace(LIMITS, stall_seconds=60)
    weights = case.into / WEIGHTS_FILE
    task = asyncio.create_task(case.fetch())
    while not weights.exists() or weights.stat().st_size < CHUNK // 2:  # noqa: ASYNC110 - the disk tells nobody
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await case.fetch()
    assert case.whole
    assert case.store.sent_bytes == len(case.files[WEIGHTS_FILE])


async def test_no_failure_shows_a_link(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    case.limits = replace(LIMITS, attempts=2, stall_seconds=0.05)
    link = replace(case.link, headers={"Authorization": f"Bearer {SECRET}"})
    nowhere = f"?sig={SECRET}&x=1"
    links = [
        link,
        *(
            replace(link, url=url + nowhere)
            for url in (
                "http://no.invalid/x",
                "ftp://host/x",
                f"http://u:{SECRET}@127.0.0.1:1/",
                "http://[bad",
                "https:",
            )
        ),
    ]
    faults = [fault for fault, _, _ in FINAL.values()] + [Fault(redirect=f"http://no.invalid/{nowhere}")]
    failures = [(link, fault) for fault in faults] + [(other, Fault()) for other in links[1:]]
    for link, fault in failures:
        case.store.always = fault
        error: BaseException | None = await case.failure(an_order(case.files, link))
        assert isinstance(error, FetchError)
        while error is not None:
            assert SECRET not in f"{error!r} {error} {getattr(error, 'message', '')}"
            error = error.__cause__ or error.__context__
    assert SECRET not in caplog.text
    assert not any(SECRET in name for name in (path.name for path in case.into.iterdir()))
